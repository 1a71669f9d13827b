//! Leases: work of days keeps its own, work whose lease has lapsed commits nothing, and what is read is not deleted.

mod copies;
mod reading;

use std::{ops::Range, sync::Arc};

use async_trait::async_trait;
use backstay::{
    apply::{
        capture::{Fault, Means, capture},
        cleanup::{Cleaned, clean_up},
        lease::{Held, LeaseError},
    },
    artifact::{
        ArtifactId, Kind,
        layout::{Holder, ObjectName},
        manifest::{Details, Moment},
    },
    clock::{Clock, ManualClock},
    committed::BackupFolder,
    inventory::{Lease, StoreRules},
    observe::stores::leases,
    progress::Unseen,
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Sink, Source, SourceError},
    stores::{
        Capabilities, Listed, Put, Stat, Store, StoreError,
        faulty::{Call, Faults, FaultyStore, Health},
        memory::MemoryStore,
    },
};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncRead;

use crate::capture::fixture::{Lab, Script, noise, rows, start};

/// A clock that shows [`start`], and a store that goes by it.
fn timed() -> (Arc<ManualClock>, MemoryStore) {
    let clock = Arc::new(ManualClock::new(start()));
    let tells = clock.clone();
    (clock, MemoryStore::new(Arc::new(move || tells.now())))
}

fn hours(hours: i64) -> Timestamp {
    start() + SignedDuration::from_hours(hours)
}

/// Lets the time pass, in steps of five minutes, and has what waits for it done each time; ends never.
async fn time_passes(clock: &ManualClock) {
    loop {
        a_step_passes(clock).await;
    }
}

async fn a_step_passes(clock: &ManualClock) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    clock.advance(jiff::Span::new().minutes(5));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A clock that jumps without waking anybody, as that of a host which slept.
pub struct JumpingClock(std::sync::Mutex<Timestamp>);

impl JumpingClock {
    pub fn new(now: Timestamp) -> Self {
        Self(std::sync::Mutex::new(now))
    }

    pub fn jump(&self) {
        let mut now = self.0.lock().unwrap();
        *now += SignedDuration::from_hours(2);
    }
}

impl Clock for JumpingClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A store in memory that tells of every call before it.
pub struct Watched<F> {
    pub memory: MemoryStore,
    pub tell: F,
}

/// A store in memory whose puts of packs wait for a moment.
pub struct Slowed {
    pub memory: MemoryStore,
    pub until: (Arc<ManualClock>, Timestamp),
}

#[async_trait]
impl<F: Fn(Call, &ObjectName) + Send + Sync> Store for Watched<F> {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        (self.tell)(Call::Put, name);
        self.memory.put_if_absent(name, content).await
    }

    async fn get(&self, name: &ObjectName, part: Option<Range<u64>>, most: u64) -> Result<Bytes, StoreError> {
        (self.tell)(Call::Get, name);
        self.memory.get(name, part, most).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        (self.tell)(Call::Stat, name);
        self.memory.stat(name).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        (self.tell)(Call::List, under);
        self.memory.list(under).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        (self.tell)(Call::Delete, name);
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

#[async_trait]
impl Store for Slowed {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        if name.as_str().contains("/packs/") {
            self.until.0.until(self.until.1).await;
        }
        self.memory.put_if_absent(name, content).await
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

/// A source whose dump pauses in the middle.
struct Slow<'a, F> {
    stream: &'a [u8],
    /// Its clock, and until when.
    pause: (&'a ManualClock, Timestamp),
    /// Done before the pause.
    meanwhile: F,
}

#[async_trait]
impl<F: Fn() + Send + Sync> Source for Slow<'_, F> {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "slow".to_owned() })
    }

    fn stream_name(&self) -> String {
        "agama.sql".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let (first, second) = self.stream.split_at(self.stream.len() / 2);
        for half in [first, second] {
            sink.write(Bytes::copy_from_slice(half)).await.expect("the stream is read");
            if half.as_ptr() == first.as_ptr() {
                (self.meanwhile)();
                self.pause.0.until(self.pause.1).await;
            }
        }
        Ok(Captured {
            moment: Moment::At { time: request.now(), position: None },
            details: Details::default(),
        })
    }

    async fn restore(
        &self,
        _: &mut (dyn AsyncRead + Send + Unpin),
        _: &Place,
    ) -> Result<Restored, SourceError> {
        panic!("nothing is restored here")
    }
}

fn open(store: &MemoryStore) -> Vec<ObjectName> {
    let names = store.names().into_iter();
    names.filter(|name| name.as_str().contains("/open/")).collect()
}

fn committed(store: &MemoryStore) -> Vec<ObjectName> {
    let names = store.names().into_iter();
    names.filter(|name| name.as_str().contains("/artifacts/")).collect()
}

/// Lets the time pass, and looks whether the lease is there from its begin on; ends never.
async fn always_leased(
    folder: &BackupFolder,
    artifact: ArtifactId,
    clock: &ManualClock,
    store: &MemoryStore,
) {
    loop {
        a_step_passes(clock).await;
        let lease = leases::now(folder).await.unwrap().writers.remove(&artifact);
        assert!(lease.is_some_and(|lease| lease.until > clock.now()), "no live lease at {}", clock.now());
        assert!(open(store).len() <= 3, "{:?}", open(store));
    }
}

/// The same of a reader.
async fn always_read(folder: &BackupFolder, reader: ArtifactId, clock: &ManualClock) {
    loop {
        a_step_passes(clock).await;
        let lease = leases::now(folder).await.unwrap().readers.remove(&reader);
        assert!(lease.is_some_and(|lease| lease.until > clock.now()), "no live lease at {}", clock.now());
    }
}

#[tokio::test]
async fn a_capture_of_two_days_keeps_its_lease_and_commits() {
    let (lab, (clock, store)) = (Lab::new(), timed());
    let folder = lab.folder(Arc::new(store.clone()));
    let (order, stream) = (lab.order(Kind::Full, None), rows(0, 2000));
    let source = Slow { stream: &stream, pause: (&clock, hours(48)), meanwhile: || () };
    let means =
        Means { source: &source, folder: &folder, keys: &lab.keys, clock: &*clock, progress: &Unseen };
    let manifest = tokio::select! {
        done = capture(&order, &means) => done.unwrap(),
        () = always_leased(&folder, order.artifact, &clock, &store) => unreachable!("it ends never"),
    };
    assert!(manifest.finished >= hours(48));
    assert!(lab.read(&store, &manifest).await == stream);
    assert_eq!(open(&store), []);
}

#[tokio::test]
async fn a_capture_whose_lease_cannot_be_renewed_ends_with_it_and_commits_nothing() {
    let (lab, (clock, memory), faults) = (Lab::new(), timed(), Faults::seeded(1));
    let folder = lab.folder(Arc::new(FaultyStore::new(Arc::new(memory.clone()), faults.clone())));
    let (order, stream) = (lab.order(Kind::Full, None), rows(0, 2000));
    let meanwhile = || faults.set_health(Health::Away);
    let source = Slow { stream: &stream, pause: (&clock, hours(48)), meanwhile };
    let means =
        Means { source: &source, folder: &folder, keys: &lab.keys, clock: &*clock, progress: &Unseen };
    let failed = tokio::select! {
        done = capture(&order, &means) => done.unwrap_err(),
        () = time_passes(&clock) => unreachable!("it ends never"),
    };
    assert!(clock.now() < hours(48), "streamed on for nothing");
    let Fault::Lease(LeaseError::Lapsed { why: Some(why), .. }) = &failed.fault else { panic!("{failed}") };
    assert!(failed.to_string().contains(why.as_str()), "{failed}");
    assert_eq!(committed(&memory), []);
}

#[tokio::test]
async fn an_outage_shorter_than_the_term_ends_no_capture() {
    let (lab, (clock, memory), faults) = (Lab::new(), timed(), Faults::seeded(1));
    let folder = lab.folder(Arc::new(FaultyStore::new(Arc::new(memory.clone()), faults.clone())));
    let (order, stream) = (lab.order(Kind::Full, None), rows(0, 2000));
    let (begun, told) = (tokio::sync::Notify::new(), faults.clone());
    let meanwhile = || {
        told.set_health(Health::Away);
        begun.notify_one();
    };
    let source = Slow { stream: &stream, pause: (&clock, hours(48)), meanwhile };
    let means =
        Means { source: &source, folder: &folder, keys: &lab.keys, clock: &*clock, progress: &Unseen };
    let outage = async {
        begun.notified().await;
        for _ in 0..6 {
            a_step_passes(&clock).await;
        }
        faults.set_health(Health::Well);
        time_passes(&clock).await;
    };
    let manifest = tokio::select! {
        done = capture(&order, &means) => done.unwrap(),
        () = outage => unreachable!("it ends never"),
    };
    assert!(lab.read(&memory, &manifest).await == stream);
}

#[tokio::test]
async fn a_capture_whose_lease_lapses_between_signature_and_manifest_commits_nothing() {
    let (lab, memory) = (Lab::new(), MemoryStore::new(Arc::new(start)));
    let clock = Arc::new(JumpingClock::new(start()));
    let set = clock.clone();
    let tell = move |call, name: &ObjectName| {
        if call == Call::Put && name.as_str().ends_with(".json.sig") {
            set.jump();
        }
    };
    let folder = lab.folder(Arc::new(Watched { memory: memory.clone(), tell }));
    let (order, stream) = (lab.order(Kind::Full, None), noise(1, 1000));
    let source = Script::of(&stream);
    let means =
        Means { source: &source, folder: &folder, keys: &lab.keys, clock: clock.as_ref(), progress: &Unseen };
    let failed = capture(&order, &means).await.unwrap_err();
    assert!(matches!(failed.fault, Fault::Lease(LeaseError::Lapsed { .. })), "{failed}");
    assert_eq!(memory.names(), []);
}

#[tokio::test]
async fn of_two_who_write_one_artifact_the_second_steps_back_until_the_first_has_lapsed() {
    let (lab, other, (clock, store)) = (Lab::new(), Lab::new(), timed());
    let folder = lab.folder(Arc::new(store.clone()));
    let id = ArtifactId::new(start(), 1);
    let first = Held::take(&folder, id, id, &lab.keys, &*clock).await.unwrap();
    let refused = Held::take(&folder, id, id, &other.keys, &*clock).await.err().unwrap();
    assert!(matches!(refused, LeaseError::Taken { .. }), "{refused}");
    assert_eq!(open(&store), [folder.lease(Holder::Writer(id), 0)]);

    clock.set(hours(1));
    assert!(first.check(&*clock).is_err());
    let second = Held::take(&folder, id, id, &other.keys, &*clock).await.unwrap();
    assert!(second.check(&*clock).is_ok());
    let lease = leases::now(&folder).await.unwrap().writers.remove(&id).unwrap();
    assert_eq!(lease.controller, other.keys.public_key());
    second.release().await;
    assert_eq!(open(&store), []);
}

#[tokio::test]
async fn the_lease_of_another_controller_is_left_alone_by_a_clean_up() {
    let (lab, other, (clock, store)) = (Lab::new(), Lab::new(), timed());
    let folder = lab.folder(Arc::new(store.clone()));
    let id = ArtifactId::new(start(), 1);
    let held = Held::take(&folder, id, id, &other.keys, &*clock).await.unwrap();
    let pack = folder.pack(format!("{id}/0").try_into().unwrap());
    store.put_if_absent(&pack, "under way".into()).await.unwrap();
    let before = store.names();
    for _ in 0..2 {
        let cleaned = clean_up(&lab.look(&store), &lab.interrupted(id), &*clock).await.unwrap();
        assert!(matches!(cleaned, Cleaned::Left(why) if why.contains(&other.keys.public_key())));
        assert_eq!(store.names(), before);
        // Also once it has lapsed: what it wrote is not ours to remove.
        clock.advance(jiff::Span::new().hours(2));
    }
    drop(held);
    let cleaned = clean_up(&other.look(&store), &other.interrupted(id), &*clock).await.unwrap();
    assert_eq!((cleaned, store.names()), (Cleaned::Removed(9), vec![]));
}

#[tokio::test]
async fn the_newest_turn_counts_and_one_that_vanishes_while_it_is_read_has_a_next_one() {
    let (lab, (_, memory)) = (Lab::new(), timed());
    let here = lab.folder(Arc::new(memory.clone()));
    let id = ArtifactId::new(start(), 1);
    let turn = |number: u32, until: Timestamp| {
        let lease = Lease { epoch: id, until, controller: "another".to_owned() };
        memory.overwrite(&here.lease(Holder::Writer(id), number), serde_json::to_vec(&lease).unwrap().into());
    };
    let (early, late) = (start(), start() + SignedDuration::from_hours(1));
    turn(9, late);
    turn(10, early);
    let read = leases::now(&here).await.unwrap();
    assert_eq!(read.writers[&id].until, early, "turn 10 is newer than turn 9");

    // Both are replaced after they were listed.
    let replaced = std::sync::Once::new();
    let (renews, names) = (memory.clone(), here.clone());
    let tell = move |call, _: &ObjectName| {
        if call == Call::Get {
            replaced.call_once(|| {
                let lease = Lease { epoch: id, until: late, controller: "another".to_owned() };
                let next = names.lease(Holder::Writer(id), 11);
                renews.overwrite(&next, serde_json::to_vec(&lease).unwrap().into());
                renews.lose(&names.lease(Holder::Writer(id), 9));
                renews.lose(&names.lease(Holder::Writer(id), 10));
            });
        }
    };
    let folder = lab.folder(Arc::new(Watched { memory: memory.clone(), tell }));
    let read = leases::now(&folder).await.unwrap();
    assert_eq!(read.writers.get(&id).map(|lease| lease.until), Some(late));
}

#[tokio::test]
async fn a_lease_that_cannot_be_read_counts_for_a_day_and_no_longer() {
    let ((clock, store), lab) = (timed(), Lab::new());
    let (folder, id) = (lab.folder(Arc::new(store.clone())), ArtifactId::new(start(), 7));
    store.overwrite(&folder.lease(Holder::Writer(id), 0), Bytes::from_static(b"{"));
    clock.set(hours(24) - SignedDuration::from_secs(1));
    let refused = Held::take(&folder, id, id, &lab.keys, &*clock).await.err().unwrap();
    assert!(matches!(refused, LeaseError::Unreadable { until, .. } if until == hours(24)), "{refused}");
    clock.set(hours(24));
    Held::take(&folder, id, id, &lab.keys, &*clock).await.unwrap();
}
