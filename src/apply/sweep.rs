//! Sweeps: packs that two complete listings, at least a day apart, found that no manifest names.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::garbage::Garbage;
use crate::{
    artifact::{ArtifactId, layout, record::Event},
    clock::Clock,
    observe::{listing::FleetListing, stores::Look},
    records::{Chain, Records},
    spec::names::FolderName,
    stores::StoreError,
};

/// How long a record must have named packs as unreferenced before they go.
pub const AFTER: Duration = Duration::from_secs(24 * 3600);

/// What a sweep did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The captures of which nothing unreferenced is left; to be recorded.
    pub captures: Vec<ArtifactId>,
    /// Bytes that were freed.
    pub bytes: u64,
}

/// A sweep that deleted nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SweepError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not certain that nobody needs the packs.
    #[error("failed to sweep {backup} in {store}: {reason}; the next pass tries again")]
    Withheld {
        /// The backup.
        backup: FolderName,
        /// Where.
        store: String,
        /// Why.
        reason: String,
    },
}

/// Deletes what `captures` wrote and no manifest names. Both looks are made sure of here: a trusted record of a day ago
/// or more must name each capture, and a listing of now.
pub async fn sweep(
    look: &Look,
    backup: &FolderName,
    captures: &[ArtifactId],
    clock: &dyn Clock,
) -> Result<Swept, SweepError> {
    let withheld = |reason: String| SweepError::Withheld {
        backup: backup.clone(),
        store: look.name.to_string(),
        reason,
    };
    let now = clock.now().min(look.store.clock().await?);
    let chain = read_chain(look).await?;
    if let Some(broken) = chain.broken {
        return Err(withheld(broken));
    }
    let ripe: BTreeSet<ArtifactId> =
        captures.iter().copied().filter(|id| is_ripe(&chain, backup, *id, now)).collect();
    let garbage = Garbage::look(look, backup, clock).await?;
    if let Some(reason) = garbage.withheld(&ripe) {
        return Err(withheld(reason));
    }
    let mut swept = Swept::default();
    for id in ripe {
        swept.bytes += garbage.delete(garbage.of_capture(id)).await?;
        swept.captures.push(id);
    }
    garbage.clear_lapsed().await?;
    Ok(swept)
}

async fn read_chain(look: &Look) -> Result<Chain, StoreError> {
    let listed = look.store.list(&layout::records(&look.fleet)).await?;
    let listing = FleetListing::sort(&look.fleet, listed);
    let records = Records { name: look.name.clone(), store: look.store.clone(), fleet: look.fleet.clone() };
    records.read(&listing.records, &look.keys, look.cache.as_ref()).await
}

/// Whether a record of a day ago or more names the capture as unreferenced, and none of a sweep followed.
fn is_ripe(chain: &Chain, of: &FolderName, id: ArtifactId, now: Timestamp) -> bool {
    let mut since = None;
    for record in &chain.records {
        for event in &record.events {
            match event {
                Event::Unreferenced { backup, captures } if backup == of && captures.contains(&id) => {
                    since = since.or(Some(record.at));
                }
                Event::Swept { backup, captures } if backup == of && captures.contains(&id) => since = None,
                _ => {}
            }
        }
    }
    let after = SignedDuration::try_from(AFTER).unwrap_or(SignedDuration::MAX);
    since.is_some_and(|since| now.duration_since(since) >= after)
}
