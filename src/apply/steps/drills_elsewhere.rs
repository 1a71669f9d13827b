//! Who is at a drill now: other controllers of the fleet make the same drills, and hold leases on what they read meanwhile. A plan may be
//! hours old by the time that it matters, so that the stores are asked again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::{
    apply::world::World,
    artifact::ArtifactId,
    inventory::{Interrupted, Observed, Standing, StoreInventory},
    observe::stores::leases,
    spec::names::{FolderName, StoreName},
};

/// How far clocks may be apart by which it is told what was before what.
pub(super) const APART: SignedDuration = SignedDuration::from_mins(10);

/// Who reads a backup in one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Readers {
    /// The earlier of our time and the store's, before its leases were listed.
    pub asked: Timestamp,
    /// Up to when each holds its lease.
    pub until: BTreeMap<ArtifactId, Timestamp>,
}

/// By each declared store who reads a backup there, or why that can't be told.
pub(super) type Everywhere = BTreeMap<StoreName, Result<Readers, String>>;

impl World {
    /// Asks every declared store who reads `backup` there.
    pub(super) async fn readers_everywhere(&self, backup: &FolderName) -> Everywhere {
        let mut everywhere = Everywhere::new();
        for store in self.inventory.stores.keys() {
            everywhere.insert(store.clone(), self.readers_in(store, backup).await);
        }
        everywhere
    }

    async fn readers_in(&self, store: &StoreName, backup: &FolderName) -> Result<Readers, String> {
        match self.inventory.stores.get(store) {
            Some(Observed::Known(StoreInventory { standing: Standing::Refused(why), .. })) => {
                return Err(format!("store {store} is refused: {why}"));
            }
            Some(Observed::Unknown(why)) => return Err(format!("store {store} is unknown: {why}")),
            Some(Observed::Known(_)) | None => {}
        }
        let look = self.look(store).map_err(|failure| failure.message)?;
        let (ours, theirs) = (self.clock.now(), look.store.clock().await);
        let theirs = theirs.map_err(|error| error.to_string())?;
        if ours.duration_since(theirs).abs() > APART {
            return Err(format!("the clock of store {store} shows {theirs:.0}, and this host's {ours:.0}"));
        }
        let leases = leases::now(&look.folder(backup)).await.map_err(|error| error.to_string())?;
        let until = leases.readers.into_iter().map(|(reader, reading)| (reader, reading.until));
        Ok(Readers { asked: ours.min(theirs), until: until.collect() })
    }
}

/// When every store was asked at the latest, and in none of them somebody reads beside what an earlier pass of ours left behind; or why that
/// can't be said.
pub(super) fn nobody_else(everywhere: &Everywhere, interrupted: &[Interrupted]) -> Result<Timestamp, String> {
    let is_ours = |reader: &ArtifactId| interrupted.iter().any(|left| left.artifact == *reader);
    let mut asked = Timestamp::MAX;
    for (store, readers) in everywhere {
        let readers = readers.as_ref().map_err(Clone::clone)?;
        let mut live = readers.until.iter().filter(|(id, until)| **until > readers.asked && !is_ours(id));
        if let Some((reader, _)) = live.next() {
            return Err(format!("{reader} reads it in store {store}"));
        }
        asked = asked.min(readers.asked);
    }
    Ok(asked)
}

/// Fails where somebody reads under the name `reader`, or nobody can tell.
pub(super) fn is_over(everywhere: &Everywhere, reader: ArtifactId) -> Result<(), String> {
    for (store, readers) in everywhere {
        let readers = readers.as_ref().map_err(Clone::clone)?;
        if readers.until.get(&reader).is_some_and(|until| *until > readers.asked) {
            return Err(format!("{reader} reads in store {store}: another controller is at this very drill"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Work;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn reader(random: u128) -> ArtifactId {
        ArtifactId::new(at(1000), random.try_into().unwrap())
    }

    fn store(asked: i64, until: &[(ArtifactId, i64)]) -> Result<Readers, String> {
        Ok(Readers { asked: at(asked), until: until.iter().map(|(id, until)| (*id, at(*until))).collect() })
    }

    fn everywhere(near: Result<Readers, String>, far: Result<Readers, String>) -> Everywhere {
        [("near".parse().unwrap(), near), ("far".parse().unwrap(), far)].into()
    }

    #[test]
    fn nobody_else_is_at_it_only_where_all_stores_tell_and_nobody_reads() {
        let left = Interrupted {
            backup: "sessions".parse().unwrap(),
            store: "near".parse().unwrap(),
            artifact: reader(1),
            work: Work::Reading,
            copy: None,
        };
        let judge = |near, far| nobody_else(&everywhere(near, far), std::slice::from_ref(&left));
        // Its own lease, and one that has lapsed, are nobody's.
        let near = store(5000, &[(reader(1), 9000), (reader(2), 4999)]);
        assert_eq!(judge(near.clone(), store(4000, &[])), Ok(at(4000)));
        assert!(judge(near.clone(), store(4000, &[(reader(2), 4001)])).unwrap_err().contains("store far"));
        assert!(judge(near, Err("store far is away".to_owned())).unwrap_err().contains("away"));
    }

    #[test]
    fn an_earlier_drill_is_over_once_no_store_has_a_lease_of_it_and_all_tell() {
        let judge = |far| is_over(&everywhere(store(5000, &[(reader(2), 9000)]), far), reader(1));
        assert_eq!(judge(store(5000, &[(reader(1), 5000)])), Ok(()));
        assert!(judge(store(5000, &[(reader(1), 5001)])).unwrap_err().contains("another controller"));
        assert!(judge(Err("store far is away".to_owned())).unwrap_err().contains("away"));
    }
}
