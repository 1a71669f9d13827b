//! Which of the engine's programs there are, of which version. Every folder holds the programs of one version.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    time::Duration,
};

use super::Failure;
use crate::process::{self, ProcessError, Program};

/// Where Debian keeps one folder of programs a version. They come before `PATH`: what stands there are wrappers, which
/// choose a version by rules of their own.
const VERSIONED: &str = "/usr/lib/postgresql";

/// The programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
    major: u32,
    /// What the dump program says of its version, for people.
    pub version: String,
}

impl Programs {
    /// The path of one of them.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    async fn of(folder: PathBuf) -> Option<Self> {
        let asked = Program::new(folder.join("pg_dump")).argument("--version");
        let said = asked.timeout(Duration::from_secs(30)).output(b"", 4096).await.ok()?;
        let version = String::from_utf8(said).ok()?.trim().to_owned();
        Some(Self { major: major(&version)?, folder, version })
    }
}

/// Every version that was found.
#[derive(Clone, Debug)]
pub(super) struct Installed(Vec<Programs>);

impl Installed {
    /// Looks in the folders of `search`, written as in `PATH`.
    pub(super) async fn find(search: &OsStr) -> Result<Self, Failure> {
        let mut found: Vec<Programs> = Vec::new();
        for folder in std::env::split_paths(search).filter(|folder| folder.is_absolute()) {
            if process::find(&["pg_dump"], folder.as_os_str()).is_ok()
                && let Some(programs) = Programs::of(folder).await
            {
                found.push(programs);
            }
        }
        if found.is_empty() {
            return Err(ProcessError::Missing { program: "pg_dump".to_owned() }.into());
        }
        Ok(Self(found))
    }

    /// The newest: they talk to every older server, and read what every older program wrote.
    pub(super) fn newest(&self) -> &Programs {
        let newest = self.0.iter().rev().max_by_key(|programs| programs.major);
        newest.expect("at least one was found")
    }

    /// The oldest that a server of version `server` accepts: what it writes is what that server reads back.
    pub(super) fn for_server(&self, server: u32) -> Result<&Programs, Failure> {
        let new_enough = self.0.iter().filter(|programs| programs.major >= server);
        new_enough
            .min_by_key(|programs| programs.major)
            .ok_or_else(|| Failure::Outdated { server, programs: self.newest().major })
    }
}

/// The folders of `path`, a value like that of `PATH`, after those that hold one version each.
pub(super) fn folders(path: &OsStr) -> OsString {
    let versions = std::fs::read_dir(VERSIONED).into_iter().flatten().flatten();
    let versions = versions.map(|version| version.path().join("bin"));
    let all: Vec<PathBuf> = versions.chain(std::env::split_paths(path)).collect();
    std::env::join_paths(all.iter().map(Path::new)).unwrap_or_else(|_| path.to_owned())
}

/// The major version in `pg_dump (PostgreSQL) 15.20 (Debian …)`.
fn major(version: &str) -> Option<u32> {
    let (_, number) = version.split_once("(PostgreSQL) ")?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_of_previews_are_read() {
        assert_eq!(major("pg_dump (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major("pg_dump of something else"), None);
    }

    #[test]
    fn a_server_gets_the_oldest_programs_that_it_accepts() {
        let of = |major| Programs { folder: PathBuf::new(), major, version: String::new() };
        let installed = Installed(vec![of(17), of(13), of(15)]);
        assert_eq!(installed.for_server(14).unwrap().major, 15);
        assert_eq!(installed.for_server(13).unwrap().major, 13);
        assert_eq!(installed.newest().major, 17);
        assert!(matches!(installed.for_server(18), Err(Failure::Outdated { server: 18, programs: 17 })));
    }
}
