//! Over the original: the data folder of a server of this host, which is stopped. What is restored is put together beside it
//! and takes its place by one rename; what was there is moved aside, and never removed.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{MetadataExt, lchown},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
    process::{Pid, test_kill_process},
};
use tempfile::TempDir;

use super::{Failure, access::Access, data_folder::VERSION};
use crate::{
    process::{Exit, ProcessError},
    scratch,
};

/// Names the running server's first process in its first line (PostgreSQL's documentation, "Database File Layout").
const LOCK: &str = "postmaster.pid";

/// How long the program that asks for a server may take.
const ANSWER: Duration = Duration::from_secs(60);

/// The data folder of a server of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataFolder(PathBuf);

impl DataFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// A folder beside it, on the same file system, once nothing hinders that it takes its place.
    pub(super) async fn beside(&self, access: &Access) -> Result<TempDir, Failure> {
        self.must_be_replaceable()?;
        must_not_answer(access).await?;
        let prefix = format!("{}.restoring-", self.name());
        scratch::folder_in(self.parent(), &prefix).map_err(|error| self.refused(&error))
    }

    /// Puts `made` in its place. Returns where it is, and what became of what was there, for people.
    pub(super) async fn replace_with(&self, made: TempDir, access: &Access) -> Result<String, Failure> {
        let made = made.keep();
        let whole = |error: String| {
            Failure::Refused(format!("{error}; what was restored is whole, in {}", made.display()))
        };
        // It may have been started while the restore went on.
        self.must_be_replaceable().map_err(|failure| whole(failure.reason()))?;
        must_not_answer(access).await.map_err(|failure| whole(failure.reason()))?;
        let aside = self.take(&made).map_err(|error| whole(format!("{}: {error}", self.0.display())))?;
        let kept = aside.map(|aside| format!("; what was there is in {}", aside.display()));
        let told = format!("{}{}", self.0.display(), kept.unwrap_or_default());
        match File::open(self.parent()).and_then(|parent| parent.sync_all()) {
            Ok(()) => Ok(format!("{told}; start the server")),
            Err(error) => Err(Failure::Refused(format!("{told}; a loss of power may undo that: {error}"))),
        }
    }

    fn must_be_replaceable(&self) -> Result<(), Failure> {
        let refused = |why: &str| Err(self.refused(&why));
        let found = match self.0.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found.map_err(|error| self.refused(&error))?,
        };
        if found.is_symlink() {
            return refused("it is a symbolic link; declare as `data_dir` the folder that it leads to");
        }
        if !found.is_dir() {
            return refused("it is no folder");
        }
        let parent = self.parent().metadata().map_err(|error| self.refused(&error))?;
        if parent.dev() != found.dev() {
            return refused(
                "it is a file system of its own, which nothing can be put in the place of by a rename; restore to a folder, \
                 and replace what it holds by hand; or have the server keep its data in a folder of it",
            );
        }
        let is_empty = fs::read_dir(&self.0).map_err(|error| self.refused(&error))?.next().is_none();
        if !is_empty && !self.0.join(VERSION).exists() {
            return refused("it holds something, and no data of PostgreSQL; check `data_dir`");
        }
        match running_on(&self.0, &found) {
            Some(process) => Err(self.refused(&format!(
                "a server runs on it (process {process}); stop it first; if that process is none, remove {LOCK}"
            ))),
            None => Ok(()),
        }
    }

    /// Swaps the two. At no moment is there neither.
    fn take(&self, made: &Path) -> io::Result<Option<PathBuf>> {
        let place = &self.0;
        let Some(before) = found(place)? else {
            fs::rename(made, place)?;
            return Ok(None);
        };
        belong(made, before.uid(), before.gid())?;
        let aside = match renameat_with(CWD, made, CWD, place, RenameFlags::EXCHANGE) {
            // It is swapped: what was there only keeps another name.
            Ok(()) => self.set_aside(made).unwrap_or_else(|_| made.to_owned()),
            // A file system that can't exchange.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                let aside = self.set_aside(place)?;
                if let Err(error) = fs::rename(made, place) {
                    let back = fs::rename(&aside, place)
                        .map_err(|_| format!("; what was there is in {}", aside.display()));
                    return Err(io::Error::other(format!("{error}{}", back.err().unwrap_or_default())));
                }
                aside
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Some(aside))
    }

    /// Gives what was there a name that nothing has.
    fn set_aside(&self, old: &Path) -> io::Result<PathBuf> {
        let mut number = 1;
        loop {
            let aside = self.parent().join(format!("{}.before-restore-{number}", self.name()));
            if found(&aside)?.is_none() {
                fs::rename(old, &aside)?;
                return Ok(aside);
            }
            number += 1;
        }
    }

    fn parent(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    fn name(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn refused(&self, why: &dyn std::fmt::Display) -> Failure {
        Failure::Refused(format!("{}: {why}", self.0.display()))
    }
}

fn found(path: &Path) -> io::Result<Option<fs::Metadata>> {
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// A process that works on a data folder: the one that its lock names, or, also where that is of a container or the first
/// process was killed and others live on, any that is at work in it.
fn running_on(data: &Path, found: &fs::Metadata) -> Option<i32> {
    let locked = fs::read_to_string(data.join(LOCK)).ok();
    // That of a server without clients has a minus before it.
    let locked = locked.and_then(|lock| lock.lines().next()?.trim().trim_start_matches('-').parse().ok());
    let is_alive = |id: &i32| Pid::from_raw(*id).is_some_and(|id| test_kill_process(id) != Err(Errno::SRCH));
    let at_work = || {
        let ids = fs::read_dir("/proc").ok()?.flatten();
        let mut ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        ids.find(|id| {
            let folder = fs::metadata(format!("/proc/{id}/cwd"));
            folder.is_ok_and(|folder| (folder.dev(), folder.ino()) == (found.dev(), found.ino()))
        })
    };
    locked.filter(is_alive).or_else(at_work)
}

/// Whether nobody answers where the declared server is.
async fn must_not_answer(access: &Access) -> Result<(), Failure> {
    let asked = async { access.is_ready(ANSWER).discard_output().start()?.finish().await };
    match asked.await {
        Err(ProcessError::Failed { exit: Exit::Code(NO_ANSWER), .. }) => Ok(()),
        Ok(()) | Err(ProcessError::Failed { exit: Exit::Code(STARTING), .. }) => Err(Failure::Refused(
            "the declared server answers, and a server that runs can't be replaced; stop it first".to_owned(),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What `pg_isready` ends with when a server refuses connections, such as while it starts (its documentation, "Exit Status").
const STARTING: i32 = 1;
/// What it ends with when nobody answers.
const NO_ANSWER: i32 = 2;

/// Gives a folder and all that it holds to the owner of what it replaces: users may have other numbers where the data was
/// captured.
fn belong(folder: &Path, user: u32, group: u32) -> io::Result<()> {
    let found = folder.symlink_metadata()?;
    if (found.uid(), found.gid()) == (user, group) {
        return Ok(());
    }
    give(folder, user, group)
}

fn give(path: &Path, user: u32, group: u32) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user, group)?;
        }
    }
    lchown(path, Some(user), Some(group))
}
