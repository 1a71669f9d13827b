//! etcd, by the HTTP gateway of its API: the stream is the snapshot file that `etcdctl snapshot save` writes, a
//! database followed by its SHA-256.
//!
//! ```text
//! client (HTTP, TLS, log-in) · member (which one is captured, and what it says of itself)
//! snapshot (messages, proof that they are whole) · file (the same proof of the file) · place (the way back, to a file)
//! bolt (the database in a file) -> keys (what it holds) -> load (into a running cluster)
//! ```
//!
//! No program of the engine's is used: `etcdctl` writes snapshots into files only, never into a stream.

mod bolt;
mod client;
mod file;
mod keys;
mod load;
mod member;
mod needs;
mod place;
mod snapshot;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Condition, Examined, Holds, Lack, Place, Probe, Restored, Sink, Source,
    SourceError, existing::Existing,
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counting, Counts, Details, Moment, Rows},
    },
    secrets::Secret,
    spec,
    stores::Class,
};
use client::Client;
use member::{Member, Revisions};
use snapshot::Snapshot;

/// How long a member may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// All that a cluster holds, from one of its members.
#[derive(Clone, Debug)]
pub struct EtcdSource {
    cluster: spec::Etcd,
    password: Option<Secret>,
    key: Option<Secret>,
    /// Where a snapshot is kept that is put back key by key, until it is proved whole.
    scratch: PathBuf,
    /// The file that the cluster was made of, where it is one of a sandbox.
    made_of: Option<PathBuf>,
    existing: Existing,
}

impl EtcdSource {
    /// What `cluster` declares, reached with the password and the key that the declaration refers to.
    pub fn new(cluster: spec::Etcd, password: Option<Secret>, key: Option<Secret>) -> Self {
        Self {
            cluster,
            password,
            key,
            scratch: std::env::temp_dir(),
            made_of: None,
            existing: Existing::Replaced,
        }
    }

    /// Keeps a snapshot that is put back into a running cluster in `scratch`, instead of where the system keeps such files.
    pub fn staging_in(self, scratch: PathBuf) -> Self {
        Self { scratch, ..self }
    }

    /// A cluster that was made of the snapshot in `file`: what it serves is held against that.
    pub fn made_of(self, file: PathBuf) -> Self {
        Self { made_of: Some(file), ..self }
    }

    fn subject(&self) -> String {
        format!("etcd at {}", self.cluster.endpoints.join(", "))
    }

    /// The first declared member that is fit to be captured.
    async fn member(&self) -> Result<Member, Failure> {
        let client = Client::new(&self.cluster, self.key.as_ref())?;
        let login = self.cluster.login.as_ref().zip(self.password.as_ref());
        let login = login.map(|(login, password)| (login.user.as_str(), password));
        let mut unfit = Vec::new();
        for endpoint in &self.cluster.endpoints {
            match Member::reach(&client, endpoint, login).await {
                Ok(member) => return Ok(member),
                Err(why) => unfit.push(format!("{endpoint}: {}", why.reason())),
            }
        }
        Err(Failure::NoMember(unfit.join("; ")))
    }

    /// Whether a member serves what the snapshot in `file` holds.
    async fn served(&self, file: &Path) -> Result<Condition, Failure> {
        let file = std::fs::File::open(file).map_err(Failure::Stream)?;
        let index = load::read_through(&file).await?;
        let keys = index.keys();
        match self.member().await?.keys().await {
            // Keys may go with their leases.
            Ok(served) if served <= keys && served >= keys - index.leased => {
                Ok(Condition::Sound(format!("a new member serves {served} keys")))
            }
            Ok(served) => Ok(Condition::Damaged(vec![format!(
                "a new member serves {served} keys, and the snapshot holds {keys}"
            )])),
            Err(Failure::Answer(said)) if index.has_users && asks_for_users(&said) => {
                Ok(Condition::Sound(format!(
                    "a new member runs on it, and asks for its users; {keys} keys by the snapshot itself"
                )))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn captured(&self, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> Result<Captured, Failure> {
        let member = self.member().await?;
        let mut snapshot = Snapshot::begin(&member, request.stall).await?;
        // The member opens its view before it sends the first message.
        let opened = request.now();
        while let Some(bytes) = snapshot.next().await? {
            sink.write(bytes).await?;
        }
        let revisions = Revisions { before: member.revision, after: member.revision_now().await? };
        let counts = counts(&member, revisions).await;
        Ok(Captured {
            moment: Moment::At { time: opened, position: Some(revisions.to_string()) },
            details: Details {
                versions: BTreeMap::from([("server".to_owned(), member.version.clone())]),
                counts,
                ..Details::default()
            },
        })
    }
}

/// Whether a member refuses because nobody logged in, in etcd's own words (`api/v3rpc/rpctypes/error.go`).
fn asks_for_users(said: &str) -> bool {
    ["user name is empty", "permission denied", "invalid auth token"].iter().any(|part| said.contains(part))
}

/// How many keys there are in what was captured.
async fn counts(member: &Member, revisions: Revisions) -> Counts {
    let Some(revision) = revisions.only() else {
        return Counts::NotCaptured("something was written while the snapshot was sent".to_owned());
    };
    match member.keys_at(revision).await {
        Ok(keys) => Counts::Captured(BTreeMap::from([("keys".to_owned(), keys)])),
        Err(failure) => Counts::NotCaptured(failure.reason()),
    }
}

#[async_trait]
impl Source for EtcdSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let member = self.member().await.map_err(|failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: format!("etcd {}", member.version) })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = async {
            let user = self.cluster.login.as_ref().map(|login| login.user.as_str());
            needs::lacks(&self.member().await?, user).await
        };
        lacks.await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let keys = async { self.member().await?.keys().await };
        match keys.await.map_err(|failure| failure.explain("look into", self.subject()))? {
            0 => Ok(Holds::Nothing),
            keys => Ok(Holds::Data(format!("{keys} keys"))),
        }
    }

    async fn count(&self, _: Counting) -> Result<Rows, SourceError> {
        let keys = async { self.member().await?.keys().await };
        let keys = keys.await.map_err(|failure| failure.explain("count", self.subject()))?;
        Ok(Counts::Captured(BTreeMap::from([("keys".to_owned(), keys)])).into())
    }

    async fn examine(&self) -> Vec<Examined> {
        let Some(file) = &self.made_of else { return Vec::new() };
        let condition = self.served(file).await.unwrap_or_else(|failure| {
            Condition::Unknown(Failure::explain(failure, "check", self.subject()).to_string())
        });
        vec![Examined { by: "etcd", condition }]
    }

    fn stream_name(&self) -> String {
        "snapshot.db".to_owned()
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
            Place::Database(_) => Err(Failure::Refused("etcd has no databases beside each other".to_owned())),
            Place::Bucket { .. } => Err(Failure::Refused("only objects go into a bucket".to_owned())),
            Place::Original => load::over_original(self, stream).await,
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    /// The member can't be reached, or the connection broke.
    Connection(String),
    /// What is declared is no good for a connection.
    Settings(String),
    /// The member was silent for so long.
    Stalled(Duration),
    /// The member refuses, in its own words.
    Answer(String),
    /// What the member answered is not what was asked for.
    Unexpected(String),
    /// None of the declared members is fit, and why.
    NoMember(String),
    /// A snapshot does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// The place to restore to is no good.
    Place(String),
    /// A running cluster got a part of its data, and then this went wrong.
    Partly(Box<Failure>),
    /// What was asked can't be done.
    Refused(String),
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Stalled(silence) => {
                let silence = humantime::format_duration(silence);
                error(Class::Retry, format!("the member was silent for {silence}"))
            }
            Failure::Unexpected(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Settings(why) | Failure::Place(why) => error(Class::Stalled, why),
            Failure::Refused(why) => error(Class::Stalled, why).with_hint(place::BY_HAND),
            Failure::Partly(why) => {
                let why = why.explain(operation, String::new());
                let next = why.hint.map(|hint| format!("{hint}; then ")).unwrap_or_default();
                error(Class::Stalled, format!("{}; the cluster holds a part of the data now", why.reason))
                    .with_hint(format!("{next}restore again, which begins anew"))
            }
            Failure::Connection(why) | Failure::Answer(why) | Failure::NoMember(why) => {
                match HINTS.iter().find(|(part, _)| why.contains(part)) {
                    Some((_, hint)) => error(Class::Stalled, why).with_hint(*hint),
                    None => error(Class::Retry, why),
                }
            }
        }
    }
}

/// What only a person can mend, by what the member or its connection says of it.
const HINTS: [(&str, &str); 8] = [
    (
        "database space exceeded",
        "compact and defragment the members, or give them more (`--quota-backend-bytes`), and `etcdctl alarm disarm`",
    ),
    ("invalid user ID or password", "check user and password"),
    (
        "authentication is not enabled",
        "the cluster has no users: remove user and password from the declaration",
    ),
    (
        "user name is empty",
        "declare user and password: the name in a certificate does not count at etcd's HTTP gateway",
    ),
    (
        "permission denied",
        "only a user with the role root may take snapshots, and put all keys back: etcdctl user grant-role … root",
    ),
    ("404 Not Found", "let the member serve its gateway: enable-grpc-gateway: true in its configuration"),
    ("invalid peer certificate", "declare in tls.ca the authority that signed the members' certificates"),
    ("received fatal alert", "declare in tls.cert and tls.key a certificate that the members accept"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_member_that_says_so_asks_for_its_users() {
        for said in ["400 Bad Request: etcdserver: user name is empty", "403: etcdserver: permission denied"]
        {
            assert!(asks_for_users(said), "{said}");
        }
        for said in
            ["503 Service Unavailable: etcdserver: no leader", "500: mvcc: corrupt", "404 Not Found: "]
        {
            assert!(!asks_for_users(said), "{said}");
        }
    }
}
