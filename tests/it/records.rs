//! The chain of records in a store: what breaks it, what does not, and what heals it.

use std::{sync::Arc, time::Duration};

use backstay::{
    artifact::{
        layout::{self, ObjectName},
        record::{Event, Record},
    },
    observe::{
        cache::{MemoryCache, ObjectCache},
        listing::FleetListing,
    },
    records::{AppendError, Chain, Records},
    stores::{
        Store,
        faulty::{Call, Fault, Faults, FaultyStore},
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

    /// Whether it is one of the three records, or a signature.
    fn is_part_of_the_chain(&self, name: &ObjectName) -> bool {
        name.as_str().ends_with(".sig") || (0..3).any(|sequence| *name == record(sequence))
    }

    async fn adopt(&self) {
        self.append(Event::Adopted { reason: "looked into".to_owned() }).await;
    }
}

fn event(number: u64) -> Event {
    Event::InForce { revision: number.to_string(), signer: None }
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
async fn a_record_that_the_store_spoils_is_written_anew_and_breaks_nothing() {
    // Of an append the first object that is put is the signature, and the second the record.
    for (fault, spoiled, number) in [
        (Fault::Corrupt, 0, 4),
        (Fault::Tear, 0, 4),
        (Fault::Corrupt, 1, 4),
        (Fault::Tear, 1, 4),
        (Fault::LoseAnswer, 0, 3),
        (Fault::LoseAnswer, 1, 3),
    ] {
        let scene = Scene::new().await;
        (0..spoiled).for_each(|_| scene.faults.next(Call::Put, Fault::Delay(Duration::ZERO)));
        scene.faults.next(Call::Put, fault);
        assert_eq!(scene.append(event(3)).await.sequence, number, "{fault:?} of object {spoiled}");
        scene.append(event(4)).await;
        let chain = scene.read_with(&MemoryCache::default()).await;
        assert_eq!((chain.records.len(), chain.broken), (5, None), "{fault:?} of object {spoiled}");
        assert_eq!(scene.read().await.broken, None, "{fault:?} of object {spoiled}");
    }
}

#[tokio::test]
async fn an_append_is_not_misled_by_what_is_read_wrongly() {
    for reads in 0..5 {
        for fault in [Fault::Corrupt, Fault::Tear] {
            let scene = Scene::new().await;
            (0..reads).for_each(|_| scene.faults.next(Call::Get, Fault::Delay(Duration::ZERO)));
            scene.faults.next(Call::Get, fault);
            scene.append(event(3)).await;
            scene.append(event(4)).await;
            let chain = scene.read_with(&MemoryCache::default()).await;
            assert_eq!((chain.records.len(), chain.broken), (5, None), "{fault:?} of read {reads}");
        }
    }
}

#[tokio::test]
async fn a_store_that_spoils_every_record_is_an_error_and_its_chain_stays_whole() {
    let nothing = Fault::Delay(Duration::ZERO);
    for puts in [[Fault::Corrupt; 2], [nothing, Fault::Corrupt], [nothing, Fault::Tear]] {
        let scene = Scene::new().await;
        puts.iter().cycle().take(6).for_each(|fault| scene.faults.next(Call::Put, *fault));
        let failed = scene.records().append(&scene.ring.keys, now(), vec![event(3)]).await.unwrap_err();
        assert!(matches!(failed, AppendError::Spoiled { .. }), "{puts:?}: {failed}");
        assert_eq!(scene.read_with(&MemoryCache::default()).await.broken, None, "{puts:?}");
        scene.store.names().iter().for_each(|name| assert!(scene.is_part_of_the_chain(name), "{name}"));
    }
}

#[tokio::test]
async fn a_spoiled_record_that_cannot_be_taken_away_is_named_at_once() {
    let scene = Scene::new().await;
    scene.faults.next(Call::Put, Fault::Delay(Duration::ZERO));
    scene.faults.next(Call::Put, Fault::Corrupt);
    scene.faults.next(Call::Delete, Fault::Fail);
    let failed = scene.records().append(&scene.ring.keys, now(), vec![event(3)]).await.unwrap_err();
    let AppendError::Unrepaired { object, .. } = &failed else { panic!("{failed}") };
    assert_eq!(*object, record(3));
    assert!(scene.read().await.broken.is_some(), "nothing is glossed over");

    let scene = Scene::new().await;
    scene.faults.next(Call::Put, Fault::Delay(Duration::ZERO));
    scene.faults.next(Call::Put, Fault::Corrupt);
    scene.faults.next(Call::Delete, Fault::LoseAnswer);
    assert_eq!(scene.append(event(3)).await.sequence, 4, "it is gone, though nobody said so");
    assert_eq!(scene.read().await.broken, None);
}

#[tokio::test]
async fn of_writers_at_once_each_record_counts() {
    let scene = Scene::new().await;
    let (first, second) = tokio::join!(scene.append(event(3)), scene.append(event(4)));
    assert_ne!(first.sequence, second.sequence);
    let chain = scene.read_with(&MemoryCache::default()).await;
    assert_eq!((chain.records.len(), chain.broken), (5, None));
}
