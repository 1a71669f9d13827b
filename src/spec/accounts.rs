//! Accounts of a server: its users, roles and what is granted to them, and which captures leave them out.

use super::{Mysql, MysqlMethod, Postgres, PostgresMethod, Server, Source};

/// Who makes a server's accounts anew where its captures leave them out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Accounts {
    /// Nobody who is known of.
    #[default]
    Undeclared,
    /// Something that is no part of the declaration, such as a playbook.
    Elsewhere,
}

impl Source {
    /// What of its server's accounts no capture holds, as the subject of a sentence; `None` where nothing is left out, or where there
    /// are no accounts.
    pub fn accounts_left_out(&self) -> Option<&'static str> {
        match self {
            Source::Mysql(Mysql { method: MysqlMethod::Logical, .. }) => Some("users, roles and grants"),
            Source::Postgres(it) if is_archive(it) => Some("roles"),
            Source::Mongodb(_) => Some("users and roles"),
            Source::Influxdb(_) => Some("users and their passwords"),
            Source::Influxdb2(it) if !it.buckets.is_empty() => Some("users and tokens"),
            // Whoever logs in by a name has written an ACL.
            Source::Redis(it) if it.user.is_some() => Some("users (ACL)"),
            _ => None,
        }
    }

    /// Whether its captures hold the accounts of the server that `other` is on.
    pub fn holds_accounts_of(&self, other: &Source) -> bool {
        match (self, other) {
            (
                Source::Mysql(Mysql { server, method: MysqlMethod::Physical { .. }, .. }),
                Source::Mysql(other),
            ) => is_at(server, &other.server),
            (Source::Postgres(it), Source::Postgres(other)) => {
                !is_archive(it) && is_at(&it.server, &other.server)
            }
            (Source::Influxdb2(it), Source::Influxdb2(other)) => it.buckets.is_empty() && it.url == other.url,
            (Source::Rds(instance), _) => other.is_on(instance),
            _ => false,
        }
    }
}

/// Whether one database is captured, which holds no roles; several are captured with them.
fn is_archive(postgres: &Postgres) -> bool {
    postgres.method == PostgresMethod::Logical && postgres.server.databases.len() == 1
}

fn is_at(one: &Server, other: &Server) -> bool {
    (&one.host, one.port, &one.socket) == (&other.host, other.port, &other.socket)
}
