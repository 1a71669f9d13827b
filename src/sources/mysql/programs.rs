//! Which dump and client programs there are, and whose. A server is asked by its own engine's: MariaDB's do not know the statements
//! of today's MySQL, nor MySQL's those of MariaDB.

use std::{env, ffi::OsStr, path::PathBuf, time::Duration};

use super::Failure;
use crate::process::{self, ProcessError, Program};

/// Whose server or program it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    /// Whose a version is, of a server or of a program.
    pub(super) fn of(version: &str) -> Self {
        if version.contains("MariaDB") { Flavour::MariaDb } else { Flavour::MySql }
    }

    /// The engine's name, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Flavour::MariaDb => "MariaDB",
            Flavour::MySql => "MySQL",
        }
    }

    /// What the program that reads binary logs is told, so that what it prints is done wherever it is run: a server of MySQL leaves out
    /// transactions of which it has the number already, and says nothing of it (its manual, "mysqlbinlog", `--skip-gtids`).
    pub(super) fn replayed_as(self) -> &'static [&'static str] {
        match self {
            Flavour::MariaDb => &[],
            Flavour::MySql => &["--skip-gtids"],
        }
    }

    /// Where its programs come from.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Flavour::MariaDb => "install MariaDB's client programs (Debian: mariadb-client)",
            Flavour::MySql => {
                "put MySQL's own mysqldump, mysql and mysqlbinlog into a folder of the controller's PATH; those that Debian's \
                 mariadb-client gives these names are MariaDB's"
            }
        }
    }
}

/// The programs of one engine.
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

/// The programs of each engine that are on this host.
#[derive(Clone, Debug)]
pub(super) struct Installed {
    mariadb: Result<Programs, ProcessError>,
    mysql: Option<Programs>,
}

impl Installed {
    /// Finds them in the folders of `search`.
    pub(super) async fn find(search: &OsStr) -> Result<Self, Failure> {
        Ok(Self { mariadb: mariadb(search).await?, mysql: mysql(search).await? })
    }

    /// All that can ask a server of which nobody knows yet whose it is, those first that most likely can.
    pub(super) fn any(&self) -> Result<Vec<Programs>, Failure> {
        let found: Vec<Programs> = self.mariadb.iter().chain(&self.mysql).cloned().collect();
        match &self.mariadb {
            Err(missing) if found.is_empty() => Err(missing.clone().into()),
            _ => Ok(found),
        }
    }

    /// Those for a server of this engine.
    pub(super) fn of(self, flavour: Flavour) -> Result<Programs, Failure> {
        let found = match flavour {
            Flavour::MariaDb => self.mariadb.ok(),
            Flavour::MySql => self.mysql,
        };
        found.ok_or(Failure::OthersPrograms(flavour))
    }

    /// MariaDB's, where no server is asked.
    pub(super) fn mariadb(self) -> Result<Programs, Failure> {
        Ok(self.mariadb?)
    }
}

async fn mariadb(search: &OsStr) -> Result<Result<Programs, ProcessError>, Failure> {
    let found = || {
        let dump = process::find(&["mariadb-dump", "mysqldump"], search)?;
        let client = process::find(&["mariadb", "mysql"], search)?;
        Ok((dump, client))
    };
    let (dump, client) = match found() {
        Ok(found) => found,
        Err(missing) => return Ok(Err(missing)),
    };
    let Ok(version) = version(&dump).await else {
        return Ok(Err(ProcessError::Missing { program: "mariadb-dump that tells its version".to_owned() }));
    };
    let binlog = process::find(&["mariadb-binlog", "mysqlbinlog"], search);
    Ok(match Flavour::of(&version) {
        flavour @ Flavour::MariaDb => Ok(Programs { dump, client, binlog, flavour, version }),
        Flavour::MySql => Err(ProcessError::Missing { program: "mariadb-dump".to_owned() }),
    })
}

/// Those of the first folder whose dump program is MySQL's: distributions of MariaDB give theirs the same names.
async fn mysql(search: &OsStr) -> Result<Option<Programs>, Failure> {
    for folder in env::split_paths(search) {
        let of_folder = |name: &str| process::find(&[name], folder.as_os_str());
        let (Ok(dump), Ok(client)) = (of_folder("mysqldump"), of_folder("mysql")) else { continue };
        let Ok(version) = version(&dump).await else { continue };
        let binlog = of_folder("mysqlbinlog");
        if let flavour @ Flavour::MySql = Flavour::of(&version) {
            return Ok(Some(Programs { dump, client, binlog, flavour, version }));
        }
    }
    Ok(None)
}

async fn version(dump: &PathBuf) -> Result<String, Failure> {
    let asked = Program::new(dump).argument("--version").timeout(Duration::from_secs(30));
    Ok(String::from_utf8_lossy(&asked.output(b"", 4096).await?).trim().to_owned())
}
