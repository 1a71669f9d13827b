//! InfluxDB 2.x, by its HTTP API. The stream is an archive with a record of the buckets and a folder with files for each
//! of their shards.
//!
//! ```text
//! names · buckets (what the server says of them) · api (questions and their answers) · body (answers that are read as streams)
//! metadata (the list of all buckets, out of several parts) -> capture -> layout (the stream)
//! setup (of a new server) · layout -> restore (the way back) -> upload (one shard) · exchange (a bucket for another)
//! inspect (what is there)
//! ```
//!
//! No shard is staged: files go from the server into the stream as they come, and from the stream to the server.

mod api;
mod body;
mod buckets;
mod capture;
mod exchange;
mod inspect;
mod layout;
mod metadata;
mod names;
mod needs;
mod restore;
mod setup;
mod upload;

use std::{collections::BTreeSet, io, path::PathBuf, time::Duration};

use async_trait::async_trait;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Holds, Lack, Place, Probe, Restored, Sink, Source, SourceError,
    blocking::Unwanted, existing::Existing,
};
use crate::{artifact::Kind, secrets::Secret, spec, stores::Class};
use api::Api;
use names::BucketName;

/// How long the server may be silent on what it answers at once.
const ANSWER: Duration = Duration::from_secs(60);

/// Buckets of one organization.
#[derive(Clone, Debug)]
pub struct Influxdb2Source {
    api: Api,
    /// As declared; empty means all but the engine's own.
    buckets: Vec<BucketName>,
    scratch: PathBuf,
    existing: Existing,
}

impl Influxdb2Source {
    /// What `influxdb2` declares, reached with `token`, the one that the declaration refers to. The server's own databases are
    /// kept in `scratch` until their size is known.
    ///
    /// # Errors
    /// A name that no bucket has, or an authority that can't be read.
    pub fn new(influxdb2: spec::Influxdb2, token: Secret, scratch: PathBuf) -> Result<Self, SourceError> {
        let explain = |failure: Failure| failure.explain("open", format!("InfluxDB at {}", influxdb2.url));
        let buckets = influxdb2.buckets.iter().map(|name| BucketName::parse(name));
        Ok(Self {
            buckets: buckets.collect::<Result<_, _>>().map_err(explain)?,
            api: Api::new(&influxdb2, token).map_err(explain)?,
            scratch,
            existing: Existing::Replaced,
        })
    }

    fn subject(&self) -> String {
        let names: Vec<_> = self.buckets.iter().map(BucketName::as_str).collect();
        let what = match names.as_slice() {
            [] => "all buckets".to_owned(),
            [one] => format!("bucket {one}"),
            several => format!("buckets {}", several.join(", ")),
        };
        format!("{what} of {} at {}", self.api.organization_name(), self.api.base())
    }

    async fn probed(&self) -> Result<String, Failure> {
        let version = self.api.version().await?;
        let organization = self.api.organization().await?;
        for name in &self.buckets {
            if self.api.bucket(&organization, name).await?.is_none() {
                return Err(Failure::absent_bucket(name));
            }
        }
        Ok(version)
    }
}

#[async_trait]
impl Source for Influxdb2Source {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let version = self.probed().await.map_err(|failure| failure.explain("probe", self.subject()))?;
        Ok(Probe { version: format!("InfluxDB {version}") })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        needs::lacks(self).await.map_err(|failure| failure.explain("probe", self.subject()))
    }

    fn stream_name(&self) -> String {
        "influxdb2.tar".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        let captured = capture::capture(self, request, sink).await;
        captured.map_err(|failure| failure.explain("back up", self.subject()))
    }

    fn refuse_to_replace(&mut self) {
        self.existing = Existing::Refused;
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        inspect::holds(self, &[]).await.map_err(|failure| failure.explain("look into", self.subject()))
    }

    async fn ask(&self, bucket: Option<&str>, influxql: &str) -> Result<String, SourceError> {
        let asked = inspect::ask(self, bucket, influxql).await;
        asked.map_err(|failure| failure.explain("ask", self.subject()))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = match place {
            Place::File(path) => restore::to_file(stream, path).await,
            Place::Folder(folder) => restore::to_folder(stream, folder).await,
            Place::Database(name) => restore::to_new_bucket(self, stream, name).await,
            Place::Bucket { .. } => {
                Err(Failure::Refused("only objects go into a bucket of S3; use database:NAME".to_owned()))
            }
            Place::Original => restore::over_originals(self, stream).await,
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    /// The server can't be reached, or its answer breaks off.
    Unreached(String),
    /// What the server answered is not what was asked for.
    Answer(String),
    /// The server does not take the token for this.
    Unauthorized(String),
    /// What is declared is not there.
    Absent(String),
    /// What the server sent does not show that it is whole, or the stream does not.
    Incomplete(String),
    /// The stream that is restored failed.
    Stream(io::Error),
    /// A folder that is restored to failed.
    Folder(io::Error),
    /// What was asked can't be done, or would overwrite something.
    Refused(String),
    /// A bucket that was made is incomplete, or no longer wanted, and could not be removed.
    Remains {
        bucket: String,
        why: String,
    },
    /// The data are back, and something that belongs to them is not.
    Unfinished {
        bucket: String,
        what: String,
        why: String,
    },
}

impl Failure {
    fn absent_bucket(name: &BucketName) -> Self {
        Failure::Absent(format!("there is no bucket {name} in the organization"))
    }

    fn reason(self) -> String {
        self.explain("", String::new()).reason
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Answer(why) | Failure::Incomplete(why) => error(Class::Retry, why),
            Failure::Unreached(why) => {
                error(Class::Retry, why).with_hint("check `url` and `tls`, and that the server runs")
            }
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Folder(why) => error(Class::Retry, format!("the folder: {why}")),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Absent(why) => error(Class::Stalled, why).with_hint("check the declaration"),
            Failure::Unauthorized(why) => error(Class::Stalled, why).with_hint(
                "backups need an operator token: the one of the server's setup, or one made by `influx auth create \
                 --operator`; an all-access token of an organization is not enough",
            ),
            Failure::Remains { bucket, why } => {
                error(Class::Stalled, format!("{why}; bucket {bucket} is left over"))
                    .with_hint("remove it with `influx bucket delete`, and restore again")
            }
            Failure::Unfinished { bucket, what, why } => {
                error(Class::Stalled, format!("the data of bucket {bucket} are back, but {what} failed: {why}"))
                    .with_hint("do that by hand")
            }
        }
    }
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::SinkClosed
    }
}
