//! Whatever fails, and whenever: an artifact is committed whole, or there is none.

use std::{ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use backstay::{
    apply::{
        capture::{Fault as Failed, Stage},
        cleanup::{Cleaned, clean_up},
        lease::LeaseError,
    },
    artifact::{
        Kind,
        layout::{Holder, ObjectName},
    },
    inventory::StoreRules,
    observe::stores::Look,
    stores::{
        Capabilities, Class, Listed, Put, Stat, Store, StoreError,
        faulty::{Call, Fault, Faults, FaultyStore, Health},
        memory::MemoryStore,
        whole::WholeStore,
    },
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::fixture::{Lab, Script, noise, rows};

fn faulty() -> (MemoryStore, Faults, FaultyStore) {
    let (memory, faults) = (MemoryStore::under_system_clock(), Faults::seeded(1));
    let store = FaultyStore::new(Arc::new(memory.clone()), faults.clone());
    (memory, faults, store)
}

#[tokio::test]
async fn a_producer_that_fails_leaves_nothing() {
    let lab = Lab::new();
    let stream = noise(1, 34 << 20);
    for length in [0, 10, 3 << 20, stream.len()] {
        let store = MemoryStore::under_system_clock();
        let source = Script::of(&stream[..length]).failing();
        let failed = lab.capture(&store, Kind::Full, None, source).await.unwrap_err();
        assert_eq!((failed.stage, failed.class()), (Stage::Streaming, Class::Retry));
        assert!(matches!(failed.fault, Failed::Source(_)), "{failed}");
        assert_eq!((store.names(), failed.left), (vec![], vec![]), "after {length} bytes");
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_commits_nothing() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = rows(0, 1000);
    let source = Script::of(&stream).taking_two_days(&lab.clock);
    let failed = lab.capture(&store, Kind::Full, None, source).await.unwrap_err();
    assert!(matches!(failed.fault, Failed::Lease(LeaseError::Lapsed { .. })), "{failed}");
    assert_eq!(store.names(), vec![]);
}

#[tokio::test]
async fn a_crash_at_any_call_leaves_the_whole_artifact_or_none() {
    let lab = Lab::new();
    let (old, new) = (noise(2, 600 << 10), noise(3, 600 << 10));
    let changed = [&old[..], &new].concat();
    let (mut crashes, mut commits) = (0, 0);
    for calls in 0.. {
        let (memory, faults, store) = faulty();
        let full = lab.capture(&memory, Kind::Full, None, Script::of(&old)).await.unwrap();
        let before = memory.names();
        let order = lab.order(Kind::Incremental, Some(full.artifact));
        let source = Script::of(&changed);
        faults.stop_after(calls);
        let done = tokio::select! {
            done = lab.carry_out(&order, &store, &source) => Some(done.unwrap()),
            () = faults.stopped() => None,
        };
        let committed = lab.committed(&memory, order.artifact).await;
        if let Some(manifest) = &committed {
            commits += 1;
            assert!(lab.read(&memory, manifest).await == changed, "after {calls} calls");
        }
        let cleaned =
            clean_up(&lab.look(&memory), &lab.interrupted(order.artifact), &lab.clock).await.unwrap();
        if committed.is_none() {
            assert!(matches!(cleaned, Cleaned::Removed(_)), "after {calls} calls: {cleaned:?}");
            assert_eq!(memory.names(), before, "after {calls} calls");
        } else {
            assert_eq!(cleaned, Cleaned::Committed);
        }
        match done {
            Some(_) => break,
            None => crashes += 1,
        }
    }
    assert!(crashes > 10 && commits > 1, "{crashes} crashes, {commits} with the manifest in place");
}

#[tokio::test]
async fn a_store_that_fails_or_lies_once_never_gets_a_bad_artifact() {
    let lab = Lab::new();
    let (memory, faults, store) = faulty();
    let stream = noise(4, 700 << 10);
    let changed = [&stream[..600 << 10], &noise(5, 600 << 10)].concat();
    let full = lab.capture(&memory, Kind::Full, None, Script::of(&stream)).await.unwrap();
    for call in [Call::Put, Call::Get, Call::Stat, Call::List, Call::Delete] {
        for fault in [Fault::Fail, Fault::LoseAnswer, Fault::Tear, Fault::Corrupt] {
            for earlier in 0..5 {
                let order = lab.order(Kind::Incremental, Some(full.artifact));
                for _ in 0..earlier {
                    faults.next(call, Fault::Delay(Duration::ZERO));
                }
                faults.next(call, fault);
                let what = format!("{fault:?} of {call:?} {earlier}");
                let result = lab.carry_out(&order, &store, &Script::of(&changed)).await;
                match result {
                    Ok(manifest) => assert!(lab.read(&memory, &manifest).await == changed, "{what}"),
                    Err(failed) if matches!(failed.fault, Failed::Outcome(_)) => {
                        if let Some(manifest) = lab.committed(&memory, order.artifact).await {
                            assert!(lab.read(&memory, &manifest).await == changed, "{what}");
                        }
                    }
                    Err(failed) => {
                        assert_eq!(lab.committed(&memory, order.artifact).await, None, "{what}: {failed}");
                        let own = order.artifact.to_string();
                        let mut left = memory.names();
                        left.retain(|name| name.as_str().contains(&own));
                        assert!(left.iter().all(|name| failed.left.contains(name)), "{what}: {left:?}");
                    }
                }
            }
        }
    }
    assert!(lab.read(&memory, &full).await == stream);
}

#[tokio::test]
async fn what_cannot_be_removed_is_named() {
    let lab = Lab::new();
    let (memory, faults, store) = faulty();
    let stream = noise(6, 2 << 20);
    let order = lab.order(Kind::Full, None);
    faults.next(Call::Stat, Fault::Fail);
    faults.next(Call::Delete, Fault::Fail);
    let failed = lab.carry_out(&order, &store, &Script::of(&stream)).await.unwrap_err();
    assert_eq!(failed.stage, Stage::Confirming);
    assert_eq!(failed.left.len(), memory.names().len());
    assert!(failed.to_string().contains("left behind"), "{failed}");
}

#[tokio::test]
async fn a_full_or_read_only_store_is_reported_as_such() {
    let lab = Lab::new();
    for (health, class) in
        [(Health::Full, Class::Wait(Duration::from_secs(60))), (Health::ReadOnly, Class::Stalled)]
    {
        let (memory, faults, store) = faulty();
        faults.set_health(health);
        let failed = lab.capture(&store, Kind::Full, None, Script::of(b"rows")).await.unwrap_err();
        assert_eq!((failed.class(), memory.names()), (class, vec![]), "{failed}");
    }
}

#[tokio::test]
async fn a_name_that_somebody_else_holds_is_not_touched() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let order = lab.order(Kind::Full, None);
    let theirs =
        backstay::artifact::layout::lease(&lab.fleet, &lab.backup, &Holder::Writer(order.artifact), 0);
    store.put_if_absent(&theirs, "theirs".into()).await.unwrap();
    let failed = lab.carry_out(&order, &store, &Script::of(b"rows")).await.unwrap_err();
    assert!(matches!(failed.fault, Failed::Lease(LeaseError::Unreadable { .. })), "{failed}");
    assert_eq!(store.names(), [theirs]);
}

/// A store whose puts of manifests, once begun, take effect when they are let, whether or not anybody waits.
struct SlowStore {
    memory: MemoryStore,
    begun: Semaphore,
    let_go: Arc<Semaphore>,
}

#[async_trait]
impl Store for SlowStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let (memory, name, let_go) = (self.memory.clone(), name.clone(), self.let_go.clone());
        if !(name.as_str().contains("/artifacts/") && name.as_str().ends_with(".json")) {
            return memory.put_if_absent(&name, content).await;
        }
        self.begun.add_permits(1);
        let put = async move {
            let _ = let_go.acquire().await;
            memory.put_if_absent(&name, content).await
        };
        tokio::spawn(put).await.unwrap()
    }

    async fn get(&self, name: &ObjectName, part: Option<Range<u64>>, most: u64) -> Result<Bytes, StoreError> {
        self.memory.get(name, part, most).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.memory.stat(name).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.memory.list(under).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.memory.delete(name).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.memory.clock().await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.memory.capabilities().await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.memory.rules(under).await
    }
}

#[tokio::test]
async fn a_manifest_on_its_way_when_its_capture_is_dropped_is_waited_for_and_nothing_that_it_names_goes() {
    let (lab, memory) = (Lab::new(), MemoryStore::under_system_clock());
    let let_go = Arc::new(Semaphore::new(0));
    let slow =
        Arc::new(SlowStore { memory: memory.clone(), begun: Semaphore::new(0), let_go: let_go.clone() });
    let store: Arc<dyn Store> = Arc::new(WholeStore::new(slow.clone()));
    let folder = lab.folder(store.clone());
    let (order, stream) = (lab.order(Kind::Full, None), rows(0, 1000));
    let source = Script::of(&stream);
    tokio::select! {
        _ = lab.carry_out_in(&order, &folder, &source) => panic!("it is not let go"),
        _ = slow.begun.acquire() => {}
    }

    let (look, left) = (Look { store, ..lab.look(&memory) }, lab.interrupted(order.artifact));
    let mut cleaning = std::pin::pin!(clean_up(&look, &left, &lab.clock));
    let early = futures::poll!(&mut cleaning);
    assert!(early.is_pending(), "cleaned up before it is known what there is: {early:?}");
    let_go.add_permits(1);
    assert_eq!(cleaning.await.unwrap(), Cleaned::Committed);
    let committed = lab.committed(&memory, order.artifact).await.expect("its manifest arrived");
    assert!(lab.read(&memory, &committed).await == stream);
}
