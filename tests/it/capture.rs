//! Captures into stores: what becomes an artifact, what is shared, and what is left when something fails.

mod failures;
pub mod fixture;
mod referees;

use std::sync::Arc;

use backstay::{
    apply::capture::{Fault, Means, Stage, capture},
    artifact::{Kind, layout::ObjectName, manifest::Sealed},
    clock::ManualClock,
    progress::Unseen,
    stores::{faulty::Call, memory::MemoryStore},
};
use fixture::{Lab, Script, noise, rows, segments, start};
use jiff::Span;
use sha2::{Digest, Sha256};

use crate::leases::Watched;

#[tokio::test]
async fn a_full_stands_alone_and_reads_back() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = rows(0, 60_000);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    assert_eq!((full.base, full.epoch), (None, full.artifact));
    assert_eq!(segments(&full).length, stream.len() as u64);
    assert_eq!(lab.read(&store, &full).await, stream);
    let sealed: Sealed = lab.unseal(&full);
    assert_eq!(sealed.sha256, Some(hex::encode(Sha256::digest(&stream))));
    assert!(store.names().iter().all(|name| !name.as_str().contains("/open/")), "the lease is dropped");
    let again = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    assert!(segments(&again).packs.keys().all(|pack| pack.artifact == again.artifact));
}

#[tokio::test]
async fn the_moment_of_a_capture_is_that_of_its_reading_however_slow_the_store_is_before() {
    let (lab, memory, clock) =
        (Lab::new(), MemoryStore::under_system_clock(), Arc::new(ManualClock::new(start())));
    let base = lab.capture(&memory, Kind::Full, None, Script::of(b"rows")).await.unwrap();
    let slow = clock.clone();
    // The base's manifest, and its index.
    let tell = move |call, _: &ObjectName| {
        if matches!(call, Call::Get) {
            slow.advance(Span::new().minutes(5));
        }
    };
    let folder = lab.folder(Arc::new(Watched { memory: memory.clone(), tell }));
    let (order, source) = (lab.order(Kind::Incremental, Some(base.artifact)), Script::of(b"more rows"));
    let means =
        Means { source: &source, folder: &folder, keys: &lab.keys, clock: &*clock, progress: &Unseen };
    let made = capture(&order, &means).await.unwrap();
    assert_eq!(made.started, start());
    assert!(made.moment.newest() >= start() + Span::new().minutes(10), "{:?}", made.moment);
    assert!(made.moment.newest() <= made.finished);
}

#[tokio::test]
async fn an_empty_stream_is_an_artifact() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let full = lab.capture(&store, Kind::Full, None, Script::of(b"")).await.unwrap();
    assert_eq!((segments(&full).count, segments(&full).packs.len()), (0, 0));
    assert_eq!(lab.read(&store, &full).await, b"");
}

#[tokio::test]
async fn a_stream_of_many_packs_reads_back() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(1, 36 << 20);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    assert_eq!(segments(&full).packs.len(), 2);
    assert!(segments(&full).packs.values().all(|pack| pack.size <= 32 << 20));
    assert!(lab.read(&store, &full).await == stream);
}

#[tokio::test]
async fn a_stream_that_is_expected_to_be_long_is_cut_into_longer_segments_and_its_increments_alike() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(9, 24 << 20);
    let plain = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    let mut order = lab.order(Kind::Full, None);
    order.expected = Some(1 << 40);
    let long = lab.carry_out(&order, &store, &Script::of(&stream)).await.unwrap();
    assert_eq!((segments(&plain).average, segments(&long).average), (1 << 20, 4 << 20));
    assert!(segments(&long).count < segments(&plain).count);
    let next = lab.capture(&store, Kind::Incremental, Some(long.artifact), Script::of(&stream));
    let next = next.await.unwrap();
    assert_eq!((segments(&next).average, lab.own_bytes(&next)), (4 << 20, 0));
}

#[tokio::test]
async fn an_unchanged_incremental_writes_no_pack() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(2, 8 << 20);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    let next =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(&stream)).await.unwrap();
    assert_eq!((next.base, next.epoch), (Some(full.artifact), full.artifact));
    assert_eq!(segments(&next).packs, segments(&full).packs);
    assert!(lab.read(&store, &next).await == stream);
}

#[tokio::test]
async fn a_changed_stream_shares_what_did_not_change() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(3, 8 << 20);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    let mut changed = stream[..3 << 20].to_vec();
    changed.extend_from_slice(b"an insertion moves everything behind it");
    changed.extend_from_slice(&stream[3 << 20..]);
    let next =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(&changed)).await.unwrap();
    let own: u64 = lab.own_bytes(&next);
    assert!(own > 0 && own < 6 << 20, "{own} bytes are new");
    assert!(lab.read(&store, &next).await == changed);
}

#[tokio::test]
async fn repeated_content_is_stored_once() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(4, 6 << 20).repeat(2);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    assert!(lab.own_bytes(&full) < 10 << 20, "{}", lab.own_bytes(&full));
    assert!(lab.read(&store, &full).await == stream);
}

#[tokio::test]
async fn an_incremental_shares_with_its_base_and_a_differential_with_the_full_only() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let (old, new) = (noise(5, 4 << 20), noise(6, 4 << 20));
    let both = [old.clone(), new].concat();
    let full = lab.capture(&store, Kind::Full, None, Script::of(&old)).await.unwrap();
    let base = Some(full.artifact);
    let first = lab.capture(&store, Kind::Incremental, base, Script::of(&both)).await.unwrap();
    let second =
        lab.capture(&store, Kind::Incremental, Some(first.artifact), Script::of(&both)).await.unwrap();
    let differential = lab.capture(&store, Kind::Differential, base, Script::of(&both)).await.unwrap();
    assert_eq!((second.epoch, differential.epoch), (full.artifact, full.artifact));
    assert_eq!(lab.own_bytes(&second), 0);
    assert!(segments(&second).packs.keys().any(|pack| pack.artifact == first.artifact));
    assert!(segments(&differential).packs.keys().all(|pack| pack.artifact != first.artifact));
    assert!(lab.own_bytes(&differential) > 0);
    assert!(lab.read(&store, &differential).await == both);
}

#[tokio::test]
async fn runs_with_a_known_key_are_taken_from_the_base() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let (a, b, c) = (noise(7, 3 << 20), rows(0, 100), noise(8, 2 << 20));
    let files = || Script::new().run(Some([1; 32]), &a).run(Some([2; 32]), &b).run(None, &c);
    let full = lab.capture(&store, Kind::Full, None, files()).await.unwrap();
    let changed = rows(7, 100);
    let next = Script::new().run(Some([1; 32]), &a).run(Some([3; 32]), &changed).run(None, &c);
    let next = lab.capture(&store, Kind::Incremental, Some(full.artifact), next.leaving_out()).await.unwrap();
    let whole = [a.clone(), changed, c.clone()].concat();
    assert!(lab.read(&store, &next).await == whole);
    assert_eq!(segments(&next).length, whole.len() as u64);
    assert_eq!(lab.unseal(&next).sha256, None, "the run was not read");
    let third = lab.capture(&store, Kind::Incremental, Some(next.artifact), files().leaving_out());
    let third = third.await.unwrap();
    assert!(lab.read(&store, &third).await == [a, b, c].concat(), "what was reused can be reused again");
}

#[tokio::test]
async fn bytes_of_a_run_that_was_to_be_left_out_fail_the_capture() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let files = || Script::new().run(Some([1; 32]), b"content");
    let full = lab.capture(&store, Kind::Full, None, files()).await.unwrap();
    let before = store.names();
    let failed = lab.capture(&store, Kind::Incremental, Some(full.artifact), files()).await.unwrap_err();
    assert!(matches!(failed.fault, Fault::Misused), "{failed}");
    assert_eq!(store.names(), before);
}

#[tokio::test]
async fn a_change_of_recipients_reuses_nothing() {
    let (mut lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(9, 2 << 20);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    lab.add_recipient();
    let next =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(&stream)).await.unwrap();
    assert!(segments(&next).packs.keys().all(|pack| pack.artifact == next.artifact));
    assert!(lab.read(&store, &next).await == stream);
}

#[tokio::test]
async fn segments_of_lost_or_short_packs_are_written_anew() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let stream = noise(10, 36 << 20);
    let full = lab.capture(&store, Kind::Full, None, Script::of(&stream)).await.unwrap();
    store.lose(&lab.pack(&full, 0));
    store.overwrite(&lab.pack(&full, 1), bytes::Bytes::from_static(b"short"));
    let next =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(&stream)).await.unwrap();
    assert!(segments(&next).packs.keys().all(|pack| pack.artifact == next.artifact));
    assert!(lab.read(&store, &next).await == stream);
}

#[tokio::test]
async fn a_base_without_a_trusted_signature_is_of_no_use() {
    let (lab, store) = (Lab::new(), MemoryStore::under_system_clock());
    let full = lab.capture(&store, Kind::Full, None, Script::of(b"rows")).await.unwrap();
    let name = lab.manifest_name(&full);
    let text = String::from_utf8(lab.get(&store, &name).await).unwrap();
    store.overwrite(&name, text.replace("scheduled", "tampered").into());
    let before = store.names();
    let failed =
        lab.capture(&store, Kind::Incremental, Some(full.artifact), Script::of(b"rows")).await.unwrap_err();
    assert_eq!(failed.stage, Stage::ReadingTheBase);
    assert!(matches!(failed.fault, Fault::Base { .. }), "{failed}");
    assert_eq!(store.names(), before);
}
