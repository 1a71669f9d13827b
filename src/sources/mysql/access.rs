//! How a server is reached: everything, the password too, stands in a private option file, and nothing in an argument.

use std::{fmt::Write, path::Path, time::Duration};

use zeroize::Zeroizing;

use super::{
    Failure,
    programs::{Flavour, Programs},
};
use crate::{
    process::{PrivateFile, ProcessError, Program},
    secrets::Secret,
    spec::{Server, Tls},
};

/// Access to one server.
#[derive(Debug)]
pub(super) struct Access {
    pub programs: Programs,
    /// As declared; empty means all but the engine's own.
    pub databases: Vec<String>,
    options: PrivateFile,
    /// The password in each form that a program could print.
    secrets: Vec<Secret>,
}

impl Access {
    pub(super) fn new(
        server: &Server,
        password: Option<Secret>,
        programs: Programs,
    ) -> Result<Self, Failure> {
        let options = PrivateFile::new(&option_file(server, password.as_ref(), programs.flavour));
        let options = options.map_err(|error| {
            Failure::Process(ProcessError::Start { program: "the client".to_owned(), error: error.into() })
        })?;
        let written = password.as_ref().map(|password| Secret::new(escaped(password.expose())));
        let secrets = password.into_iter().chain(written).collect();
        Ok(Self { programs, databases: server.databases.clone(), options, secrets })
    }

    /// Refuses a server of this version where the programs are another engine's.
    pub(super) fn must_be_for(&self, version: &str) -> Result<(), Failure> {
        match Flavour::of(version) {
            flavour if flavour == self.programs.flavour => Ok(()),
            other => Err(Failure::OthersPrograms(other)),
        }
    }

    /// The dump program. It may be silent for `stall`.
    pub(super) fn dump(&self, stall: Duration) -> Program {
        self.program(&self.programs.dump, stall)
    }

    /// The client program, reading SQL from its standard input.
    pub(super) fn client(&self, stall: Duration) -> Program {
        let client = self.program(&self.programs.client, stall);
        match self.programs.flavour {
            // What newer clients print with an error is the statement: rows, and accounts with their passwords.
            Flavour::MariaDb => client.argument("--loose-skip-print-query-on-error"),
            Flavour::MySql => client,
        }
    }

    /// The program that reads binary logs, of the server or of a file. It may be silent for `stall`.
    pub(super) fn binlog(&self, stall: Duration) -> Result<Program, Failure> {
        Ok(self.program(self.programs.binlog.as_ref().map_err(Clone::clone)?, stall))
    }

    /// A program of the engine that reads option files.
    pub(super) fn program(&self, path: &Path, stall: Duration) -> Program {
        // The first argument by the programs' own rule: nothing else is read then.
        let mut option = std::ffi::OsString::from("--defaults-file=");
        option.push(self.options.path());
        let program = Program::new(path).argument(option).variable("LC_ALL", "C.UTF-8").stall(stall);
        self.secrets.iter().fold(program, Program::redact)
    }
}

fn option_file(server: &Server, password: Option<&Secret>, flavour: Flavour) -> Zeroizing<String> {
    // The program that reads binary logs refuses options that it does not know, also those for all clients.
    let mut text = Zeroizing::new(String::from("[mysql]\ndefault-character-set=utf8mb4\n[client]\n"));
    let mut add = |name: &str, value: &str| {
        writeln!(text, "{name}={}", quoted(value).as_str()).expect("writing to a string succeeds");
    };
    match (&server.socket, server.host.as_str()) {
        (Some(socket), _) => add("socket", &socket.to_string_lossy()),
        (None, "") => {}
        (None, host) => {
            add("host", host);
            add("protocol", "tcp");
        }
    }
    if let Some(port) = server.port {
        add("port", &port.to_string());
    }
    if let Some(user) = &server.user {
        add("user", user);
    }
    if let Some(password) = password {
        add("password", password.expose());
    }
    if let Tls::Verified { ca } = &server.tls {
        add("ssl-ca", &ca.to_string_lossy());
        match flavour {
            Flavour::MariaDb => add("ssl-verify-server-cert", "1"),
            Flavour::MySql => add("ssl-mode", "VERIFY_IDENTITY"),
        }
    }
    text
}

/// A value of an option file: quotes at both ends are taken off, whatever stands between.
fn quoted(value: &str) -> Zeroizing<String> {
    Zeroizing::new(format!("\"{}\"", Zeroizing::new(escaped(value)).as_str()))
}

/// A value with what an option file would read as an escape, or as the end of its line, escaped.
fn escaped(value: &str) -> String {
    // Never grows, and so leaves no copy behind.
    let mut text = String::with_capacity(2 * value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_and_never_add_lines() {
        assert_eq!(*quoted(r#"p"a\s#'"#), r#""p"a\\s#'""#);
        assert_eq!(*quoted("a\nuser=root"), r#""a\nuser=root""#);
    }
}
