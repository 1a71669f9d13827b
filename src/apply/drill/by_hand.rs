//! A restore into a sandbox by the very lines that runbooks print, with the kit's script and the engines' own programs: so that they
//! cannot rot.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use age::secrecy::ExposeSecret as _;
use tokio::io::AsyncReadExt as _;

use super::{Halted, Means, Order};
use crate::{
    artifact::{ArtifactId, Manifest, layout::ObjectName, manifest::Content},
    committed::{BackupFolder, LONGEST_MANIFEST, LONGEST_SIGNATURE},
    keys::Keys,
    kit,
    plan::by_hand::{self, Hand, Line, Place},
    process::Program,
    sandboxes::Sandbox,
};

use Length::{AtMost, Exactly};

/// The longest silence of a program.
const SILENCE: Duration = Duration::from_secs(1800);

/// How much of a file a program is fed at once, bytes.
const CHUNK: usize = 256 * 1024;

/// How much of what a program prints is kept, bytes.
const PRINTED: usize = 1 << 20;

/// How much of an object is fetched at once, bytes.
const FETCHED: u64 = 32 << 20;

/// The folder in a sandbox that the kit and what is fetched lie in.
const FOLDER: &str = "hand";

/// Fetches the objects of the artifacts, brings them out by the kit's script, and loads what comes out by the engine's programs.
pub(super) async fn load(order: &Order<'_>, sandbox: &dyn Sandbox, means: &Means<'_>) -> Result<(), Halted> {
    let Some(source) = sandbox.by_hand() else {
        return Err(Halted::CouldNotRun("nothing tells how this source is restored by hand".to_owned()));
    };
    let kit = sandbox.folder().join(FOLDER);
    let place = lay_out(&kit, means.keys).map_err(cannot)?;
    for manifest in order.manifests {
        fetch(means.folder, manifest, Path::new(&place.store)).await?;
    }
    let Some(point) = order.manifests.last() else {
        return Err(Halted::CouldNotRun("no artifact was named".to_owned()));
    };
    let (fleet, backup) = (&means.folder.fleet, &means.folder.backup);
    let brought_out = run(&by_hand::bring(&place, fleet, backup, point.artifact)).await;
    // Nothing of what was restored may run, or be asked by a program, while what decrypts lies beside it.
    fs::remove_file(&place.identity).map_err(cannot)?;
    brought_out?;
    let files = brought(Path::new(&place.out)).map_err(cannot)?;
    fs::create_dir_all(sandbox.files()).map_err(cannot)?;
    let mut is_loaded = false;
    for hand in by_hand::load(source, &files, &sandbox.files().to_string_lossy()) {
        if let Hand::Type(line) = hand {
            run(&line).await?;
            is_loaded = true;
        }
    }
    fs::remove_dir_all(&kit).map_err(cannot)?;
    match is_loaded {
        true => Ok(()),
        false => Err(Halted::CouldNotRun("nothing tells how this source is restored by hand".to_owned())),
    }
}

fn cannot(error: impl ToString) -> Halted {
    Halted::CouldNotRun(error.to_string())
}

/// The kit, the identity, and a folder for what is fetched: all private.
fn lay_out(kit: &Path, keys: &Keys) -> io::Result<Place> {
    DirBuilder::new().mode(0o700).create(kit)?;
    let path = |name: &str| kit.join(name).to_string_lossy().into_owned();
    let place = Place {
        script: path("restore.sh"),
        signers: path("allowed_signers"),
        identity: path("identity.txt"),
        store: path("store"),
        out: path("out"),
    };
    write(&place.script, kit::RESTORE_SCRIPT.as_bytes())?;
    write(&place.signers, kit::allowed_signers(&keys.trusted_keys()).as_bytes())?;
    let identities = keys.identities().iter().map(|identity| identity.to_string());
    let lines: zeroize::Zeroizing<String> =
        identities.fold(String::new(), |all, secret| all + secret.expose_secret() + "\n").into();
    write(&place.identity, lines.as_bytes())?;
    Ok(place)
}

fn write(path: &str, content: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(content)
}

/// Fetches what an artifact names: its manifest, its index and its packs.
async fn fetch(folder: &BackupFolder, manifest: &Manifest, store: &Path) -> Result<(), Halted> {
    let id: ArtifactId = manifest.artifact;
    let Content::Segments(segments) = &manifest.content else {
        return Err(Halted::CouldNotRun("it is a provider's own snapshot".to_owned()));
    };
    let mut objects = vec![
        (folder.manifest(id), AtMost(LONGEST_MANIFEST)),
        (folder.signature(id), AtMost(LONGEST_SIGNATURE)),
        (folder.index(id), Exactly(segments.index.size)),
    ];
    objects.extend(segments.packs.iter().map(|(pack, stored)| (folder.pack(*pack), Exactly(stored.size))));
    for (object, length) in objects {
        fetch_object(folder, &object, length, &store.join(object.as_str())).await?;
    }
    Ok(())
}

/// How long an object may be, bytes: what a store says of it is not believed.
#[derive(Clone, Copy)]
enum Length {
    Exactly(u64),
    AtMost(u64),
}

impl Length {
    fn allows(self, size: u64) -> bool {
        match self {
            Exactly(length) => size == length,
            AtMost(length) => size <= length,
        }
    }
}

async fn fetch_object(
    folder: &BackupFolder,
    object: &ObjectName,
    length: Length,
    path: &Path,
) -> Result<(), Halted> {
    if path.exists() {
        return Ok(());
    }
    let store = &folder.store;
    let size = store.stat(object).await.map_err(Halted::Store)?.map(|stat| stat.size);
    let Some(size) = size else {
        return Err(Halted::Failed("what it names is not in the store", format!("{object} is missing")));
    };
    if !length.allows(size) {
        let why = format!("{object} has {size} bytes, which is not what it should have");
        return Err(Halted::Failed("what it names is not in the store as it was written", why));
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(cannot)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(cannot)?;
    let mut offset = 0;
    while offset < size {
        let end = size.min(offset + FETCHED);
        let piece = store.get(object, Some(offset..end), FETCHED).await.map_err(Halted::Store)?;
        file.write_all(&piece).map_err(cannot)?;
        offset = end;
    }
    Ok(())
}

/// What came out, in the order in which it is applied.
fn brought(out: &Path) -> io::Result<Vec<String>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(out)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
}

/// Runs a line to its successful end.
async fn run(line: &Line) -> Result<(), Halted> {
    let Some((name, arguments)) = line.program.split_first() else { return Ok(()) };
    let program = Program::new(name).arguments(arguments).stall(SILENCE);
    let ran = match &line.input {
        None => program.output(&[], PRINTED).await.map(drop).map_err(|error| error.to_string()),
        Some(file) => fed(program, Path::new(file)).await,
    };
    ran.map_err(|why| Halted::Failed("a command of the runbook failed", format!("{line}: {why}")))
}

async fn fed(program: Program, file: &Path) -> Result<(), String> {
    let mut file = tokio::fs::File::open(file).await.map_err(|error| error.to_string())?;
    let mut process = program.discard_output().start().map_err(|error| error.to_string())?;
    let mut piece = vec![0; CHUNK];
    loop {
        match file.read(&mut piece).await.map_err(|error| error.to_string())? {
            0 => break,
            length => process.write(&piece[..length]).await.map_err(|error| error.to_string())?,
        }
    }
    process.close_input();
    process.finish().await.map_err(|error| error.to_string())
}
