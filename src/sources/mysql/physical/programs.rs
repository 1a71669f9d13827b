//! The programs that copy files and bring them back, and the server that is started on them.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use super::super::Failure;
use crate::process::{self, ProcessError, Program};

/// Where Debian and others keep servers, which the search path of ordinary users leaves out.
const SERVERS: &str = ":/usr/sbin:/usr/local/sbin:/usr/libexec";

/// MariaDB's programs for copies of files.
#[derive(Clone, Debug)]
pub(in super::super) struct Copiers {
    pub copy: PathBuf,
    pub unpack: PathBuf,
    /// Needed for logs that are replayed over a copy only.
    pub server: Result<PathBuf, ProcessError>,
}

impl Copiers {
    /// Finds them in the folders of `search`.
    pub(in super::super) fn find(search: &OsStr) -> Result<Self, Failure> {
        let found = |names: &[&str]| process::find(names, search).map_err(Failure::NoCopier);
        let mut servers = OsString::from(search);
        servers.push(SERVERS);
        Ok(Self {
            copy: found(&["mariadb-backup", "mariabackup"])?,
            unpack: found(&["mbstream"])?,
            server: process::find(&["mariadbd", "mysqld"], &servers),
        })
    }

    /// The version of the program that copies, for people.
    pub(super) async fn version(&self) -> Result<String, Failure> {
        let asked = Program::new(&self.copy).argument("--version").timeout(Duration::from_secs(30));
        // It says it on standard error.
        let mut asked = asked.discard_output().start()?;
        asked.close_input();
        let said = asked.last_words().await?;
        let name = self.copy.file_name().unwrap_or_default().to_string_lossy();
        Ok(match said.as_str().split_once(" based on ") {
            Some((_, version)) => format!("{name} based on {}", version.trim()),
            None => said.as_str().trim().to_owned(),
        })
    }
}
