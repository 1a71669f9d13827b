//! The chain of records in a store: what breaks it, what does not, and what heals it.

use std::sync::Arc;

use backstay::{
    artifact::{
        layout::{self, ObjectName},
        record::{Event, Record},
    },
    observe::{
        cache::{MemoryCache, ObjectCache},
        listing::FleetListing,
    },
    records::{Chain, Records},
    stores::{
        Store,
        faulty::{Faults, FaultyStore},
        memory::MemoryStore,
    },
};

use crate::artifacts::{KeyRing, now};

struct Scene {
    ring: KeyRing,
    store: MemoryStore,
    faults: Faults,
    cache: MemoryCache,
}

impl Scene {
    /// A chain of three records that was read once.
    async fn new() -> Self {
        let store = MemoryStore::new(Arc::new(now));
        let faults = Faults::seeded(1);
        let scene = Self { ring: KeyRing::new(), store, faults, cache: MemoryCache::default() };
        for number in 0..3 {
            scene.append(event(number)).await;
        }
        assert_eq!(scene.read().await.broken, None);
        scene
    }

    fn records(&self) -> Records {
        let store = Arc::new(FaultyStore::new(Arc::new(self.store.clone()), self.faults.clone()));
        Records { name: "vault".parse().unwrap(), store, fleet: "pavroto".parse().unwrap() }
    }

    async fn append(&self, event: Event) -> Record {
        self.records().append(&self.ring.keys, now(), vec![event]).await.unwrap()
    }

    async fn read(&self) -> Chain {
        self.read_with(&self.cache).await
    }

    async fn read_with(&self, cache: &dyn ObjectCache) -> Chain {
        let records = self.records();
        let listed = self.store.list(&layout::records(&records.fleet)).await.unwrap();
        let listing = FleetListing::sort(&records.fleet, listed).records;
        records.read(&listing, &self.ring.keys, cache).await.unwrap()
    }

    async fn adopt(&self) {
        self.append(Event::Adopted { reason: "looked into".to_owned() }).await;
    }
}

fn event(number: u64) -> Event {
    Event::InForce { revision: number.to_string() }
}

fn record(sequence: u64) -> ObjectName {
    layout::record(&"pavroto".parse().unwrap(), sequence)
}

fn signature(sequence: u64) -> ObjectName {
    layout::record_signature(&"pavroto".parse().unwrap(), sequence)
}

#[tokio::test]
async fn records_are_read_in_order_and_only_once() {
    let scene = Scene::new().await;
    let chain = scene.read_with(&MemoryCache::default()).await;
    let events: Vec<Event> = chain.records.into_iter().flat_map(|record| record.events).collect();
    assert_eq!(events, [event(0), event(1), event(2)]);

    let before = scene.faults.calls();
    assert_eq!(scene.read().await.records.len(), 3);
    assert_eq!(scene.faults.calls(), before, "all of it is in the cache");
    scene.append(event(3)).await;
    let before = scene.faults.calls();
    assert_eq!(scene.read().await.records.len(), 4);
    assert_eq!(scene.faults.calls(), before + 2, "one record and its signature");
}

#[tokio::test]
async fn a_record_that_is_altered_unsigned_forged_or_gone_breaks_the_chain_until_it_is_adopted() {
    let stranger = KeyRing::new();
    for sequence in 0..3 {
        for harm in ["alter", "unsign", "forge", "lose"] {
            let scene = Scene::new().await;
            let content = scene.store.get(&record(sequence), None, 10_000).await.unwrap();
            let altered = String::from_utf8(content.to_vec()).unwrap().replace("in-force", "in-farce");
            match harm {
                "alter" => scene.store.overwrite(&record(sequence), altered.into()),
                "unsign" => scene.store.lose(&signature(sequence)),
                "forge" => {
                    let forged =
                        stranger.keys.sign(backstay::artifact::record::SIGNATURE_NAMESPACE, &content);
                    scene.store.overwrite(&signature(sequence), forged.into());
                }
                _ => scene.store.lose(&record(sequence)),
            }
            // The last one can only be missed by who has seen it.
            let cold = scene.read_with(&MemoryCache::default()).await;
            let missed = harm == "lose" && sequence == 2;
            assert_eq!(cold.broken.is_none(), missed, "{harm} {sequence}: {:?}", cold.broken);
            if missed {
                let why = scene.read().await.broken.expect("it was here");
                assert!(why.contains("gone"), "{why}");
            }

            scene.adopt().await;
            scene.append(event(9)).await;
            for _ in 0..2 {
                assert_eq!(scene.read().await.broken, None, "{harm} {sequence}, adopted");
            }
            assert_eq!(
                scene.read_with(&MemoryCache::default()).await.broken,
                None,
                "{harm} {sequence}, adopted"
            );
        }
    }
}

#[tokio::test]
async fn an_adoption_of_long_ago_does_not_cover_what_is_taken_away_later() {
    let scene = Scene::new().await;
    scene.adopt().await;
    scene.append(event(4)).await;
    assert_eq!(scene.read().await.broken, None);
    scene.store.lose(&record(4));
    assert!(scene.read().await.broken.is_some());
}

#[tokio::test]
async fn a_writer_cut_off_between_signature_and_record_breaks_nothing() {
    let scene = Scene::new().await;
    scene.store.overwrite(&signature(3), b"of a record that was never put".as_slice().into());
    assert_eq!(scene.append(event(4)).await.sequence, 4);
    let chain = scene.read_with(&MemoryCache::default()).await;
    assert_eq!((chain.records.len(), chain.broken), (4, None));
}

#[tokio::test]
async fn an_append_cut_off_anywhere_leaves_a_chain_that_the_next_one_continues() {
    for calls in 0.. {
        let scene = Scene::new().await;
        scene.faults.stop_after(calls);
        let ended = tokio::select! {
            _ = scene.append(event(3)) => true,
            () = scene.faults.stopped() => false,
        };
        scene.faults.resume();
        scene.append(event(4)).await;
        let chain = scene.read_with(&MemoryCache::default()).await;
        assert_eq!(chain.broken, None, "after {calls} calls");
        assert_eq!(chain.records.last().unwrap().events, [event(4)]);
        if ended {
            assert_eq!(chain.records.len(), 5);
            return;
        }
    }
}

#[tokio::test]
async fn of_writers_at_once_each_record_counts() {
    let scene = Scene::new().await;
    let (first, second) = tokio::join!(scene.append(event(3)), scene.append(event(4)));
    assert_ne!(first.sequence, second.sequence);
    let chain = scene.read_with(&MemoryCache::default()).await;
    assert_eq!((chain.records.len(), chain.broken), (5, None));
}
