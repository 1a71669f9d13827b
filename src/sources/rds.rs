//! An instance of RDS, as its provider keeps it: there is no stream, and its artifacts are RDS's own snapshots. What a database
//! in it holds, the driver of its engine captures.
//!
//! ```text
//! provider (automated backups, snapshots) · new (instances that are made of them)
//! ```

mod new;
mod provider;

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use aws_sdk_rds::{Client, types::DbInstance};
use tokio::io::AsyncRead;

use super::{CaptureRequest, Captured, Lack, Place, Probe, Provider, Restored, Sink, Source, SourceError};
use crate::{
    artifact::Kind,
    aws::{self, Fault, RdsOptions, policy},
    stores::{Class, ErrorKind},
};

/// What the access key's policy must allow.
const ACTIONS: &str = "rds:DescribeDBInstances, DescribeDBInstanceAutomatedBackups, DescribeDBSnapshots, CreateDBSnapshot, \
                       DeleteDBSnapshot and ModifyDBInstance, and for restores RestoreDBInstanceFromDBSnapshot, \
                       RestoreDBInstanceToPointInTime and AddTagsToResource, and for drills DeleteDBInstance";

/// Silence of the server that fails a call.
const SILENCE: Duration = Duration::from_secs(5 * 60);

/// With what an instance that is not there is refused: in answers, and as the API's reference calls it.
const NO_INSTANCE: [&str; 2] = ["DBInstanceNotFound", "DBInstanceNotFoundFault"];

/// One instance.
#[derive(Clone, Debug)]
pub struct RdsSource {
    client: Client,
    region: String,
    instance: String,
}

impl RdsSource {
    /// The instance that `options` name. Connects when it is first used; fails without an access key, or on an authority
    /// (`AWS_CA_BUNDLE`) that cannot be read.
    pub fn new(options: RdsOptions) -> Result<Self, SourceError> {
        let client = aws::rds(&options);
        let client =
            client.map_err(|fault| Failure::Aws(fault).explain("use", subject(&options.instance)))?;
        Ok(Self { client, region: options.region, instance: options.instance })
    }

    fn told<T>(&self, operation: &'static str, answer: Result<T, Failure>) -> Result<T, SourceError> {
        answer.map_err(|failure| failure.explain(operation, subject(&self.instance)))
    }

    /// The instance as RDS describes it.
    async fn described(&self) -> Result<DbInstance, Failure> {
        match existing(&self.client, &self.instance).await? {
            Some(instance) => Ok(instance),
            None => Err(Failure::Refused(format!("there is no such instance in {}", self.region))),
        }
    }

    async fn lacking(&self) -> Result<Vec<Lack>, Failure> {
        let client = &self.client;
        let mut denied = Vec::new();
        let instances = client.describe_db_instances().db_instance_identifier(&self.instance);
        allowed(answer(instances.send()).await.map(drop), "rds:DescribeDBInstances", &mut denied)?;
        let kept = client.describe_db_instance_automated_backups().db_instance_identifier(&self.instance);
        allowed(answer(kept.send()).await.map(drop), "rds:DescribeDBInstanceAutomatedBackups", &mut denied)?;
        let snapshots = client.describe_db_snapshots().db_instance_identifier(&self.instance);
        allowed(answer(snapshots.send()).await.map(drop), "rds:DescribeDBSnapshots", &mut denied)?;
        if denied.is_empty() {
            return Ok(Vec::new());
        }
        let what = format!("the access key's policy does not allow {}", denied.join(", "));
        // These are asked for all instances at once.
        Ok(vec![Lack::error(what, policy::allowing(&denied, "*"))])
    }
}

/// Notes an action that is denied.
fn allowed(
    answer: Result<(), Failure>,
    action: &'static str,
    denied: &mut Vec<&'static str>,
) -> Result<(), Failure> {
    match answer {
        Err(Failure::Aws(fault)) if fault.is_denial() => {
            denied.push(action);
            Ok(())
        }
        answer => answer,
    }
}

/// An instance; `None` where RDS says that there is none.
async fn existing(client: &Client, instance: &str) -> Result<Option<DbInstance>, Failure> {
    match answer(client.describe_db_instances().db_instance_identifier(instance).send()).await {
        Ok(found) => {
            let mut found = found.db_instances.unwrap_or_default().into_iter();
            Ok(found
                .find(|it| it.db_instance_identifier().is_some_and(|id| id.eq_ignore_ascii_case(instance))))
        }
        Err(failure) if failure.is_code(&NO_INSTANCE) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The answer to a call, which is never waited for without end. The client makes a call again whose failure may pass.
async fn answer<T, E: Into<Fault>>(call: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
    let answer = tokio::time::timeout(SILENCE, call).await;
    answer.map_err(|_| Failure::Silent)?.map_err(|error| Failure::Aws(error.into()))
}

fn subject(instance: &str) -> String {
    format!("instance {instance} of RDS")
}

#[async_trait]
impl Source for RdsSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let instance = self.told("probe", self.described().await)?;
        let engine = instance.engine().unwrap_or("an unknown engine");
        let version = instance.engine_version().unwrap_or_default();
        let kept = match instance.backup_retention_period() {
            None | Some(0) => "off".to_owned(),
            Some(days) => format!("{days}d"),
        };
        Ok(Probe { version: format!("{engine} {version} on RDS, point-in-time recovery {kept}") })
    }

    async fn lacks(&self, _kinds: &BTreeSet<Kind>) -> Result<Vec<Lack>, SourceError> {
        self.told("probe", self.lacking().await)
    }

    fn provider(&self) -> Option<&dyn Provider> {
        Some(self)
    }

    fn stream_name(&self) -> String {
        self.instance.clone()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        _sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        Err(SourceError::unsupported(&subject(&self.instance), request.kind))
    }

    async fn restore(
        &self,
        _stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        Err(SourceError::misplaced(&subject(&self.instance), "its artifacts are snapshots, and no streams"))
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    Aws(Fault),
    /// The server was silent for too long.
    Silent,
    /// What the server gives is not what it says, or nothing that this build knows.
    Wrong(String),
    /// Something is not ready to be used.
    NotReady(String),
    /// What was asked would overwrite something, or can't be done.
    Refused(String),
    /// An instance that was being made never will be whole, or is gone.
    Ended(String),
    /// It is not known whether this instance is there.
    MayBeLeftBehind(Box<Failure>, String),
    /// This instance may be being made, and is taken up again by who asked for it.
    GoesOn(Box<Failure>, String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Aws(fault)
    }
}

impl Failure {
    /// Whether the server answered with one of these codes.
    fn is_code(&self, codes: &[&str]) -> bool {
        matches!(self, Failure::Aws(Fault::Service { code, .. }) if codes.contains(&code.as_str()))
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject.clone(), class, reason);
        match self {
            Failure::Aws(fault) => {
                let class = match fault.kind() {
                    ErrorKind::Transient => Class::Retry,
                    ErrorKind::Full | ErrorKind::Unavailable => Class::Wait(Duration::from_secs(60)),
                    ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Protocol => Class::Stalled,
                };
                let told = error(class, fault.to_string());
                match fault.hint(ACTIONS) {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            Failure::Silent => {
                error(Class::Retry, format!("it was silent for {}", humantime::format_duration(SILENCE)))
            }
            Failure::Wrong(why) => error(Class::Retry, why),
            Failure::NotReady(why) => error(Class::Wait(Duration::from_secs(60)), why),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Ended(why) => error(Class::Stalled, why).with_hint(
                "nothing goes on by itself: look in RDS why, and delete it if it is still there; then `backstay rebuild … --resume` has it \
                 made again, or `--anew` everything",
            ),
            Failure::MayBeLeftBehind(why, instance) => why.explain(operation, subject).with_hint(format!(
                "look whether instance {instance} is there, which costs money, and delete it before you restore again"
            )),
            Failure::GoesOn(why, instance) => why.explain(operation, subject).and_hint(format!(
                "RDS may be at instance {instance}, and goes on; `backstay rebuild … --resume` takes it up again"
            )),
        }
    }
}
