//! A full resynchronisation: the server sends what a new replica needs, and is done with us. Sources of the protocol:
//! Redis, `src/replication.c` (`syncCommand`, `readSyncBulkPayload`).

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Failure,
    connection::{Connection, Line, unexpected},
};
use crate::clock::Clock;

/// The length of the mark that follows a file that is sent as it is made, bytes.
const MARK: usize = 40;

/// A file on its way.
pub(super) struct Resync {
    connection: Connection,
    position: String,
    began: Timestamp,
    rest: Rest,
}

/// What is still to come.
#[derive(Debug, PartialEq, Eq)]
enum Rest {
    /// So many bytes of a file that the server has on its disk.
    Bytes(u64),
    /// All up to a mark of random bytes, of a file that the server makes as it sends it.
    UpTo([u8; MARK]),
    Nothing,
}

impl Resync {
    /// Asks for the file and waits until it begins. The server may have to save it first.
    pub(super) async fn begin(mut connection: Connection, clock: &dyn Clock) -> Result<Self, Failure> {
        can(&mut connection, ["capa", "eof"]).await?;
        // From Redis 7 on, the server ends the transfer with the file instead of going on to replicate.
        can(&mut connection, ["rdb-only", "1"]).await?;
        let position = match connection.ask(&["PSYNC", "?", "-1"]).await? {
            Line::Fine(answer) => position(&answer).ok_or_else(|| unexpected("PSYNC"))?,
            Line::Refused(said) => return Err(Failure::Answer(said)),
            Line::Counted(_) | Line::Number(_) => return Err(unexpected("PSYNC")),
        };
        // The server answers once it has forked, or is about to: what it saves is of that moment.
        let began = clock.now();
        let rest = match connection.line().await? {
            Line::Counted(announced) => Rest::read(&announced).ok_or_else(|| unexpected("PSYNC"))?,
            Line::Refused(said) => return Err(Failure::Answer(said)),
            Line::Fine(_) | Line::Number(_) => return Err(unexpected("PSYNC")),
        };
        Ok(Self { connection, position, began, rest })
    }

    /// The replication's id and offset of the moment that the file holds.
    pub(super) fn position(&self) -> String {
        self.position.clone()
    }

    /// When the server had begun.
    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// The next bytes of the file; `None` once the server has sent all of it.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.rest {
            Rest::Nothing | Rest::Bytes(0) => Ok(None),
            Rest::Bytes(rest) => {
                let received = self.connection.at_least(1).await?;
                let length = received.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
                self.rest = Rest::Bytes(rest - length as u64);
                Ok(Some(received.split_to(length).freeze()))
            }
            Rest::UpTo(mark) => self.up_to(mark).await,
        }
    }

    async fn up_to(&mut self, mark: [u8; MARK]) -> Result<Option<Bytes>, Failure> {
        let mut least = 1;
        loop {
            let received = self.connection.at_least(least).await?;
            // Nothing follows the mark: the server waits for an acknowledgement, or has closed the connection.
            if received.ends_with(&mark) {
                self.rest = Rest::Nothing;
                let length = received.len() - MARK;
                return Ok((length > 0).then(|| received.split_to(length).freeze()));
            }
            if received.len() > MARK {
                let length = received.len() - MARK;
                return Ok(Some(received.split_to(length).freeze()));
            }
            least = received.len() + 1;
        }
    }
}

/// Tells the server what we understand. One that does not know it goes without, unless it lets us not replicate at all.
async fn can(connection: &mut Connection, capability: [&str; 2]) -> Result<(), Failure> {
    let [name, value] = capability;
    match connection.ask(&["REPLCONF", name, value]).await? {
        Line::Refused(said) if said.starts_with("NO") || said.contains("unknown command") => {
            Err(Failure::Answer(said))
        }
        Line::Fine(_) | Line::Refused(_) => Ok(()),
        Line::Counted(_) | Line::Number(_) => Err(unexpected("REPLCONF")),
    }
}

/// `FULLRESYNC id offset`, as one word.
fn position(answer: &str) -> Option<String> {
    let mut words = answer.strip_prefix("FULLRESYNC ")?.split(' ');
    let (id, offset) = (words.next()?, words.next()?);
    let is_one = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let offset: i64 = offset.parse().ok().filter(|_| is_one)?;
    Some(format!("{id}:{offset}"))
}

impl Rest {
    fn read(announced: &str) -> Option<Self> {
        match announced.strip_prefix("EOF:") {
            Some(mark) => Some(Rest::UpTo(mark.as_bytes().try_into().ok()?)),
            None => Some(Rest::Bytes(announced.parse().ok()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, copy, duplex, sink, split};

    use super::*;
    use crate::clock::SystemClock;

    const MARKER: &str = "0123456789abcdef0123456789abcdef01234567";

    /// What is received of a server that sends `pieces` one after another, and then closes the connection.
    async fn received(pieces: Vec<Vec<u8>>) -> Result<Vec<u8>, Failure> {
        let (ours, server) = duplex(64);
        let (mut asked, mut answers) = split(server);
        let send = async {
            for piece in pieces {
                let _ = answers.write_all(&piece).await;
                tokio::task::yield_now().await;
            }
            let _ = answers.shutdown().await;
        };
        let listen = async { copy(&mut asked, &mut sink()).await };
        let receive = async {
            let connection = Connection::over(Box::new(ours), Duration::from_secs(5));
            let mut resync = Resync::begin(connection, &SystemClock).await?;
            let mut all = Vec::new();
            while let Some(bytes) = resync.next().await? {
                all.extend_from_slice(&bytes);
            }
            assert_eq!(resync.position(), "8de1787ba490483314a4d30f1c628bc5025eb761:1344");
            Ok(all)
        };
        tokio::join!(receive, send, listen).0
    }

    fn sent(announced: &str, after: &[u8], size: usize) -> Vec<Vec<u8>> {
        let begin = format!(
            "+OK\r\n-ERR Unrecognized REPLCONF option: rdb-only\r\n\n\n\
             +FULLRESYNC 8de1787ba490483314a4d30f1c628bc5025eb761 1344\r\n\n\n${announced}\r\n"
        );
        [begin.as_bytes(), after].concat().chunks(size).map(<[u8]>::to_vec).collect()
    }

    #[tokio::test]
    async fn a_file_ends_where_the_server_says_however_it_is_cut() {
        let marked = format!("the file{MARKER}");
        for size in [1, 3, 39, 40, 41, 1000] {
            let counted = received(sent("8", b"the file*1\r\n$4\r\nPING\r\n", size)).await.unwrap();
            assert_eq!(counted, b"the file", "{size}");
            let made = received(sent(&format!("EOF:{MARKER}"), marked.as_bytes(), size)).await.unwrap();
            assert_eq!(made, b"the file", "{size}");
        }
    }

    #[tokio::test]
    async fn a_file_that_breaks_off_fails() {
        let short = &MARKER[..39];
        for (announced, after) in [
            ("9".to_owned(), "the file".to_owned()),
            (format!("EOF:{MARKER}"), "the file".to_owned()),
            (format!("EOF:{MARKER}"), format!("the file{short}")),
            (format!("EOF:{MARKER}"), format!("the file{MARKER}x")),
            (format!("EOF:{short}"), format!("the file{short}")),
            ("-1".to_owned(), String::new()),
        ] {
            let failed = received(sent(&announced, after.as_bytes(), 1000)).await;
            failed.expect_err(&format!("{announced}: {after}"));
        }
    }

    #[tokio::test]
    async fn a_server_that_lets_nobody_replicate_is_believed() {
        for refusal in [
            "-NOPERM this user has no permissions to run the 'replconf' command\r\n",
            "+OK\r\n+OK\r\n-NOMASTERLINK Can't SYNC while not connected with my master\r\n",
            "+OK\r\n+OK\r\n+FULLRESYNC 8de1 0\r\n-ERR BGSAVE failed, replication can't continue\r\n",
        ] {
            let refused = received(vec![refusal.as_bytes().to_vec()]).await;
            assert!(matches!(refused, Err(Failure::Answer(_))), "{refused:?}");
        }
        received(vec![b"+OK\r\n+OK\r\n+CONTINUE 8de1\r\n".to_vec()])
            .await
            .expect_err("nothing was asked to go on");
    }
}
