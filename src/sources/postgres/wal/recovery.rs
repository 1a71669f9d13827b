//! The way back of a log: segments beside a restored cluster, and the settings by which the server replays them when it is
//! started there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use tokio::io::AsyncRead;

use super::{
    Failure,
    segment::{HISTORY, is_file},
};
use crate::{
    artifact::recovery_settings::recovery_settings,
    sources::{
        Replay,
        entries::{Entry, skip},
        postgres::data_folder,
    },
};

/// The folder of the segments, in the data folder.
const LOGS: &str = "restored_wal";

/// Tells the server to replay (PostgreSQL's documentation, "Recovering Using a Continuous Archive Backup").
const SIGNAL: &str = "recovery.signal";

/// The settings that come last.
const SETTINGS: &str = "postgresql.auto.conf";

/// Puts the files of a log into a restored data folder, on which no server starts until [`recover`].
pub(in crate::sources::postgres) async fn to_data_folder(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: &Path,
) -> Result<String, Failure> {
    if !data_folder::is_held_back(folder) {
        data_folder::hold_back(folder)?;
        LogFolder::remove(folder)?;
    }
    let logs = LogFolder::in_data_folder(folder)?;
    while let Some(entry) = Entry::read(stream).await? {
        if !is_file(&entry.name) {
            return Err(Failure::Incomplete(format!("{:?} is no file of a log", entry.name)));
        }
        logs.extract(stream, &entry).await?;
        skip(stream, entry.padding() as u64).await?;
    }
    Ok(format!("{}: a server that is started on it replays the log", folder.display()))
}

/// Has a server that is started on a data folder replay the logs that were put there. Nothing of them is missing: one that
/// began to replay a part would end where that does, and take writes.
pub(in crate::sources::postgres) fn recover(folder: &Path, replay: &Replay) -> Result<(), Failure> {
    let logs = LogFolder::in_data_folder(folder)?;
    let timeline = logs.youngest_timeline()?;
    let settings = recovery_settings(LOGS, timeline, replay.until.as_ref());
    let settings = settings.map_err(|error| Failure::Refused(error.to_string()))?;
    logs.write(&folder.join(SETTINGS), &settings)?;
    logs.write(&folder.join(SIGNAL), "")?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unwritable(folder))?;
    data_folder::release(folder)
}

/// Fails where the last part of a path is a symbolic link (open(2), `O_NOFOLLOW`).
const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

struct LogFolder {
    path: PathBuf,
    owner: (u32, u32),
}

impl LogFolder {
    fn in_data_folder(folder: &Path) -> Result<Self, Failure> {
        let found = folder.metadata().map_err(unwritable(folder))?;
        let logs = Self { path: folder.join(LOGS), owner: (found.uid(), found.gid()) };
        match DirBuilder::new().mode(0o700).create(&logs.path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unwritable(&logs.path)(error)),
            _ => logs.give(&logs.path).map(|()| logs),
        }
    }

    /// Removes one that came with the data: it is of an earlier restore.
    fn remove(folder: &Path) -> Result<(), Failure> {
        let path = folder.join(LOGS);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unwritable(&path)(error)),
            _ => Ok(()),
        }
    }

    /// The youngest timeline that the log goes over to, by the names of histories; `None` if it stays on that of the data.
    fn youngest_timeline(&self) -> Result<Option<u32>, Failure> {
        let names = fs::read_dir(&self.path).map_err(unwritable(&self.path))?;
        let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let timelines = names.filter_map(|name| u32::from_str_radix(name.strip_suffix(HISTORY)?, 16).ok());
        Ok(timelines.max())
    }

    async fn extract(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        entry: &Entry,
    ) -> Result<(), Failure> {
        let path = self.path.join(&entry.name);
        // Artifacts overlap in the segment where one ends and the next begins. The later one has all of it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(&path)(error)),
            _ => entry.extract(stream, &path).await?,
        }
        self.give(&path)
    }

    /// Appends to a file of the server's. Its account may have put a link there: that is followed nowhere.
    fn write(&self, path: &Path, text: &str) -> Result<(), Failure> {
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600).custom_flags(NO_LINKS);
        let mut file = options.open(path).map_err(unwritable(path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(unwritable(path))?;
        self.give_file(&file, path)
    }

    fn give(&self, path: &Path) -> Result<(), Failure> {
        let file = OpenOptions::new().read(true).custom_flags(NO_LINKS).open(path);
        self.give_file(&file.map_err(unwritable(path))?, path)
    }

    /// What a server reads must be its own.
    fn give_file(&self, file: &File, path: &Path) -> Result<(), Failure> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        fchown(file, Some(self.owner.0), Some(self.owner.1)).map_err(unwritable(path))
    }
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Refused(format!("{}: {error}", path.display()))
}
