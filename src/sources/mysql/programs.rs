//! Which dump and client programs there are, and whose.

use std::{ffi::OsStr, path::PathBuf, time::Duration};

use super::Failure;
use crate::process::{self, ProcessError, Program};

/// Whose options a program understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

/// The programs of the engine.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub dump: PathBuf,
    pub client: PathBuf,
    /// Needed for logs only.
    pub binlog: Result<PathBuf, ProcessError>,
    pub flavour: Flavour,
    /// The dump program's own version, for people.
    pub version: String,
}

impl Programs {
    /// Finds them in the folders of `search`. MariaDB's are preferred: they dump both engines.
    pub(super) async fn find(search: &OsStr) -> Result<Self, Failure> {
        let dump = process::find(&["mariadb-dump", "mysqldump"], search)?;
        let client = process::find(&["mariadb", "mysql"], search)?;
        let binlog = process::find(&["mariadb-binlog", "mysqlbinlog"], search);
        let asked = Program::new(&dump).argument("--version").timeout(Duration::from_secs(30));
        let version = String::from_utf8_lossy(&asked.output(b"", 4096).await?).trim().to_owned();
        let flavour = if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql };
        Ok(Self { dump, client, binlog, flavour, version })
    }
}
