//! MongoDB, over its wire protocol. The stream is an archive in the format of `mongodump --archive`.
//!
//! ```text
//! access (who is asked, and what it is) · catalog (what there is) · metadata (what makes a collection again)
//! depth (what is decoded) · archive (the format) · dump, pieces (the stream) · reader (what proves that a stream is whole) · load, targets (the way back)
//! oplog (what is written meanwhile, and since)
//! ```
//!
//! Collections are read one after another. Where the server has an oplog, what was written meanwhile stands in the archive as well,
//! and brings all that was read to one moment; elsewhere of what was written meanwhile some is in it and some is not.

mod access;
mod archive;
mod catalog;
mod depth;
mod dump;
mod load;
mod metadata;
mod needs;
mod oplog;
mod pieces;
mod reader;
mod targets;

use std::{collections::BTreeSet, io, time::Duration};

use async_trait::async_trait;
use mongodb::error::{Error, ErrorKind};
use tokio::{io::AsyncRead, time::timeout};

use super::{
    CaptureRequest, Captured, Holds, Lack, Place, Probe, Replay, Restored, Sink, Source, SourceError,
    existing::Existing,
};
use crate::{artifact::Kind, secrets::Secret, spec, stores::Class};
use access::Access;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// How long the server may take over one command of a restore, such as the building of a large collection's indexes.
const COMMAND: Duration = Duration::from_secs(6 * 3600);

/// Databases of one server, or of one member of a replica set.
#[derive(Clone, Debug)]
pub struct MongodbSource {
    mongodb: spec::Mongodb,
    password: Option<Secret>,
    existing: Existing,
}

impl MongodbSource {
    /// What `mongodb` declares, reached with `password`, the one that the declaration refers to.
    pub fn new(mongodb: spec::Mongodb, password: Option<Secret>) -> Self {
        Self { mongodb, password, existing: Existing::Replaced }
    }

    fn subject(&self) -> String {
        let server = &self.mongodb.server;
        let databases = match server.databases.as_slice() {
            [] => "all databases".to_owned(),
            [one] => format!("database {one}"),
            several => format!("databases {}", several.join(", ")),
        };
        match &server.socket {
            Some(socket) => format!("{databases} on {}", socket.display()),
            None => format!("{databases} on {}", server.host),
        }
    }

    /// The one database that is declared, which can be restored under another name.
    fn single(&self) -> Option<&str> {
        match self.mongodb.server.databases.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }

    async fn access(&self) -> Result<Access, Failure> {
        Access::open(&self.mongodb, self.password.as_ref()).await
    }

    async fn restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        match place {
            Place::File(path) => load::to_file(stream, path).await,
            Place::Folder(folder) => load::to_folder(stream, folder, &self.stream_name()).await,
            Place::Database(name) if self.single().is_some() => {
                load::to_new_database(&self.access().await?, stream, name).await
            }
            Place::Database(_) => Err(Failure::Refused(
                "several databases were captured, each with its own name; restore them to a file, or over the original"
                    .to_owned(),
            )),
            Place::Bucket { .. } => Err(Failure::Refused("only objects go into a bucket".to_owned())),
            Place::Original => load::over_original(&self.access().await?, stream, self.existing).await,
        }
    }

    async fn replayed(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        replay: &Replay,
    ) -> Result<String, Failure> {
        match place {
            Place::Folder(folder) => oplog::to_folder(stream, folder, replay).await,
            Place::Original => oplog::over_original(&self.access().await?, stream, replay).await,
            Place::File(_) | Place::Database(_) | Place::Bucket { .. } => Err(Failure::Refused(
                "what is replayed names the original; restore in place, or to a folder".to_owned(),
            )),
        }
    }

    fn explained(&self, operation: &'static str, failure: Failure) -> SourceError {
        failure.explain(operation, self.subject(), self.mongodb.server.user.as_deref())
    }
}

#[async_trait]
impl Source for MongodbSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version = async {
            let access = self.access().await?;
            catalog::databases(&access).await?;
            Ok(access.version.for_people())
        };
        let version = version.await.map_err(|failure| self.explained("probe", failure))?;
        Ok(Probe { version })
    }

    async fn lacks(&self, kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let user = self.mongodb.server.user.as_deref();
        let lacks = async { needs::lacks(&self.access().await?, user, kinds.contains(&Kind::Log)).await };
        lacks.await.map_err(|failure| self.explained("probe", failure))
    }

    fn stream_name(&self) -> String {
        format!("{}.archive", self.single().unwrap_or("databases").replace('/', "_"))
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            let captured = async { oplog::capture(&self.access().await?, request, sink).await };
            return captured.await.map_err(|failure| self.explained("capture the oplog of", failure));
        }
        let captured = async { dump::capture(&self.access().await?, request, sink).await };
        captured.await.map_err(|failure| self.explained("dump", failure))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place).await;
        restored.map(|place| Restored { place }).map_err(|failure| self.explained("restore", failure))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let found = async { catalog::first_documents(&self.access().await?, None).await };
        let found = found.await.map_err(|failure| self.explained("look into", failure))?;
        Ok(found.map_or(Holds::Nothing, |collection| Holds::Data(format!("documents in {collection}"))))
    }

    async fn make_way(&self) -> Result<(), SourceError> {
        let made = async { load::drop_databases(&self.access().await?).await };
        made.await.map_err(|failure| self.explained("make way for", failure))
    }

    async fn replay(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        replay: &Replay,
    ) -> Result<Restored, SourceError> {
        let replayed = self.replayed(stream, place, replay).await;
        replayed
            .map(|place| Restored { place })
            .map_err(|failure| self.explained("replay the oplog of", failure))
    }
}

/// The server's answer, or the failure that it kept silent for longer than `patience`.
async fn answer<T>(
    patience: Duration,
    asked: impl IntoFuture<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(patience, asked.into_future()).await {
        Ok(answered) => Ok(answered?),
        Err(_) => Err(Failure::Silent(patience)),
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    Server(Error),
    /// The server said nothing for so long.
    Silent(Duration),
    /// What the server answered is not what was asked for, or changed while it was read.
    Answer(String),
    /// A stream does not show that it is whole.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// There is no oplog, and why.
    NoLog(&'static str),
    /// What was asked can't be done, or would overwrite something.
    Refused(String),
    /// A restore in place failed when some was in place, and what is left to do.
    HalfDone {
        why: Box<Failure>,
        left: String,
    },
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Server(error)
    }
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl Failure {
    fn explain(self, operation: &'static str, subject: String, user: Option<&str>) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject.clone(), class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Silent(patience) => {
                error(Class::Retry, format!("it was silent for {}", humantime::format_duration(patience)))
            }
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::NoLog(why) => error(Class::Stalled, why.to_owned()).with_hint(
                "declare a member of a replica set and a user with the role backup of the database admin, or use a policy without `log`",
            ),
            Failure::HalfDone { why, left } => {
                let why = why.explain(operation, subject, user);
                SourceError { class: Class::Stalled, ..why }.with_hint(left)
            }
            Failure::Server(why) => {
                let said = said(&why.kind);
                match hint(&why.kind, &said, user) {
                    Some(hint) => error(Class::Stalled, said).with_hint(hint),
                    None => error(Class::Retry, said),
                }
            }
        }
    }
}

/// What an error says, without the driver's own frame around the server's words.
fn said(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::Command(refused) => refused.message.clone(),
        ErrorKind::InsertMany(refused) => match refused.write_errors.iter().flatten().next() {
            Some(first) => format!("a document was refused: {}", first.message),
            None => kind.to_string(),
        },
        other => other.to_string(),
    }
}

/// Codes of refused commands (MongoDB manual, "Error Codes").
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const NOT_WRITABLE_PRIMARY: i32 = 10107;

/// How a person mends what only a person can mend.
fn hint(kind: &ErrorKind, said: &str, user: Option<&str>) -> Option<String> {
    match kind {
        ErrorKind::Authentication { .. } => Some("check user, password and auth_database".to_owned()),
        ErrorKind::InvalidTlsConfig { .. } => Some("check tls.ca".to_owned()),
        ErrorKind::Command(refused) => match refused.code {
            AUTHENTICATION_FAILED => Some("check user, password and auth_database".to_owned()),
            UNAUTHORIZED => Some(grant(user)),
            NOT_WRITABLE_PRIMARY => {
                Some("declare the primary of the replica set to restore to it".to_owned())
            }
            _ => None,
        },
        _ if said.contains("certificate") => {
            Some("check tls.ca, and that the server's certificate names this host".to_owned())
        }
        _ => None,
    }
}

fn grant(user: Option<&str>) -> String {
    match user {
        Some(user) => format!(
            "in the database of the user, as an administrator: db.grantRolesToUser({user:?}, \
             [{{role: \"backup\", db: \"admin\"}}]); for restores also {{role: \"restore\", db: \"admin\"}}, and \
             to replay the oplog a role with anyAction on anyResource"
        ),
        None => {
            "declare a user with the role backup, for restores also restore, of the database admin".to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32) -> ErrorKind {
        let answer = bson::doc! { "code": code, "codeName": "X", "errmsg": "not allowed" };
        ErrorKind::Command(bson::deserialize_from_document(answer).unwrap())
    }

    #[test]
    fn what_only_a_person_can_mend_is_told_with_how() {
        let hint = |code| hint(&refused(code), "not allowed", Some("backup"));
        assert!(hint(UNAUTHORIZED).unwrap().contains("grantRolesToUser(\"backup\""));
        assert!(hint(AUTHENTICATION_FAILED).unwrap().contains("password"));
        assert!(hint(NOT_WRITABLE_PRIMARY).unwrap().contains("primary"));
        assert_eq!(hint(11600), None);
        assert_eq!(said(&refused(UNAUTHORIZED)), "not allowed");
    }
}
