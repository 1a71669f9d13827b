//! The infra repo's own backup: a bundle into each store and a push to each mirror, on every commit.

use std::time::Duration;

use super::{Action, action::Capture, draft::Draft, facts::Facts, lineage};
use crate::{
    artifact::{ArtifactId, Kind},
    inventory::{InfraInventory, Observed, StoredBackup},
    spec::{
        Infra,
        names::{BackupName, StoreName},
    },
};

/// More incremental bundles than this in a row, and the next is a full one: a restore applies each.
const LONGEST_CHAIN: usize = 50;
/// A full bundle older than this, and the next is a full one.
const OLDEST_FULL: Duration = Duration::from_secs(30 * 24 * 3600);

/// Bundles what each store does not have, and pushes to mirrors that are not known to have it.
pub(super) fn plan(facts: &Facts<'_>, draft: &mut Draft) {
    let (Some(declared), Some(found)) = (&facts.spec.infra, &facts.inventory.infra) else { return };
    if let Some(why) = facts.cannot_run("infra") {
        draft.wait_of(&BackupName::infra(), "bundles of the infra repo", why, None);
        return;
    }
    for store in &declared.stores {
        bundle(facts, found, store, draft);
    }
    push(declared, found, draft);
}

fn bundle(facts: &Facts<'_>, found: &InfraInventory, store: &StoreName, draft: &mut Draft) {
    let backup = BackupName::infra();
    let what = || format!("bundle of {} in {store}", short(&found.position));
    let stored = match facts.stored(&backup, store) {
        Ok(stored) => stored,
        Err(why) => return draft.wait_of(&backup, what(), why, None),
    };
    let restorable = stored.newest_good(facts.now).filter(|a| lineage::chain(stored, a.id).is_ok());
    if restorable.is_some_and(|newest| newest.position.as_deref() == Some(found.position.as_str())) {
        return;
    }
    if let Some((id, lease)) = facts.capture_under_way(&backup, store) {
        return draft.wait_of(&backup, what(), format!("capture {id} is under way"), Some(lease.until));
    }
    let (base, why) = match base(facts, stored) {
        Ok(base) => (Some(base), "new commits since the last bundle"),
        Err(why) => (None, why),
    };
    let kind = if base.is_some() { Kind::Incremental } else { Kind::Full };
    let reason = format!("position {}: {why}", short(&found.position));
    let capture =
        Capture { backup, kind, slot: None, manual: None, store: store.clone(), base, continues: None };
    draft.step(Action::Capture(capture), reason);
}

/// The bundle that the next one continues, or why the next one stands alone.
fn base(facts: &Facts<'_>, stored: &StoredBackup) -> Result<ArtifactId, &'static str> {
    let newest = stored.newest_good(facts.now).ok_or("the first bundle here")?;
    let chain = lineage::chain(stored, newest.id).map_err(|_| "the bundles before are damaged")?;
    let full = chain.iter().rev().find(|a| a.kind == Kind::Full).ok_or("no full bundle is left")?;
    if chain.len() > LONGEST_CHAIN {
        return Err("many incremental bundles in a row");
    }
    if full.newest.checked_add(OLDEST_FULL).is_ok_and(|end| end <= facts.now) {
        return Err("the last full bundle is old");
    }
    Ok(newest.id)
}

fn push(declared: &Infra, found: &InfraInventory, draft: &mut Draft) {
    for mirror in &declared.mirrors {
        let reason = match found.mirrors.get(mirror) {
            Some(Observed::Known(position)) if *position == found.position => continue,
            Some(Observed::Known(position)) => format!("it is at {}", short(position)),
            Some(Observed::Unknown(why)) => format!("its position is unknown: {why}"),
            None => "its position is unknown".to_owned(),
        };
        draft.step(Action::Push { mirror: mirror.clone() }, reason);
    }
}

/// Enough of a position for people.
fn short(position: &str) -> &str {
    position.get(..12).unwrap_or(position)
}
