//! One session with a server, through the client program: questions go to its standard input, values come from its
//! standard output, each followed by a NUL, which no value can hold.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Failure,
    access::{Access, database},
};
use crate::process::{Process, Program};

/// The largest answer, bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// The database that every server has, from which others are made.
pub(super) const MAINTENANCE: &str = "postgres";

/// What a role or database may have set to its own taste.
const SETTINGS: &str = "SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; \
                        SET row_security = off; SET standard_conforming_strings = on; \
                        SELECT FROM pg_catalog.set_config('search_path', '', false)";

/// An open session. It ends with its first failing statement.
#[derive(Debug)]
pub(super) struct Session {
    client: Process,
    asked: u64,
}

impl Session {
    /// Starts a session in the database `name`, whose answers may take `stall`.
    pub(super) async fn open(access: &Access, name: &str, stall: Duration) -> Result<Self, Failure> {
        Self::of(client(access, database(name), stall)).await
    }

    /// The same for what only reads: what is given up is cancelled on the server too (documentation of `psql`, "Ctrl-C").
    pub(super) async fn open_to_read(access: &Access, name: &str, stall: Duration) -> Result<Self, Failure> {
        Self::of(client(access, database(name), stall).interrupted()).await
    }

    /// Starts a session that takes the commands of replication as well.
    pub(super) async fn open_for_replication(access: &Access, stall: Duration) -> Result<Self, Failure> {
        Self::of(client(access, format!("{} replication=database", database(MAINTENANCE)), stall)).await
    }

    async fn of(client: Program) -> Result<Self, Failure> {
        let mut session = Self { client: client.start()?, asked: 0 };
        session.run(SETTINGS).await?;
        Ok(session)
    }

    /// Lets answers take up to `longest` from here on.
    pub(super) fn wait_up_to(&mut self, longest: Duration) {
        self.client.wait_up_to(longest);
    }

    /// Runs one or more statements.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), Failure> {
        self.values(sql).await.map(drop)
    }

    /// The values that `sql`, one or more statements, gives, row by row. None of them may be NULL or without columns.
    pub(super) async fn values(&mut self, sql: &str) -> Result<Vec<String>, Failure> {
        self.asked += 1;
        let mark = format!("backstay-answered-{}", self.asked);
        self.client.write(format!("{sql};\nSELECT '{mark}';\n").as_bytes()).await?;
        let end = format!("{mark}\0");
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            let Some(bytes) = self.client.read().await? else { return Err(self.ended().await) };
            answer.extend_from_slice(&bytes);
            if answer.len() > LARGEST_ANSWER {
                let why = format!("the server's answer is larger than {LARGEST_ANSWER} bytes");
                return Err(Failure::Answer(why));
            }
        }
        answer.truncate(answer.len() - end.len());
        let text = String::from_utf8(answer);
        let text = text.map_err(|_| Failure::Answer("the server's answer is not UTF-8".to_owned()))?;
        Ok(text.split_terminator('\0').map(str::to_owned).collect())
    }

    /// The rows of `N` columns that `sql` gives.
    pub(super) async fn rows<const N: usize>(&mut self, sql: &str) -> Result<Vec<[String; N]>, Failure> {
        let values = self.values(sql).await?;
        let rows: Result<Vec<[String; N]>, _> = values.chunks(N).map(|row| row.to_vec().try_into()).collect();
        rows.map_err(|_| Failure::Answer(format!("the server did not give {N} columns for `{sql}`")))
    }

    /// The only row that `sql` gives.
    pub(super) async fn row<const N: usize>(&mut self, sql: &str) -> Result<[String; N], Failure> {
        match <[[String; N]; 1]>::try_from(self.rows(sql).await?) {
            Ok([row]) => Ok(row),
            Err(_) => Err(Failure::Answer(format!("the server did not give one row for `{sql}`"))),
        }
    }

    /// The time by the server's clock, in the same transaction as `also`, a statement that gives one value.
    pub(super) async fn clock(&mut self, also: &str) -> Result<Timestamp, Failure> {
        let sql = format!(
            "SELECT ({also}), pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', \
             'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
        );
        let [_, time] = self.row(&sql).await?;
        time.parse().map_err(|_| Failure::Answer(format!("the server's time can't be read: {time}")))
    }

    async fn ended(&mut self) -> Failure {
        match self.client.end().await {
            Err(error) => error.into(),
            Ok(()) => Failure::Answer("the client program ended before it answered".to_owned()),
        }
    }
}

fn client(access: &Access, to: String, stall: Duration) -> Program {
    let client = access.program(access.installed.newest(), "psql", stall);
    let client = client.arguments(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"]);
    let client = client.arguments(["--field-separator-zero", "--record-separator-zero"]);
    client.arguments(["--set=ON_ERROR_STOP=1"]).argument(to)
}

/// What a server is, and as whom it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its version, for people.
    pub version: String,
    pub major: u32,
    /// The role that is logged in, as SQL writes it.
    pub role: String,
    /// Whether that role may do everything.
    pub superuser: bool,
}

impl Identity {
    pub(super) async fn ask(session: &mut Session) -> Result<Self, Failure> {
        let sql = "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num'), \
                   pg_catalog.quote_ident(current_user), rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let [version, number, role, superuser] = session.row(sql).await?;
        let number: u32 = number
            .parse()
            .map_err(|_| Failure::Answer(format!("the server's version is no number: {number}")))?;
        Ok(Self { version, major: number / 10_000, role, superuser: superuser == "t" })
    }
}

/// A name as SQL writes it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_texts_can_not_end_early() {
        assert_eq!(identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(literal("a'\\"), "'a''\\'");
    }
}
