//! Redis, by its replication protocol: the stream is the RDB file that the server sends to a new replica.
//!
//! ```text
//! connection (TCP or TLS, log-in, answers) · identity (which server) · resync (the file as it is sent)
//! rdb (proof that it is whole) · place (the way back, to a file)
//! items (what a file holds) -> staged (the commands that bring it back) -> load (into a running server)
//! ```
//!
//! No program of the engine's is used: `redis-cli --rdb` shows neither that the server is alive while it saves for
//! longer than a stall, nor where the file ends when it is sent as it is made.

mod connection;
mod identity;
mod items;
mod load;
mod needs;
mod place;
mod rdb;
mod resync;
mod staged;

use std::{collections::BTreeSet, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Condition, Examined, Holds, Lack, Place, Probe, Restored, Sink, Source,
    SourceError, existing::Existing,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counts, Details, Moment},
    },
    secrets::Secret,
    spec,
    stores::Class,
};
use connection::Connection;
use identity::Identity;
use rdb::{Checksum, Rdb, RdbCheck};
use resync::Resync;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// All that one server holds.
#[derive(Clone, Debug)]
pub struct RedisSource {
    server: spec::Redis,
    password: Option<Secret>,
    /// Where it is reached instead, without a password.
    socket: Option<PathBuf>,
    /// Where a file is kept that is put back key by key, until it is proved whole.
    scratch: PathBuf,
    existing: Existing,
}

impl RedisSource {
    /// What `server` declares, reached with `password`, the one that the declaration refers to.
    pub fn new(server: spec::Redis, password: Option<Secret>) -> Self {
        Self { server, password, socket: None, scratch: std::env::temp_dir(), existing: Existing::Replaced }
    }

    /// Keeps a file that is put back into a running server in `scratch`, instead of where the system keeps such files.
    pub fn staging_in(self, scratch: PathBuf) -> Self {
        Self { scratch, ..self }
    }

    /// The server on a socket of this host, which asks for no password, instead. It answers once it has loaded its file.
    pub fn at_socket(self, socket: PathBuf) -> Self {
        Self { socket: Some(socket), password: None, ..self }
    }

    fn subject(&self) -> String {
        match &self.socket {
            Some(socket) => format!("Redis on {}", socket.display()),
            None => format!("Redis on {}:{}", self.server.host, self.server.port),
        }
    }

    async fn identify(&self, stall: Duration) -> Result<(Connection, Identity), Failure> {
        let stall = ANSWER.min(stall);
        let mut connection = match &self.socket {
            Some(socket) => Connection::open_socket(socket, stall).await?,
            None => Connection::open(&self.server, self.password.as_ref(), stall).await?,
        };
        let identity = Identity::ask(&mut connection).await?;
        Ok((connection, identity))
    }

    async fn captured(&self, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> Result<Captured, Failure> {
        let asked = request.now();
        let (connection, server) = self.identify(request.stall).await?;
        let mut resync = Resync::begin(connection.patient(request.stall), request.clock).await?;
        let mut check = RdbCheck::default();
        while let Some(bytes) = resync.next().await? {
            check.look(&bytes);
            sink.write(bytes).await?;
        }
        let rdb = check.finish().map_err(Failure::Incomplete)?;
        let time = server.moment_of(&rdb, asked, resync.began());
        Ok(described(&server, &rdb, resync.position(), time))
    }
}

/// How many keys a server holds, by what it says of its databases: `db0:keys=3,expires=0,avg_ttl=0`, a line each.
fn keys(keyspace: &str) -> u64 {
    let of_database = |line: &str| -> Option<u64> {
        let (_, about) = line.trim().strip_prefix("db")?.split_once(":keys=")?;
        about.split(',').next()?.parse().ok()
    };
    keyspace.lines().filter_map(of_database).sum()
}

/// What a whole file represents.
fn described(server: &Identity, rdb: &Rdb, position: String, time: Timestamp) -> Captured {
    let versions = [("server", server.version.clone()), ("rdb", rdb.version.to_string())];
    let mut omitted = Vec::new();
    if server.is_of_a_cluster {
        omitted
            .push("the server is one node of a cluster: only the slots that it serves are held".to_owned());
    }
    if rdb.checksum == Checksum::SwitchedOff {
        omitted.push(
            "the server writes no checksum (rdbchecksum no): the file's length is proved, not its content"
                .to_owned(),
        );
    }
    let counts = "the server counts its keys only as they are now, not as they are in the file";
    Captured {
        moment: Moment::At { time, position: Some(position) },
        details: Details {
            versions: versions.map(|(name, version)| (name.to_owned(), version)).into(),
            counts: Counts::NotCaptured(counts.to_owned()),
            omitted,
            ..Details::default()
        },
    }
}

#[async_trait]
impl Source for RedisSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let identified = self.identify(ANSWER).await;
        let (_, server) = identified.map_err(|failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: server.version })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = async {
            let (mut connection, server) = self.identify(ANSWER).await?;
            needs::lacks(&mut connection, self.server.user.as_deref(), server.release()).await
        };
        lacks.await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        "dump.rdb".to_owned()
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let asked = async {
            let (mut connection, _) = self.identify(ANSWER).await?;
            load::held(&mut connection).await
        };
        let held = asked.await.map_err(|failure| failure.explain("look into", self.subject()))?;
        Ok(held.told().map_or(Holds::Nothing, Holds::Data))
    }

    async fn examine(&self) -> Vec<Examined> {
        let counted = async {
            let (mut connection, _) = self.identify(ANSWER).await?;
            Ok(keys(&connection.text(&["INFO", "keyspace"]).await?))
        };
        let condition = match counted.await {
            Ok(keys) => Condition::Sound(format!("{keys} keys loaded")),
            Err(failure) => {
                Condition::Unknown(Failure::explain(failure, "check", self.subject()).to_string())
            }
        };
        vec![Examined { by: "redis-server", condition }]
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        let captured = self.captured(request, sink).await;
        captured.map_err(|failure| failure.explain("capture", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = match place {
            Place::File(path) => place::to_file(stream, path).await,
            Place::Folder(folder) => place::to_folder(stream, folder, &self.stream_name()).await,
            Place::Database(_) => Err(Failure::Refused {
                why: "Redis has numbered databases, and loads a file only as a whole".to_owned(),
                hint: place::BY_HAND,
            }),
            Place::Bucket { .. } => Err(Failure::Refused {
                why: "only objects go into a bucket".to_owned(),
                hint: place::BY_HAND,
            }),
            Place::Original => load::over_original(self, stream).await,
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    /// The connection can't be made, or broke.
    Connection(String),
    /// What is declared is no good for a connection.
    Settings(String),
    /// The server was silent for so long.
    Stalled(Duration),
    /// The server refuses, in its own words.
    Answer(String),
    /// What the server answered is not what was asked for.
    Unexpected(String),
    /// A file does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// The place to restore to is no good.
    Place(String),
    /// A running server got a part of its data, and then this went wrong.
    Partly(Box<Failure>),
    /// What was asked can't be done.
    Refused {
        why: String,
        hint: &'static str,
    },
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Connection(why) => {
                error(Class::Retry, why).with_hint("check that the server runs, and host and port")
            }
            Failure::Stalled(silence) => {
                let silence = humantime::format_duration(silence);
                error(Class::Retry, format!("the server was silent for {silence}"))
            }
            Failure::Unexpected(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Settings(why) | Failure::Place(why) => error(Class::Stalled, why),
            Failure::Partly(why) => {
                let why = why.explain(operation, String::new());
                let next = why.hint.map(|hint| format!("{hint}; then ")).unwrap_or_default();
                error(Class::Stalled, format!("{}; the server holds a part of the data now", why.reason))
                    .with_hint(format!("{next}restore again, which begins anew"))
            }
            Failure::Refused { why, hint } => error(Class::Stalled, why).with_hint(hint),
            Failure::Answer(said) => match HINTS.iter().find(|(part, _)| said.contains(part)) {
                Some((_, hint)) => error(Class::Stalled, said).with_hint(*hint),
                None => error(Class::Retry, said),
            },
        }
    }
}

/// What only a person can mend, by what the server says of it.
const HINTS: [(&str, &str); 9] = [
    ("OOM command not allowed", "the data has no room in the server's `maxmemory`: give it more"),
    (
        "DB index is out of range",
        "the server has fewer databases than the one that was captured: set `databases`",
    ),
    ("WRONGPASS", "check user and password"),
    ("invalid password", "check the password"),
    ("NOAUTH", "declare the password"),
    (
        "without any password configured",
        "the server has no password: remove it from the declaration, or set one",
    ),
    ("no password is set", "the server has no password: remove it from the declaration, or set one"),
    (
        "NOPERM",
        "let the user replicate: ACL SETUSER … +psync +replconf +info; to restore in place let it write as well: ~* +select +restore +del \
         +dbsize +flushall +function",
    ),
    ("DENIED", "let this host in: set a password and `bind` an address that it reaches"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_databases_are_counted() {
        let keyspace = "# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb7:keys=40,expires=1,avg_ttl=9\r\n";
        assert_eq!(keys(keyspace), 43);
        assert_eq!(keys("# Keyspace\r\n"), 0);
    }
}
