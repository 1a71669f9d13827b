//! Whether what a store holds may be believed and added to.

use std::collections::BTreeMap;

use crate::{
    inventory::{Standing, StoredBackup},
    observe::listing::FleetListing,
    records::Chain,
    spec::names::FolderName,
};

/// Judges a store by its signatures: at least one trusted one where anything was ever committed, and a whole chain.
pub(super) fn judge(
    listing: &FleetListing,
    backups: &BTreeMap<FolderName, StoredBackup>,
    chain: &Chain,
) -> Standing {
    let trusted = !chain.records.is_empty() || backups.values().any(|stored| !stored.artifacts.is_empty());
    match &chain.broken {
        Some(why) => Standing::Refused(why.clone()),
        None if trusted => Standing::Ours,
        None if listing.holds_nothing_committed() => Standing::Empty,
        None => Standing::Refused("it is not empty, and no trusted key signed anything there".to_owned()),
    }
}
