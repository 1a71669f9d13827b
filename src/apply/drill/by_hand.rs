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
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use super::{
    super::{room, stream},
    Halted, Means, Order,
};
use crate::{
    artifact::{ArtifactId, Manifest, layout::ObjectName, manifest::Content},
    committed::{BackupFolder, LONGEST_MANIFEST, LONGEST_SIGNATURE},
    keys::Keys,
    kit,
    plan::by_hand::{
        self, Brought, Folders, Hand, Line, MadeByHand, Place, Stored,
        load::load,
        replay::{Restored, replay},
    },
    process::{Input, Process, ProcessError, Program},
    sandboxes::{ByHand, Sandbox, home::Home},
    spec,
};

use Length::{AtMost, Exactly};

/// The longest silence of a program. Of one that neither reads nor writes a file nothing else is heard until its end, so that it must do
/// for all of its work.
const SILENCE: Duration = Duration::from_secs(6 * 3600);

/// How much of a file a program is fed at once, bytes.
const CHUNK: usize = 256 * 1024;

/// How much of an object is fetched at once, bytes.
const FETCHED: u64 = 32 << 20;

/// How much longer than a binary log the statements are that it is printed as: rows are written in base64, and there are two files.
const AS_STATEMENTS: u64 = 6;

/// How many bytes there must be free beside the sandbox for what is fetched, and for the streams, which are brought out whole before
/// anything is loaded.
pub(super) fn room(order: &Order<'_>, sandbox: &dyn Sandbox) -> u64 {
    let all = || order.manifests.iter().chain(order.logs);
    let logs = room::length(order.logs.iter());
    let unpacked = match sandbox.by_hand().map(|by_hand| by_hand.stands_for) {
        Some(spec::Source::Mysql(_)) => logs.saturating_mul(1 + AS_STATEMENTS),
        // What was brought out is unpacked, or a shard put together, which may be all that there is.
        Some(spec::Source::Influxdb(_) | spec::Source::Influxdb2(_)) => room::length(order.manifests.iter()),
        _ => 0,
    };
    room::length(all()).saturating_add(room::stored(all())).saturating_add(unpacked)
}

/// What was brought out by hand, in a folder that nothing of it can come to once it runs.
pub(super) struct Hands {
    home: Home,
    /// Files that are restored lie there.
    files: PathBuf,
    data: Vec<Brought>,
    logs: Vec<Brought>,
}

impl Hands {
    /// Fetches the objects of the artifacts, brings them out by the kit's script, and loads the data by the engine's programs.
    pub(super) async fn load(
        order: &Order<'_>,
        sandbox: &mut dyn Sandbox,
        means: &Means<'_>,
    ) -> Result<Self, Halted> {
        sandbox.prepare_by_hand().await?;
        let ByHand { stands_for, login, .. } = by_hand(sandbox)?;
        let hands = Self::bring(order, sandbox, means).await?;
        let folders = hands.folders();
        if let Some(login) = login {
            write(&folders.login, login.expose().as_bytes()).map_err(cannot)?;
        }
        let loading = load(stands_for, &hands.data, &folders).map_err(cannot)?;
        do_all(&loading, &hands.home).await?;
        if let Some(newest) = hands.data.last() {
            sandbox.loaded_by_hand(Path::new(&newest.file))?;
        }
        Ok(hands)
    }

    /// Replays the logs over what was loaded, by the engine's programs.
    pub(super) async fn replay(self, order: &Order<'_>, sandbox: &dyn Sandbox) -> Result<(), Halted> {
        let ByHand { stands_for, .. } = by_hand(sandbox)?;
        let restored = Restored { data: &self.data, logs: &self.logs, until: order.until };
        do_all(&replay(stands_for, &restored, &self.folders()).map_err(cannot)?, &self.home).await
    }

    async fn bring(order: &Order<'_>, sandbox: &dyn Sandbox, means: &Means<'_>) -> Result<Self, Halted> {
        let Some(point) = order.manifests.last() else {
            return Err(Halted::CouldNotRun("no artifact was named".to_owned()));
        };
        let by_hand = by_hand(sandbox)?;
        let home = by_hand.beside()?;
        let files = by_hand.folder.map_or_else(|| home.join("files"), Path::to_owned);
        let place = lay_out(&home, means.keys).map_err(cannot)?;
        for manifest in order.manifests.iter().chain(order.logs) {
            fetch(means.folder, manifest, Path::new(&place.store)).await?;
        }
        let (fleet, backup) = (&means.folder.fleet, &means.folder.backup);
        let logs: Vec<ArtifactId> = order.logs.iter().map(|log| log.artifact).collect();
        let bring = by_hand::bring(&place, fleet, backup, point.artifact, &logs);
        let brought_out = run(&bring, &home).await;
        // Nothing of what was restored may run, or be asked by a program, while what decrypts lies beside it.
        fs::remove_file(&place.identity).map_err(cannot)?;
        brought_out?;
        fs::remove_dir_all(&place.store).map_err(cannot)?;
        let all = order.manifests.iter().chain(order.logs).map(|manifest| stored(manifest, means.keys));
        let mut data = by_hand::brought(&place.out, all);
        let logs = data.split_off(order.manifests.len());
        Ok(Self { home, files, data, logs })
    }

    fn folders(&self) -> Folders {
        let path = |name: &str| self.home.join(name).to_string_lossy().into_owned();
        Folders {
            data: self.files.to_string_lossy().into_owned(),
            log: path("log"),
            prepared: path("prepared"),
            login: path("login"),
        }
    }
}

/// What a manifest tells of an artifact to who brings it out by hand; whose server it is of, where the keys can read that.
pub fn stored(manifest: &Manifest, keys: &Keys) -> Stored {
    let sealed = stream::sealed(manifest, keys).ok().flatten();
    let server = sealed.and_then(|sealed| sealed.details.versions.get("server").cloned());
    let stream = match &manifest.content {
        Content::Segments(segments) => segments.stream.clone(),
        Content::Native { reference, .. } => reference.clone(),
    };
    Stored { stream, moment: manifest.moment.clone(), server }
}

fn by_hand(sandbox: &dyn Sandbox) -> Result<ByHand<'_>, Halted> {
    let untold = "nothing tells how this source is restored by hand";
    sandbox.by_hand().ok_or_else(|| Halted::CouldNotRun(untold.to_owned()))
}

fn cannot(error: impl ToString) -> Halted {
    Halted::CouldNotRun(error.to_string())
}

/// The kit, the identity, and a folder for what is fetched: all private.
fn lay_out(home: &Home, keys: &Keys) -> io::Result<Place> {
    let path = |name: &str| home.join(name).to_string_lossy().into_owned();
    let place = Place {
        script: path("restore.sh"),
        signers: path("allowed_signers"),
        identity: path("identity.txt"),
        store: path("store"),
        out: path("out"),
    };
    DirBuilder::new().mode(0o700).create(&place.store)?;
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

/// Puts the files there that are needed, and runs what is typed, in its order. Where nothing is typed, nothing comes back.
async fn do_all(MadeByHand { files, hands }: &MadeByHand, home: &Home) -> Result<(), Halted> {
    if !hands.iter().any(|hand| matches!(hand, Hand::Type(_))) {
        return Err(Halted::CouldNotRun("no command tells how this source is restored by hand".to_owned()));
    }
    for file in files {
        write(&file.path, file.content.as_bytes()).map_err(cannot)?;
    }
    for hand in hands {
        if let Hand::Type(line) = hand {
            run(line, home).await?;
        }
    }
    Ok(())
}

/// Runs a line to its successful end. What it puts aside goes with `home`, for which there is room: scripts put all of a stream there.
async fn run(line: &Line, home: &Home) -> Result<(), Halted> {
    let Some((name, arguments)) = line.program.split_first() else { return Ok(()) };
    let program = Program::new(name).arguments(arguments).variable("TMPDIR", home.path()).stall(SILENCE);
    match between_files(program, line).await {
        Ok(()) => Ok(()),
        // Nothing is known of the data then.
        Err(Broken::Program(error @ ProcessError::Missing { .. })) => Err(cannot(error)),
        Err(Broken::Program(error @ (ProcessError::Stalled { .. } | ProcessError::TimedOut { .. }))) => {
            Err(Halted::CouldNotRun(format!("{line}: {error}")))
        }
        Err(Broken::Program(error)) => {
            Err(Halted::Failed("a command of the runbook failed", format!("{line}: {error}")))
        }
        Err(Broken::File(error)) => Err(Halted::CouldNotRun(format!("{line}: {error}"))),
    }
}

/// Why a line did not come to its successful end.
enum Broken {
    Program(ProcessError),
    File(io::Error),
}

impl From<ProcessError> for Broken {
    fn from(error: ProcessError) -> Self {
        Broken::Program(error)
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Broken::File(error)
    }
}

/// Runs a program that reads the file that its line names, and writes the other.
async fn between_files(program: Program, line: &Line) -> Result<(), Broken> {
    let mut process = match &line.output {
        Some(_) => program,
        None => program.discard_output(),
    }
    .start()?;
    let input = process.take_input();
    // What can't be fed ends nothing: why a program read no more its own end tells.
    let fed = async {
        Ok(match &line.input {
            Some(file) => feed(input, Path::new(file)).await,
            None => Ok(()),
        })
    };
    let written = async {
        match &line.output {
            Some(file) => keep(&mut process, Path::new(file)).await,
            None => Ok(()),
        }
    };
    let ended = tokio::try_join!(fed, written);
    match ended {
        Ok((fed, ())) => {
            process.finish().await?;
            // One that ended well without all of it has not done what it should.
            fed
        }
        // What nobody takes any more, as where the disk is full, a program would wait with for ever.
        Err(broken) => {
            process.stop().await;
            Err(broken)
        }
    }
}

async fn feed(input: Option<Input>, path: &Path) -> Result<(), Broken> {
    let Some(mut input) = input else { return Ok(()) };
    let mut file = tokio::fs::File::open(path).await?;
    let mut piece = vec![0; CHUNK];
    loop {
        match file.read(&mut piece).await? {
            0 => return Ok(()),
            length => match timeout(SILENCE, input.write(&piece[..length])).await {
                Ok(written) => written?,
                Err(_) => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            },
        }
    }
}

async fn keep(process: &mut Process, path: &Path) -> Result<(), Broken> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).await?;
    while let Some(bytes) = process.read().await? {
        file.write_all(&bytes).await?;
    }
    file.flush().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_whose_output_can_not_be_kept_is_ended() {
        let line = Line::of(["cat"]).reading("/dev/zero").writing("/dev/full");
        let ended = timeout(Duration::from_secs(60), between_files(Program::new("cat"), &line)).await;
        assert!(matches!(ended.expect("it waits for nobody"), Err(Broken::File(_))));
    }

    #[tokio::test]
    async fn why_a_program_reads_no_more_its_own_end_tells() {
        let failing = Line::of(["false"]).reading("/dev/zero");
        let ended = between_files(Program::new("false"), &failing).await;
        assert!(matches!(ended, Err(Broken::Program(ProcessError::Failed { .. }))));
        let content = Line::of(["true"]).reading("/dev/zero");
        assert!(matches!(between_files(Program::new("true"), &content).await, Err(Broken::File(_))));
    }
}
