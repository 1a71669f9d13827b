//! What really exists: every part of the inventory, as it was found or as it could not be seen. Never fails as a whole.

pub mod cache;
pub mod listing;
pub mod logs;
pub mod machines;
pub mod outline;
pub mod provided;
pub mod seen;
pub mod stores;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use crate::{
    git::{
        Mirror, Tips,
        push::{PushError, PushMirror, position_seen},
        tips_position,
    },
    inventory::{Armed, InfraInventory, Interrupted, Inventory, Made, MirrorMade, Observed},
    schedulers::Scheduler,
    sources::Source,
    spec::names::{BackupName, StoreName},
};
use seen::Seen;
use stores::Look;

/// How long the listing of one store may take before the store counts as not seen.
const STORE_LIMIT: Duration = Duration::from_secs(600);
/// How long a mirror may take to answer.
const MIRROR_LIMIT: Duration = Duration::from_secs(30);

/// What is looked at.
pub struct Sight {
    /// The declared stores; or why one can't even be asked.
    pub stores: BTreeMap<StoreName, Result<Look, String>>,
    /// Where schedules are armed.
    pub scheduler: Arc<dyn Scheduler>,
    /// Which scheduler that is, by which configuration and version.
    pub scheduled_by: String,
    /// What Backstay made, as this host remembers it.
    pub made: Made,
    /// The infra repo, when its own backup is declared.
    pub infra: Option<InfraSight>,
    /// What an earlier pass left, from the journal.
    pub interrupted: Vec<Interrupted>,
    /// Sources whose servers keep their logs for us; or why one can't even be asked.
    pub logs: BTreeMap<BackupName, Result<Box<dyn Source>, String>>,
}

/// The infra repo and the mirrors that it is pushed to.
pub struct InfraSight {
    /// Its mirror on this host.
    pub mirror: Mirror,
    /// The declared mirrors; or why one may not be asked.
    pub pushed: BTreeMap<String, Result<PushMirror, PushError>>,
}

/// How old what is seen may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Everything is listed now.
    Now,
    /// What was listed so long ago, and kept up with our own writes since, is good enough.
    Within(Duration),
    /// Whatever was ever listed is good enough; what never was is unknown. For what only adds.
    AsSeen,
}

/// Looks at everything, at the stores beside each other. What is fresh enough is taken from what was `seen` before.
pub async fn observe(sight: &Sight, seen: Seen, freshness: Freshness, now: Timestamp) -> Seen {
    let mut seen = seen.limited_to(sight.stores.keys());
    let stale: Vec<&StoreName> =
        sight.stores.keys().filter(|store| !seen.is_fresh(store, freshness, now)).collect();
    let looks = stale.iter().map(|store| look(&sight.stores[*store], freshness, now));
    let kept_logs = logs::look(&sight.logs, &seen.inventory.kept_logs, freshness, now);
    let (found, infra, kept_logs) =
        tokio::join!(join_all(looks), infra(sight, &seen.inventory, freshness), kept_logs);
    let stale: Vec<StoreName> = stale.into_iter().cloned().collect();
    for (store, found) in stale.iter().zip(found) {
        seen.listed(store.clone(), found, now);
    }
    refuse_what_is_behind(sight, &mut seen, &stale, now).await;
    seen.tick(now);
    seen.inventory.infra = infra;
    seen.inventory.kept_logs = kept_logs;
    seen.inventory.armed = armed(sight.scheduler.as_ref(), &sight.scheduled_by).await;
    seen.inventory.made = sight.made.clone();
    seen.inventory.interrupted = sight.interrupted.clone();
    seen
}

/// What the scheduler, which is known as `by`, holds. What can't be seen is unknown: an unreadable folder is not an empty
/// one.
pub async fn armed(scheduler: &dyn Scheduler, by: &str) -> Observed<Armed> {
    match scheduler.list().await {
        Ok(armed) => Observed::Known(Armed { by: by.to_owned(), ..armed }),
        Err(error) => Observed::Unknown(error.to_string()),
    }
}

/// Refuses those of the stores `listed` just now that lack records which other stores have seen in them. Somebody may have
/// written between two listings: only what a second one lacks as well is gone.
async fn refuse_what_is_behind(sight: &Sight, seen: &mut Seen, listed: &[StoreName], now: Timestamp) {
    let doubtful: Vec<StoreName> = seen.behind(listed).into_iter().map(|(store, _)| store).collect();
    for store in &doubtful {
        let found = look(&sight.stores[store], Freshness::Now, now).await;
        seen.listed(store.clone(), found, now);
    }
    for (store, why) in seen.behind(&doubtful) {
        seen.refuse(&store, why);
    }
}

async fn look(
    look: &Result<Look, String>,
    freshness: Freshness,
    now: Timestamp,
) -> Observed<crate::inventory::StoreInventory> {
    let look = match look {
        Err(why) => return Observed::Unknown(why.clone()),
        Ok(_) if freshness == Freshness::AsSeen => {
            return Observed::Unknown("it was not looked at yet".to_owned());
        }
        Ok(look) => look,
    };
    match tokio::time::timeout(STORE_LIMIT, stores::observe(look, now)).await {
        Ok(found) => found,
        Err(_) => Observed::Unknown(format!("its listing took longer than {}s", STORE_LIMIT.as_secs())),
    }
}

async fn infra(sight: &Sight, before: &Inventory, freshness: Freshness) -> Option<InfraInventory> {
    let infra = sight.infra.as_ref()?;
    let ours = match infra.mirror.tips().await {
        // A repo without commits has nothing to back up.
        Ok(ours) if ours.is_empty() => return None,
        Ok(ours) => ours,
        Err(error) => {
            tracing::warn!(%error, "the infra repo's own backup waits");
            return None;
        }
    };
    let before = before.infra.as_ref();
    let looks = infra.pushed.iter().map(|(url, mirror)| {
        let seen_before = before.and_then(|infra| Some((infra.mirrors.get(url)?, infra.moved.get(url))));
        mirror_look(mirror, seen_before, sight.made.mirrors.get(url), &ours, freshness)
    });
    let (mut mirrors, mut moved) = (BTreeMap::new(), BTreeMap::new());
    for (url, (position, difference)) in infra.pushed.keys().zip(join_all(looks).await) {
        mirrors.insert(url.clone(), position);
        moved.extend(difference.map(|difference| (url.clone(), difference)));
    }
    Some(InfraInventory { position: tips_position(&ours), mirrors, tips: ours.0, moved })
}

/// Where a mirror stands, and how somebody else moved it since it was left.
async fn mirror_look(
    mirror: &Result<PushMirror, PushError>,
    before: Option<(&Observed<String>, Option<&String>)>,
    made: Option<&MirrorMade>,
    ours: &Tips,
    freshness: Freshness,
) -> (Observed<String>, Option<String>) {
    match (mirror, before, freshness) {
        (Err(why), _, _) => (Observed::Unknown(why.to_string()), None),
        (Ok(_), Some((Observed::Known(before), moved)), Freshness::Within(_) | Freshness::AsSeen) => {
            (Observed::Known(before.clone()), moved.cloned())
        }
        (Ok(_), _, Freshness::AsSeen) => (Observed::Unknown("it was not asked yet".to_owned()), None),
        (Ok(mirror), _, _) => match tokio::time::timeout(MIRROR_LIMIT, mirror.tips()).await {
            Ok(Ok(theirs)) => {
                let moved = made.and_then(|made| made.difference(&theirs.0));
                (Observed::Known(position_seen(ours, &theirs)), moved)
            }
            Ok(Err(error)) => (Observed::Unknown(error.to_string()), None),
            Err(_) => (Observed::Unknown(format!("no answer within {}s", MIRROR_LIMIT.as_secs())), None),
        },
    }
}
