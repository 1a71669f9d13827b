//! The way back of a copy: unpacked beside its place and made whole there, or laid over the copy that it goes on from.

use std::{fs, io, path::Path};

use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    chunks::Chunks,
    must_have_completed,
    options::{self, OPTIONS},
    programs::Copiers,
    setting,
    standing::Told,
};
use crate::{
    process::Program,
    scratch,
    sources::mysql::{Failure, STATEMENT},
};

/// How much is handed to the program at once, bytes.
const CHUNK: usize = 128 * 1024;

pub(in super::super) type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// What there is at the place of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// A copy that was restored already.
    Copy,
}

/// Restores a copy to `folder`, which is new or empty; or what changed, over the copy that is there.
pub(in super::super) async fn restore(
    copiers: &Copiers,
    stream: Stream<'_>,
    folder: &Path,
) -> Result<String, Failure> {
    let found = look(folder)?;
    let parent = folder.parent().unwrap_or_else(|| Path::new("/"));
    let aside = scratch::folder_in(parent, ".backstay-").map_err(|error| refused(parent, &error))?;
    let unpacked = aside.path().join("copy");
    fs::create_dir(&unpacked).map_err(|error| refused(&unpacked, &error))?;
    let told = unpack(copiers, stream, &unpacked).await?;
    match (told.is_incremental(), found) {
        (false, Found::Nothing) => {
            prepare(copiers, &unpacked, None).await?;
            put_in_place(&unpacked, folder)?;
        }
        (true, Found::Copy) => {
            let failed = |failure: Failure| {
                let why = failure.reason();
                Failure::Refused(format!("{why}; what is in {} is incomplete: remove it", folder.display()))
            };
            prepare(copiers, folder, Some(&unpacked)).await.map_err(failed)?;
            durable(folder)?;
        }
        (false, Found::Copy) => return Err(refused(folder, &"it is not empty")),
        (true, Found::Nothing) => {
            let why = "only changes were captured, and what they are changes of is not there";
            return Err(refused(folder, &why));
        }
    }
    Ok(format!("{}: a data folder, on which mariadbd starts", folder.display()))
}

/// Whether a folder is a copy that was restored.
pub(in super::super) fn is_copy(folder: &Path) -> bool {
    folder.join(OPTIONS).is_file()
}

fn refused(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Refused(format!("{}: {why}", path.display()))
}

fn look(folder: &Path) -> Result<Found, Failure> {
    let is_folder = match folder.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(refused(folder, &error)),
        Ok(found) => found.is_dir(),
    };
    if !is_folder {
        return Err(refused(folder, &"it exists, and is no folder"));
    }
    match fs::read_dir(folder).map_err(|error| refused(folder, &error))?.next() {
        None => Ok(Found::Nothing),
        Some(_) if is_copy(folder) => Ok(Found::Copy),
        Some(_) => Err(refused(folder, &"it is not empty")),
    }
}

/// Unpacks a stream, each part of which was looked at before the program gets it.
async fn unpack(copiers: &Copiers, stream: Stream<'_>, folder: &Path) -> Result<Told, Failure> {
    let program = Program::new(&copiers.unpack).argument("-x").folder(folder).stall(STATEMENT);
    let mut program = program.discard_output().start()?;
    let mut chunks = Chunks::default();
    let mut piece = vec![0; CHUNK];
    loop {
        match stream.read(&mut piece).await.map_err(Failure::Stream)? {
            0 => break,
            length => {
                chunks.look(&piece[..length])?;
                program.write(&piece[..length]).await?;
            }
        }
    }
    program.finish().await?;
    let small = chunks.end()?;
    options::must_only_describe(&small)?;
    Told::read(&small)
}

/// Applies the log that a copy carries, and the pages of `changes`.
async fn prepare(copiers: &Copiers, folder: &Path, changes: Option<&Path>) -> Result<(), Failure> {
    // First by the program's own rule: settings of servers on this host are no affair of the copy's.
    let program = Program::new(&copiers.copy).argument("--no-defaults").argument("--prepare");
    let program = program.argument(setting("--target-dir=", folder)).stall(STATEMENT).discard_output();
    let changes = changes.map(|changes| setting("--incremental-dir=", changes));
    let program = changes.into_iter().fold(program, Program::argument);
    let mut program = program.start()?;
    program.close_input();
    must_have_completed(&program.last_words().await?)
}

/// Shows a whole copy at its place, which is new or empty still.
fn put_in_place(unpacked: &Path, folder: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(unpacked, fs::Permissions::from_mode(0o700))
        .map_err(|error| refused(unpacked, &error))?;
    durable(unpacked)?;
    // An empty folder is replaced; anything else in the place is an error.
    fs::rename(unpacked, folder).map_err(|error| refused(folder, &error))?;
    durable(folder.parent().unwrap_or_else(|| Path::new("/")))
}

fn durable(folder: &Path) -> Result<(), Failure> {
    let opened = fs::File::open(folder).map_err(|error| refused(folder, &error))?;
    rustix::fs::syncfs(&opened).map_err(|error| refused(folder, &error))
}
