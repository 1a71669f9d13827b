//! Probes: whether sources can be reached, and what they lack for what their policies ask of them, before a capture fails for it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use serde::Serialize;

use super::{Controller, desired::NothingInForce};
use crate::{
    artifact::Kind,
    diagnostic::Severity,
    sources::Lack,
    spec::{Backup, Spec, names::BackupName},
    stores::Class,
};

/// Sources that are probed at a time.
const AT_ONCE: usize = 8;

/// How long one may take: its own clients give up earlier.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a probe of one backup's source found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probed {
    /// The backup.
    pub backup: BackupName,
    /// The kind of its source, as the declaration names it.
    pub source: &'static str,
    /// What its source answered.
    #[serde(flatten)]
    pub answer: Answer,
}

/// What a source answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// It can be reached.
    Reached {
        /// The engine and its version.
        version: String,
        /// What is missing; empty where nothing is.
        lacks: Vec<Lack>,
    },
    /// It can't, or this host does not allow it.
    Failed {
        /// Why, and what to do about it.
        why: String,
        /// What is missing, as far as that can be told; empty where nothing is known to be.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        lacks: Vec<Lack>,
    },
}

impl Probed {
    /// Whether captures will fail as things stand.
    pub fn is_fit(&self) -> bool {
        match &self.answer {
            Answer::Reached { lacks, .. } => lacks.iter().all(|lack| lack.severity != Severity::Error),
            Answer::Failed { .. } => false,
        }
    }
}

impl Controller {
    /// What the revision in force declares, as far as it can be known now.
    pub async fn declared(&self) -> Result<Arc<Spec>, NothingInForce> {
        // What was fetched before is declared all the same.
        let _ = self.fetch().await;
        Ok(self.desired().await?.spec.clone())
    }

    /// Asks the source of each of the backups, some at a time; in their order. Changes nothing.
    pub async fn probe(&self, backups: Vec<&Backup>) -> Vec<Probed> {
        let probes = backups.into_iter().map(|backup| async move {
            let answer = tokio::time::timeout(PATIENCE, self.answer(backup)).await;
            let answer = answer.unwrap_or_else(|_| {
                let why = format!("no answer within {}", humantime::format_duration(PATIENCE));
                Answer::Failed { why, lacks: Vec::new() }
            });
            Probed { backup: backup.name.clone(), source: backup.source.kind(), answer }
        });
        stream::iter(probes).buffered(AT_ONCE).collect().await
    }

    async fn answer(&self, backup: &Backup) -> Answer {
        let kinds: BTreeSet<Kind> = backup.policy.schedules.keys().copied().collect();
        let failed = |why: String, lacks| Answer::Failed { why, lacks };
        let source = match self.drivers.source(&backup.source).await {
            Ok(source) => source,
            Err(refusal) => return failed(refusal.to_string(), Vec::new()),
        };
        match source.probe().await {
            Ok(probe) => match source.lacks(&kinds).await {
                Ok(lacks) => Answer::Reached { version: probe.version, lacks },
                Err(error) => failed(error.to_string(), Vec::new()),
            },
            // What is missing may be what made it fail.
            Err(error) if error.class == Class::Stalled => {
                failed(error.to_string(), source.lacks(&kinds).await.unwrap_or_default())
            }
            Err(error) => failed(error.to_string(), Vec::new()),
        }
    }
}
