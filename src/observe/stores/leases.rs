//! Who writes into a backup's folder of a store just now, and who reads there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::{
    artifact::{ArtifactId, layout::Holder},
    committed::BackupFolder,
    inventory::{Lease, Reading},
    observe::listing::FleetListing,
    stores::{ErrorKind, Listed, StoreError},
};

/// What is listed of every lease, by holder and turn.
pub type Turns = BTreeMap<Holder, BTreeMap<u32, Listed>>;

/// A lease is never longer, bytes: that of a restore names every artifact that it reads, some 30 bytes each.
pub(crate) const LONGEST: u64 = 1 << 20;

/// Listings that are made before leases that vanish while they are read count as an outage. A holder renews its lease once
/// in many minutes, so that the second one finds its next turn.
const LISTINGS: usize = 4;

/// The leases of a backup in a store, lapsed ones among them, each as its newest turn says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leases {
    /// By the artifacts that are written.
    pub writers: BTreeMap<ArtifactId, Lease>,
    /// By the readers.
    pub readers: BTreeMap<ArtifactId, Reading>,
}

impl Leases {
    /// Readers whose lease has not ended at `now`.
    pub fn live_readers(&self, now: Timestamp) -> impl Iterator<Item = (&ArtifactId, &Reading)> {
        self.readers.iter().filter(move |(_, reading)| reading.until > now)
    }

    /// Writers whose lease has not ended at `now`.
    pub fn live_writers(&self, now: Timestamp) -> impl Iterator<Item = (&ArtifactId, &Lease)> {
        self.writers.iter().filter(move |(_, lease)| lease.until > now)
    }
}

/// The leases of a backup as they are now: one listing of their folder alone.
pub async fn now(folder: &BackupFolder) -> Result<Leases, StoreError> {
    read(folder, &listed(folder).await?).await
}

/// The turns of every lease of a backup.
pub async fn listed(folder: &BackupFolder) -> Result<Turns, StoreError> {
    let listed = folder.store.list(&folder.open()).await?;
    let listing = FleetListing::sort(&folder.fleet, listed).backups.remove(&folder.backup);
    Ok(listing.unwrap_or_default().leases)
}

/// The leases that were listed. A turn that is gone since has a next one, or its holder has ended: which of them, a new
/// listing tells.
pub(crate) async fn read(folder: &BackupFolder, turns: &Turns) -> Result<Leases, StoreError> {
    if let Some(leases) = read_once(folder, turns).await? {
        return Ok(leases);
    }
    for _ in 1..LISTINGS {
        if let Some(leases) = read_once(folder, &listed(folder).await?).await? {
            return Ok(leases);
        }
    }
    let (subject, reason) = (folder.open().to_string(), "they change while they are read");
    Err(StoreError::new("read the leases in", subject, ErrorKind::Transient, reason))
}

/// Reads the newest turn of each holder that is there; `None` when none of a holder's is.
async fn read_once(folder: &BackupFolder, turns: &Turns) -> Result<Option<Leases>, StoreError> {
    let mut leases = Leases::default();
    for (holder, turns) in turns {
        let turns = turns.values().rev();
        match holder {
            Holder::Writer(id) => {
                let Some(lease) = newest(folder, turns).await? else { return Ok(None) };
                leases.writers.insert(*id, lease.unwrap_or_else(Lease::unreadable));
            }
            Holder::Reader(id) => {
                let Some(reading) = newest(folder, turns).await? else { return Ok(None) };
                leases.readers.insert(*id, reading.unwrap_or_else(Reading::unreadable));
            }
        }
    }
    Ok(Some(leases))
}

/// The first of `turns` that is there; or, where it cannot be understood, when it was put.
async fn newest<'a, T: DeserializeOwned>(
    folder: &BackupFolder,
    turns: impl Iterator<Item = &'a Listed>,
) -> Result<Option<Result<T, Timestamp>>, StoreError> {
    for Listed { name, modified, .. } in turns {
        match folder.store.get(name, None, LONGEST).await {
            Ok(bytes) => return Ok(Some(serde_json::from_slice(&bytes).map_err(|_| *modified))),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) if error.kind == ErrorKind::Protocol => return Ok(Some(Err(*modified))),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
