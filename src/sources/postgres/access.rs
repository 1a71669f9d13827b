//! How a server is reached: the password stands in a private file, everything else in the programs' environment.

use std::{
    ffi::{OsStr, OsString},
    path::Path,
    time::Duration,
};

use zeroize::Zeroizing;

use super::{
    Failure,
    programs::{Installed, Programs},
};
use crate::{
    process::{PrivateFile, ProcessError, Program},
    secrets::Secret,
    spec::{Server, Tls},
};

/// How long a server may take to accept a connection, seconds.
const CONNECT_PATIENCE: &str = "30";

/// Access to one server.
#[derive(Debug)]
pub(super) struct Access {
    pub installed: Installed,
    /// As declared; empty means all.
    pub databases: Vec<String>,
    variables: Vec<(&'static str, OsString)>,
    passwords: PrivateFile,
    /// The password in each form that a program could print.
    secrets: Vec<Secret>,
}

impl Access {
    pub(super) fn new(
        server: &Server,
        password: Option<Secret>,
        installed: Installed,
    ) -> Result<Self, Failure> {
        let content = password.as_ref().map(password_file).transpose()?.unwrap_or_default();
        let passwords = PrivateFile::new(&content).map_err(|error| {
            Failure::Process(ProcessError::Start { program: "the client".to_owned(), error: error.into() })
        })?;
        let written = password.as_ref().map(|password| Secret::new(escaped(password.expose())));
        let secrets = password.into_iter().chain(written).collect();
        Ok(Self {
            installed,
            databases: server.databases.clone(),
            variables: variables(server),
            passwords,
            secrets,
        })
    }

    /// The program `name` of `programs`. It may be silent for `stall`.
    pub(super) fn program(&self, programs: &Programs, name: &str, stall: Duration) -> Program {
        self.environed(programs, name, stall).argument("--no-password")
    }

    /// The program that asks whether a server takes connections. It knows no password.
    pub(super) fn is_ready(&self, stall: Duration) -> Program {
        // Whoever answers counts, whatever certificate it shows.
        let program = self.environed(self.installed.newest(), "pg_isready", stall);
        program.variable("PGSSLMODE", "prefer").argument("--timeout=30")
    }

    fn environed(&self, programs: &Programs, name: &str, stall: Duration) -> Program {
        let program = Program::new(programs.path(name)).stall(stall);
        let program = program.variable("LC_ALL", "C.UTF-8").variable("PGPASSFILE", self.passwords.path());
        let program =
            self.variables.iter().fold(program, |program, (name, value)| program.variable(name, value));
        self.secrets.iter().fold(program, Program::redact)
    }
}

/// The argument that names a database, whatever its name.
pub(super) fn database(name: &str) -> String {
    // A bare name could be taken for a connection string.
    format!("--dbname=dbname='{}'", name.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn variables(server: &Server) -> Vec<(&'static str, OsString)> {
    let mut variables: Vec<(&'static str, OsString)> = vec![
        ("PGCONNECT_TIMEOUT", CONNECT_PATIENCE.into()),
        ("PGCLIENTENCODING", "UTF8".into()),
        ("PGAPPNAME", "backstay".into()),
    ];
    let (host, port) = match &server.socket {
        Some(socket) => socket_address(socket),
        None => (server.host.clone().into(), None),
    };
    variables.push(("PGHOST", host));
    if let Some(port) = server.port.map(|port| port.to_string()).or(port) {
        variables.push(("PGPORT", port.into()));
    }
    if let Some(user) = &server.user {
        variables.push(("PGUSER", user.into()));
    }
    if let Tls::Verified { ca } = &server.tls {
        variables.push(("PGSSLMODE", "verify-full".into()));
        variables.push(("PGSSLROOTCERT", ca.into()));
    }
    variables
}

/// The folder of a socket and its port: the engine's programs are told these, not the socket itself.
fn socket_address(socket: &Path) -> (OsString, Option<String>) {
    let name = socket.file_name().and_then(OsStr::to_str).unwrap_or_default();
    match (name.strip_prefix(".s.PGSQL."), socket.parent()) {
        (Some(port), Some(folder)) => (folder.into(), Some(port.to_owned())),
        _ => (socket.into(), None),
    }
}

/// One line for every server: whom the programs talk to is not this file's affair.
fn password_file(password: &Secret) -> Result<Zeroizing<String>, Failure> {
    if password.expose().contains(['\n', '\r', '\0']) {
        let why = "the password holds a line end, which the engine's password files can't";
        return Err(Failure::Refused(why.to_owned()));
    }
    Ok(Zeroizing::new(format!("*:*:*:*:{}\n", Zeroizing::new(escaped(password.expose())).as_str())))
}

fn escaped(value: &str) -> String {
    // Never grows, and so leaves no copy behind.
    let mut text = String::with_capacity(2 * value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ':') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_can_not_end_early_or_add_lines() {
        let file = |password: &str| password_file(&Secret::new(password.to_owned()));
        assert_eq!(*file(r"a:b\c").unwrap(), "*:*:*:*:a\\:b\\\\c\n");
        assert!(matches!(file("a\nb"), Err(Failure::Refused(_))));
    }

    #[test]
    fn a_socket_is_told_by_its_folder_and_port() {
        let address = |path| socket_address(Path::new(path));
        let folder = OsString::from("/run/postgresql");
        assert_eq!(address("/run/postgresql/.s.PGSQL.5433"), (folder.clone(), Some("5433".to_owned())));
        assert_eq!(address("/run/postgresql"), (folder, None));
    }

    #[test]
    fn a_database_is_never_taken_for_a_connection_string() {
        assert_eq!(database(r"a'b\ host=evil"), r"--dbname=dbname='a\'b\\ host=evil'");
    }
}
