//! The way back of a log: segments beside a restored cluster, and the settings by which the server replays them when it is
//! started there (PostgreSQL's documentation, "Archive Recovery" and "Recovery Target").

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown},
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use tokio::io::AsyncRead;

use super::{
    Failure,
    segment::{HISTORY, is_file},
};
use crate::{
    artifact::{position::LogPosition, until::Until},
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
    let target = replay.until.as_ref().map(Target::of).transpose()?;
    logs.write(&folder.join(SETTINGS), &settings(timeline, target.as_ref()))?;
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

/// The setting of where recovery ends, and its value.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    setting: &'static str,
    value: String,
}

/// All settings of where recovery ends.
const TARGETS: [&str; 5] = [
    "recovery_target",
    "recovery_target_name",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_time",
];

impl Target {
    fn of(until: &Until) -> Result<Self, Failure> {
        let not_in_log = || Failure::Refused(format!("a write-ahead log has no {until}"));
        let (setting, value) = match until {
            Until::Moment(at) => {
                let in_utc = at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S%.6f+00").to_string();
                ("recovery_target_time", in_utc)
            }
            Until::Named(name) => ("recovery_target_name", quoted(name.as_str())),
            Until::Place(place) => match place.position() {
                Some(LogPosition::Wal(place)) => ("recovery_target_lsn", place.lsn.to_string()),
                _ => return Err(not_in_log()),
            },
            Until::Transaction(_) => return Err(not_in_log()),
        };
        Ok(Self { setting, value })
    }
}

/// Text between the quotes of a settings file (PostgreSQL's documentation, "Parameter Interaction via the Configuration File").
fn quoted(text: &str) -> String {
    text.replace('\\', r"\\").replace('\'', "''")
}

/// The last lines count: what the data's own server was told of recovery, or of another server to follow, counts no more.
fn settings(timeline: Option<u32>, target: Option<&Target>) -> String {
    let timeline = timeline.map_or("current".to_owned(), |timeline| timeline.to_string());
    // The target last: a server that has one takes no other setting of one, not even an empty one.
    let others = TARGETS.iter().filter(|name| target.is_none_or(|target| target.setting != **name));
    let others = others.map(|name| format!("{name} = ''\n"));
    let target = target.map(|Target { setting, value }| format!("{setting} = '{value}'\n"));
    let targets: String = others.chain(target).collect();
    format!(
        "\n# What Backstay restored is replayed up to here. These lines may go once the server is up.\n\
         restore_command = 'cp \"{LOGS}/%f\" \"%p\"'\nprimary_conninfo = ''\n\
         recovery_target_timeline = '{timeline}'\n{targets}\
         recovery_target_inclusive = off\nrecovery_target_action = 'promote'\n"
    )
}

fn unwritable(path: &Path) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::Refused(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_ends_before_the_moment_whatever_the_server_was_told_before() {
        let settings = |timeline, until: Option<Until>| {
            let target = until.map(|until| Target::of(&until).unwrap());
            settings(timeline, target.as_ref())
        };
        let at = Until::Moment("2026-11-20T10:35:50.25Z".parse().unwrap());
        let text = settings(Some(10), Some(at));
        assert!(text.contains("\nrecovery_target_time = '2026-11-20 10:35:50.250000+00'\n"), "{text}");
        assert!(text.contains("\nrecovery_target_inclusive = off\n"), "{text}");
        assert!(text.contains("\nrecovery_target_timeline = '10'\n"), "{text}");
        let newest = settings(None, None);
        assert!(newest.contains("\nrecovery_target_time = ''\n"), "the newest has no target: {newest}");
        assert!(newest.contains("\nrecovery_target_timeline = 'current'\n"), "{newest}");
        let place = settings(None, Some(Until::Place("16/B374D848, timeline 2".parse().unwrap())));
        assert!(place.contains("\nrecovery_target_lsn = '16/B374D848'\n"), "{place}");
        let named = settings(None, Some(Until::Named("o'clock".parse().unwrap())));
        assert!(named.contains("\nrecovery_target_name = 'o''clock'\n"), "{named}");
    }

    #[test]
    fn what_another_engine_names_is_no_target() {
        for until in
            [Until::Place("bin.000001:4".parse().unwrap()), Until::Transaction("0-1-2".parse().unwrap())]
        {
            assert!(Target::of(&until).is_err(), "{until}");
        }
    }
}
