//! What the records tell of artifacts that are gone.

use futures::future::join_all;
use jiff::Timestamp;
use serde::Serialize;

use super::{Controller, Survey};
use crate::{
    artifact::{ArtifactId, approval::Warrant, record::Event},
    spec::names::{BackupName, StoreName},
};

/// The deletion of an artifact in one store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Departure {
    /// Its backup.
    pub backup: BackupName,
    /// Where it was.
    pub store: StoreName,
    /// When its deletion was written down.
    pub at: Timestamp,
    /// Which rule let it go.
    pub reason: String,
    /// By whose word, where a safety rule would have kept it.
    pub warrant: Option<Warrant>,
}

impl Controller {
    /// The last deletion of an artifact in each declared store that tells of one and can be asked.
    pub async fn departures(&self, survey: &Survey, id: ArtifactId) -> Vec<Departure> {
        let looks = self.looks(&survey.spec).await;
        let chains = looks.values().filter_map(|look| look.as_ref().ok()).map(|look| async move {
            let records = look.chain().await.ok()?.records;
            let events = records
                .iter()
                .rev()
                .flat_map(|record| record.events.iter().rev().map(move |event| (record.at, event)));
            let mut deletions = events.filter_map(|(at, event)| match event {
                Event::Deleted { backup, artifact, reason, warrant } if *artifact == id => Some(Departure {
                    backup: survey.spec.moved.backup(backup),
                    store: look.name.clone(),
                    at,
                    reason: reason.clone(),
                    warrant: warrant.clone(),
                }),
                _ => None,
            });
            deletions.next()
        });
        join_all(chains).await.into_iter().flatten().collect()
    }
}
