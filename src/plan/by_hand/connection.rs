//! How engines' own programs are told where a server is, and whose programs they are.

use super::Brought;
use crate::spec::Server;

/// Whose programs ask a server of MySQL's kind. No declaration tells which of the two it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    MariaDb,
    MySql,
}

impl Flavour {
    /// That of what was captured; MariaDB's where nobody can tell.
    pub(super) fn of(brought: &Brought) -> Self {
        match brought.stored.server.as_deref() {
            Some(version) if !version.contains("MariaDB") => Flavour::MySql,
            _ => Flavour::MariaDb,
        }
    }

    pub(super) fn client(self) -> &'static str {
        match self {
            Flavour::MariaDb => "mariadb",
            Flavour::MySql => "mysql",
        }
    }
}

/// The client of a server of MySQL's kind.
pub(super) fn mysql_client(flavour: Flavour, server: &Server, rest: &[&str]) -> Vec<String> {
    let words = [flavour.client().to_owned()].into_iter().chain(mysql_connection(server));
    words.chain(rest.iter().map(ToString::to_string)).collect()
}

/// What has the client do what a file tells and nothing that it tells the client itself, such as to start a program, and take rows as
/// long as any server takes.
pub(super) const AS_IT_IS: [&str; 2] = ["--binary-mode", "--max-allowed-packet=1G"];

pub(super) fn mysql_connection(server: &Server) -> Vec<String> {
    let user = server.user.iter().map(|user| format!("--user={user}"));
    // The client asks for it on the terminal.
    let password = server.password.iter().map(|_| "--password".to_owned());
    user.chain(address(server, "--socket")).chain(password).collect()
}

pub(super) fn postgres_connection(server: &Server) -> Vec<String> {
    let user = server.user.iter().map(|user| format!("--username={user}"));
    let address = match &server.socket {
        // Its clients take the folder of the socket for the host.
        Some(socket) => {
            let folder = socket.parent().map(|folder| format!("--host={}", folder.display()));
            folder.into_iter().collect()
        }
        None => address(server, "--socket"),
    };
    user.chain(address).collect()
}

fn address(server: &Server, socket: &str) -> Vec<String> {
    match &server.socket {
        Some(path) => vec![format!("{socket}={}", path.display())],
        None => {
            let port = server.port.map(|port| format!("--port={port}"));
            [format!("--host={}", server.host)].into_iter().chain(port).collect()
        }
    }
}
