//! One session with a server, through the client program: questions go to its standard input, rows come from its
//! standard output.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::{ANSWER, Failure, access::Access};
use crate::{
    process::{Process, Program},
    sources::{CaptureRequest, two_clocks::TwoClocks},
};

/// The largest answer, bytes.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

/// Hexadecimal digits of a server's identity.
const IDENTITY: usize = 16;

/// An open session. It ends with its first failing statement.
#[derive(Debug)]
pub(super) struct Session {
    client: Process,
    asked: u64,
}

impl Session {
    /// Starts a session in `database`, whose answers may take `stall`. The server is reached by the first statement.
    pub(super) fn open(access: &Access, database: Option<&str>, stall: Duration) -> Result<Self, Failure> {
        Self::of(client(access, database, stall))
    }

    /// The same for what only reads: what is given up is ended on the server too, as by Ctrl-C at a keyboard. What changes something is
    /// not: the server may be left with half of it, as one that can't begin a binary log stops to write any.
    pub(super) fn open_to_read(
        access: &Access,
        database: Option<&str>,
        stall: Duration,
    ) -> Result<Self, Failure> {
        Self::of(client(access, database, stall).interrupted())
    }

    fn of(client: Program) -> Result<Self, Failure> {
        Ok(Self { client: client.start()?, asked: 0 })
    }

    /// Lets answers take up to `longest` from here on.
    pub(super) fn wait_up_to(&mut self, longest: Duration) {
        self.client.wait_up_to(longest);
    }

    /// The rows that `sql`, one or more statements, gives.
    pub(super) async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, Failure> {
        self.asked += 1;
        let mark = format!("backstay-answered-{}", self.asked);
        self.client.write(format!("{sql};\nSELECT '{mark}';\n").as_bytes()).await?;
        let mut answer = Vec::new();
        let end = format!("{mark}\n");
        while !answer.ends_with(end.as_bytes()) {
            let Some(bytes) = self.client.read().await? else {
                return Err(self.ended().await);
            };
            answer.extend_from_slice(&bytes);
            if answer.len() > LARGEST_ANSWER {
                return Err(Failure::Answer(format!(
                    "the server's answer is larger than {LARGEST_ANSWER} bytes"
                )));
            }
        }
        answer.truncate(answer.len() - end.len());
        parse(&answer)
    }

    /// The only value that `sql` gives.
    pub(super) async fn one(&mut self, sql: &str) -> Result<String, Failure> {
        let mut rows = self.rows(sql).await?;
        match rows.pop().and_then(|mut row| row.pop()) {
            Some(value) if rows.is_empty() => Ok(value),
            _ => Err(Failure::Answer(format!("the server did not give one value for `{sql}`"))),
        }
    }

    /// Which server this is: another one, or one that was set up anew, has another identity. Tells nothing by itself.
    pub(super) async fn server_identity(&mut self) -> Result<String, Failure> {
        let known = "'hostname', 'port', 'server_id', 'server_uid', 'server_uuid'";
        let rows = self.rows(&format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({known})")).await?;
        let variables: BTreeSet<String> = rows.into_iter().map(|row| row.join("=")).collect();
        let digest = Sha256::digest(variables.into_iter().collect::<Vec<_>>().join("\n"));
        Ok(hex::encode(digest).chars().take(IDENTITY).collect())
    }

    /// Now, by both clocks, in a session of its own.
    pub(super) async fn clocks(access: &Access, request: &CaptureRequest<'_>) -> Result<TwoClocks, Failure> {
        // In UTC no hour comes twice.
        let asked = "SET time_zone = '+00:00'; SELECT UNIX_TIMESTAMP(NOW(6))";
        let seconds = Self::open(access, None, ANSWER)?.one(asked).await?;
        let servers = seconds.parse().ok().and_then(|it| SignedDuration::try_from_secs_f64(it).ok());
        let servers = servers.and_then(|it| Timestamp::UNIX_EPOCH.checked_add(it).ok());
        let unreadable = || Failure::Answer(format!("the server's time can't be read: {seconds}"));
        Ok(TwoClocks { servers: servers.ok_or_else(unreadable)?, ours: request.now() })
    }

    async fn ended(&mut self) -> Failure {
        match self.client.end().await {
            Err(error) => error.into(),
            Ok(()) => Failure::Answer("the client program ended before it answered".to_owned()),
        }
    }
}

fn client(access: &Access, database: Option<&str>, stall: Duration) -> Program {
    let client = access.client(stall).arguments(["--batch", "--skip-column-names", "--unbuffered"]);
    let client = client.arguments(["--skip-reconnect", "--no-auto-rehash"]);
    database.into_iter().fold(client, |client, name| client.argument(format!("--database={name}")))
}

/// Rows of the client's batch format: tabs between values; backslash, tab, line end and NUL are escaped in them.
fn parse(answer: &[u8]) -> Result<Vec<Vec<String>>, Failure> {
    let text = std::str::from_utf8(answer);
    let text = text.map_err(|_| Failure::Answer("the server's answer is not UTF-8".to_owned()))?;
    Ok(text.lines().map(|line| line.split('\t').map(unescaped).collect()).collect())
}

fn unescaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        match (c, if c == '\\' { characters.next() } else { None }) {
            ('\\', Some('n')) => text.push('\n'),
            ('\\', Some('t')) => text.push('\t'),
            ('\\', Some('0')) => text.push('\0'),
            ('\\', Some(other)) => text.push(other),
            _ => text.push(c),
        }
    }
    text
}

/// A name as SQL writes it.
pub(super) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as SQL writes it.
pub(super) fn literal(text: &str) -> String {
    // Hexadecimal needs no escapes, whatever the server's mode.
    format!("CONVERT(X'{}' USING utf8mb4)", hex::encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_batch_format_are_read_back() {
        let rows = parse("a\tb\\tc\\\\\\n\n\nä\\0\n".as_bytes()).unwrap();
        assert_eq!(rows, [vec!["a", "b\tc\\\n"], vec![""], vec!["ä\0"]]);
    }

    #[test]
    fn names_and_texts_can_not_end_early() {
        assert_eq!(identifier("a`b"), "`a``b`");
        assert_eq!(literal("a'\\"), "CONVERT(X'61275c' USING utf8mb4)");
    }
}
