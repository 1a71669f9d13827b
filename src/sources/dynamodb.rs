//! A table of DynamoDB. The stream is lines of JSON: what the table is, an item a line in the format of DynamoDB's own exports
//! (`{"Item":{…}}`, "DynamoDB JSON"), and how many there were.
//!
//! ```text
//! reach (calls that are never waited for without end) · table (what the table is; how one is made of that)
//! provider (what DynamoDB keeps of a table by itself) · copies, renewals (tables that drills and recoveries have made of it)
//! value (DynamoDB JSON) · lines (the stream) · scan (all items, in segments) · batches, load (the ways back)
//! ```
//!
//! There is no moment at which all items are seen: one that is written during the capture is in it as it was before, or as it
//! is after.

mod batches;
mod copies;
mod lines;
mod load;
mod needs;
mod provider;
mod reach;
mod renewals;
mod scan;
mod table;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use tokio::io::AsyncRead;

use super::{CaptureRequest, Captured, Lack, Place, Probe, Provider, Restored, Sink, Source, SourceError};
use crate::{
    artifact::{
        Kind,
        manifest::{Counts, Details, Moment},
    },
    aws::{self, DynamodbOptions, Fault},
    spec::TableMethod,
    stores::{Class, ErrorKind},
};
use lines::Line;
use reach::Reach;

/// What the access key's policy must allow.
const ACTIONS: &str = "dynamodb:DescribeTable, Scan, DescribeTimeToLive, DescribeContinuousBackups and \
                       ListTagsOfResource, and for restores CreateTable, UpdateTable, DeleteTable, BatchWriteItem, \
                       TagResource, UpdateTimeToLive and UpdateContinuousBackups; for what DynamoDB keeps by itself \
                       UpdateContinuousBackups, CreateBackup, DescribeBackup, ListBackups, DeleteBackup, \
                       RestoreTableFromBackup and RestoreTableToPointInTime";

/// Silence of the server that fails a probe or a restore.
const SILENCE: Duration = Duration::from_secs(10 * 60);

/// One table.
#[derive(Clone, Debug)]
pub struct DynamodbSource {
    client: Client,
    region: String,
    table: String,
    method: TableMethod,
}

impl DynamodbSource {
    /// The table that `options` name. Connects when it is first used; fails without an access key, or on an authority
    /// (`AWS_CA_BUNDLE`) that cannot be read.
    pub fn new(options: DynamodbOptions) -> Result<Self, SourceError> {
        let client = aws::dynamodb(&options);
        let client = client.map_err(|fault| Failure::Aws(fault).explain("use", subject(&options.table)))?;
        Ok(Self { client, region: options.region, table: options.table, method: TableMethod::Logical })
    }

    /// The same table, of which this is captured.
    pub fn captured_by(self, method: TableMethod) -> Self {
        Self { method, ..self }
    }

    fn reach(&self, stall: Duration) -> Reach {
        Reach { client: self.client.clone(), stall }
    }

    async fn captured(&self, request: &CaptureRequest<'_>, sink: &mut dyn Sink) -> Result<Details, Failure> {
        let reach = self.reach(request.stall);
        let told = table::describe(&reach, &self.table).await?;
        sink.run(None).await?;
        sink.write(Line::Description(&told.description).bytes()?).await?;
        let items = scan::scan(&reach, &self.table, told.bytes, sink).await?;
        told.is_still_there(&reach, &self.table).await?;
        sink.run(None).await?;
        sink.write(Line::End(items).bytes()?).await?;
        Ok(Details {
            counts: Counts::Captured(BTreeMap::from([("items".to_owned(), items)])),
            omitted: told.omitted,
            ..Details::default()
        })
    }

    async fn restored(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<String, Failure> {
        let reach = self.reach(SILENCE);
        match place {
            Place::File(path) => load::to_file(stream, path).await,
            Place::Folder(folder) => load::to_folder(stream, folder, &self.stream_name()).await,
            Place::Database(name) => load::to_new_table(&reach, stream, name).await,
            Place::Original => load::over_original(&reach, stream, &self.table).await,
            Place::Bucket { .. } => Err(Failure::Refused("only objects go into a bucket".to_owned())),
        }
    }
}

fn subject(table: &str) -> String {
    format!("table {table} of DynamoDB")
}

#[async_trait]
impl Source for DynamodbSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let told = table::describe(&self.reach(SILENCE), &self.table).await;
        let told = told.map_err(|failure| failure.explain("probe", subject(&self.table)))?;
        let recovery = match told.description.has_point_in_time_recovery() {
            true => "on",
            false => "off",
        };
        Ok(Probe { version: format!("DynamoDB, point-in-time recovery {recovery}") })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        let lacks = needs::lacks(&self.reach(SILENCE), &self.region, &self.table, self.method).await;
        lacks.map_err(|failure| failure.explain("probe", subject(&self.table)))
    }

    fn provider(&self) -> Option<&dyn Provider> {
        Some(self)
    }

    fn stream_name(&self) -> String {
        "items.jsonl".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&subject(&self.table), request.kind));
        }
        // What was written before is in it, and of what was written since some may not be.
        let began = request.now();
        let captured = self.captured(request, sink).await;
        let details = captured.map_err(|failure| failure.explain("capture", subject(&self.table)))?;
        Ok(Captured { moment: Moment::At { time: began, position: None }, details })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = self.restored(stream, place).await;
        let explain = |failure: Failure| failure.explain("restore", subject(&self.table));
        restored.map(|place| Restored { place }).map_err(explain)
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    SinkClosed,
    Aws(Fault),
    /// The server was silent for too long.
    Silent(Duration),
    /// The server took nothing more for too long.
    Throttled,
    /// What the server gives is not what it says, or nothing that this build knows.
    Wrong(String),
    /// A table is not ready to be used.
    NotReady(String),
    Io(String, io::Error),
    /// The stream that is restored failed, or is not what a capture writes.
    Stream(io::Error),
    /// What was asked would overwrite something, or can't be done.
    Refused(String),
    /// It failed, and what was made could not be removed again.
    LeftBehind(Box<Failure>, String),
    /// It is not known whether this table was made.
    MayBeLeftBehind(Box<Failure>, String),
    /// This table may be being made, and is taken up again by who asked for it.
    GoesOn(Box<Failure>, String),
}

impl From<super::SinkClosed> for Failure {
    fn from(_: super::SinkClosed) -> Self {
        Failure::SinkClosed
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Aws(fault)
    }
}

impl Failure {
    fn io(path: &Path, error: io::Error) -> Self {
        Failure::Io(path.display().to_string(), error)
    }

    /// A stream that is not what a capture writes.
    fn malformed(what: impl Into<String>) -> Self {
        Failure::Stream(io::Error::new(io::ErrorKind::InvalidData, what.into()))
    }

    /// Whether the server did nothing for now, and says so.
    fn is_throttled(&self) -> bool {
        matches!(self, Failure::Aws(Fault::Service { status: 400..=499, .. }))
            && matches!(self, Failure::Aws(fault) if fault.kind() == ErrorKind::Transient)
    }

    /// Whether what was asked for may be done all the same: no answer tells.
    fn may_be_done(&self) -> bool {
        match self {
            Failure::Silent(_) | Failure::Aws(Fault::Connection(_) | Fault::Protocol(_)) => true,
            Failure::Aws(Fault::Service { status, .. }) => *status >= 500,
            _ => false,
        }
    }

    /// Whether what was to be made may be there all the same.
    fn may_be_left(&self) -> bool {
        matches!(self, Failure::MayBeLeftBehind(..)) || self.may_be_done()
    }

    /// The same, where whoever asked for the table takes it up again.
    fn going_on(self, table: &str) -> Self {
        match self {
            Failure::MayBeLeftBehind(why, table) => Failure::GoesOn(why, table),
            why => Failure::GoesOn(Box::new(why), table.to_owned()),
        }
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject.clone(), class, reason);
        match self {
            Failure::SinkClosed => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Aws(fault) => {
                let told = error(class(&fault), fault.to_string());
                match fault.hint(ACTIONS) {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            Failure::Silent(silence) => {
                error(Class::Retry, format!("it was silent for {}", humantime::format_duration(silence)))
            }
            Failure::Throttled => error(Class::Retry, "it takes no more items".to_owned())
                .with_hint("raise the table's write capacity, or make it pay per request"),
            Failure::Wrong(why) => error(Class::Retry, why),
            Failure::NotReady(why) => error(Class::Wait(Duration::from_secs(60)), why),
            Failure::Io(path, why) => match why.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::Interrupted => {
                    error(Class::Retry, format!("{path}: {why}"))
                }
                _ => error(Class::Stalled, format!("{path}: {why}")),
            },
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::LeftBehind(why, table) => why.explain(operation, subject).with_hint(format!(
                "delete table {table}, which holds a part of the items, before you restore again"
            )),
            Failure::MayBeLeftBehind(why, table) => why.explain(operation, subject).with_hint(format!(
                "look whether table {table} was made all the same, and delete it before you restore again"
            )),
            Failure::GoesOn(why, table) => why.explain(operation, subject).and_hint(format!(
                "DynamoDB may be at table {table}, and goes on; `backstay rebuild … --resume` takes it up again"
            )),
        }
    }
}

fn class(fault: &Fault) -> Class {
    match fault.kind() {
        ErrorKind::Transient => Class::Retry,
        ErrorKind::Full | ErrorKind::Unavailable => Class::Wait(Duration::from_secs(60)),
        ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Protocol => Class::Stalled,
    }
}
