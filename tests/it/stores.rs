//! Stores that need no server.

#[allow(dead_code, reason = "only the servers of the other test binary need every option")]
#[path = "../conformance/stores.rs"]
mod conformance;

use conformance::{Names, Subject};
use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use backstay::{
    artifact::layout::ObjectName,
    stores::{
        ErrorKind, Put, Store,
        faulty::{Call, Chances, Fault, Faults, FaultyStore, Health},
        limit::LimitedStore,
        local::{self, LocalStore},
        memory::MemoryStore,
        retry::{Attempts, RetryStore},
    },
};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let store = Arc::new(MemoryStore::under_system_clock());
    conformance::run(Subject { store, rootless: None, names: Names::Any }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::new(root.path()));
    let rootless = Arc::new(LocalStore::new(root.path().join("missing")));
    conformance::run(Subject { store, rootless: Some(rootless), names: Names::Any }).await;
    assert!(!root.path().join("missing").exists(), "a missing root is not made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_retried_and_limited_conforms_also_when_calls_fail() {
    let faults = Faults::seeded(7);
    faults.set_chances(Chances { fail: 0.05, lose_answer: 0.05, ..Chances::default() });
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::under_system_clock()), faults));
    let retry = Arc::new(RetryStore::new(faulty, at_once(20)));
    let store = Arc::new(LimitedStore::new(retry, 4.try_into().unwrap()));
    conformance::run(Subject { store, rootless: None, names: Names::Any }).await;
}

fn at_once(more: usize) -> Attempts {
    Attempts { more, first_pause: Duration::from_micros(1), longest_pause: Duration::from_micros(1) }
}

struct Flaky {
    faults: Faults,
    memory: MemoryStore,
    retry: RetryStore,
}

fn flaky() -> Flaky {
    let (faults, memory) = (Faults::seeded(1), MemoryStore::under_system_clock());
    let faulty = FaultyStore::new(Arc::new(memory.clone()), faults.clone());
    Flaky { faults, memory, retry: RetryStore::new(Arc::new(faulty), at_once(2)) }
}

#[tokio::test]
async fn a_put_whose_answer_was_lost_is_created_and_another_ones_object_existed() {
    let Flaky { faults, memory, retry } = flaky();
    faults.next(Call::Put, Fault::LoseAnswer);
    assert_eq!(retry.put_if_absent(&name("a"), "mine".into()).await.unwrap(), Put::Created);
    memory.overwrite(&name("b"), "another's".into());
    faults.next(Call::Put, Fault::Fail);
    assert_eq!(retry.put_if_absent(&name("b"), "mine".into()).await.unwrap(), Put::Existed);
}

#[tokio::test]
async fn attempts_end_and_what_a_person_must_mend_is_not_tried_again() {
    let Flaky { faults, retry, .. } = flaky();
    for (health, kind, calls) in [
        (Health::Away, ErrorKind::Transient, 3),
        (Health::ReadOnly, ErrorKind::Denied, 1),
        (Health::Full, ErrorKind::Full, 1),
        (Health::Gone, ErrorKind::Unavailable, 1),
    ] {
        faults.set_health(health);
        let before = faults.calls();
        let error = retry.put_if_absent(&name("a"), "x".into()).await.expect_err("the store is not well");
        assert_eq!((error.kind, faults.calls() - before), (kind, calls), "{health:?}");
    }
    faults.set_health(Health::Well);
    assert_eq!(retry.put_if_absent(&name("a"), "x".into()).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn torn_and_corrupted_content_is_not_what_was_put() {
    let Flaky { faults, memory, retry } = flaky();
    faults.next(Call::Put, Fault::Corrupt);
    retry.put_if_absent(&name("a"), "content".into()).await.unwrap();
    assert_ne!(memory.get(&name("a"), None, 99).await.unwrap(), "content");
    faults.next(Call::Put, Fault::Tear);
    let put = retry.put_if_absent(&name("b"), "content".into()).await.unwrap();
    assert_eq!(put, Put::Existed, "a torn object is not taken for the one that was put");
    memory.overwrite(&name("c"), "content".into());
    faults.next(Call::Get, Fault::Tear);
    assert_eq!(retry.get(&name("c"), None, 99).await.unwrap(), "con");
}

#[tokio::test]
async fn a_stopped_store_never_answers_until_it_is_resumed() {
    let Flaky { faults, memory, retry } = flaky();
    faults.stop_after(1);
    retry.put_if_absent(&name("a"), "x".into()).await.unwrap();
    let second = name("b");
    tokio::select! {
        _ = retry.put_if_absent(&second, "x".into()) => panic!("the call returned"),
        () = faults.stopped() => {}
    }
    faults.resume();
    assert_eq!(memory.names(), [name("a")]);
    retry.put_if_absent(&name("b"), "x".into()).await.unwrap();
}

#[tokio::test]
async fn a_limited_store_is_given_no_more_calls_than_its_limit() {
    let faults = Faults::seeded(1);
    let faulty = Arc::new(FaultyStore::new(Arc::new(MemoryStore::under_system_clock()), faults.clone()));
    let limited = LimitedStore::new(faulty, 2.try_into().unwrap());
    faults.stop_after(0);
    let object = name("a");
    let calls = futures::future::join_all((0..5).map(|_| limited.stat(&object)));
    tokio::select! {
        biased;
        _ = calls => panic!("the calls returned"),
        () = faults.stopped() => {}
    }
    assert_eq!(faults.stopped_calls(), 2);
    faults.resume();
    limited.stat(&object).await.unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn what_local_writes_is_its_owners_only() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("a/store");
    local::create(&root).unwrap();
    let store = LocalStore::new(&root);
    store.put_if_absent(&name("fleet/one"), "x".into()).await.unwrap();
    assert_eq!(mode(&root), 0o700);
    assert_eq!(mode(&root.join("fleet")), 0o700);
    assert_eq!(mode(&root.join("fleet/one")), 0o600);
    assert_eq!(mode(&root.join(".backstay-tmp")), 0o700);
    assert_eq!(std::fs::read_dir(root.join(".backstay-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn local_leaves_no_empty_folders_and_keeps_its_root() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::new(root.path());
    store.put_if_absent(&name("fleet/a/one"), "x".into()).await.unwrap();
    store.delete(&name("fleet/a/one")).await.unwrap();
    assert!(!root.path().join("fleet").exists());
    assert!(root.path().exists());
}

#[tokio::test]
async fn local_refuses_links_inside_the_store() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.path().join("fleet")).unwrap();
    let store = LocalStore::new(root.path());
    let inside = name("fleet/secret");
    let errors = [
        store.put_if_absent(&name("fleet/new"), "x".into()).await.err(),
        store.get(&inside, None, 9).await.err(),
        store.stat(&inside).await.err(),
        store.list(&name("fleet")).await.err(),
        store.delete(&inside).await.err(),
    ];
    for error in errors {
        let error = error.expect("a link is refused");
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
    }
    assert!(outside.path().join("secret").exists());
    assert!(!outside.path().join("new").exists());
}

#[tokio::test]
async fn local_refuses_to_list_past_a_link_and_does_not_block_on_a_pipe() {
    let root = tempfile::tempdir().unwrap();
    let store = LocalStore::new(root.path());
    store.put_if_absent(&name("fleet/one"), "x".into()).await.unwrap();
    std::os::unix::fs::symlink("/etc/hostname", root.path().join("fleet/link")).unwrap();
    assert_eq!(store.list(&name("fleet")).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(store.get(&name("fleet/link"), None, 99).await.unwrap_err().kind, ErrorKind::Denied);
    let pipe = root.path().join("fleet/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(store.get(&name("fleet/pipe"), None, 99).await.unwrap_err().kind, ErrorKind::Protocol);
}

#[tokio::test]
async fn local_removes_what_dead_writers_left_and_spares_the_living() {
    let root = tempfile::tempdir().unwrap();
    local::create(root.path()).unwrap();
    let (dead, living) = (root.path().join(".backstay-tmp/dead"), root.path().join(".backstay-tmp/living"));
    std::fs::write(&dead, "half").unwrap();
    let open = std::fs::File::create(&living).unwrap();
    rustix::fs::flock(&open, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let store = LocalStore::new(root.path());
    store.put_if_absent(&name("fleet/one"), "x".into()).await.unwrap();
    assert!(!dead.exists());
    assert!(living.exists());
}

#[tokio::test]
async fn a_local_store_that_was_unmounted_is_unavailable_and_not_empty() {
    let root = tempfile::tempdir().unwrap();
    let (mounted, away) = (root.path().join("store"), root.path().join("away"));
    local::create(&mounted).unwrap();
    let store = LocalStore::new(&mounted);
    store.put_if_absent(&name("fleet/one"), "x".into()).await.unwrap();
    std::fs::rename(&mounted, &away).unwrap();
    assert_eq!(store.list(&name("fleet")).await.unwrap_err().kind, ErrorKind::Unavailable);
    std::fs::create_dir(&mounted).unwrap();
    let error = store.list(&name("fleet")).await.expect_err("an empty mount point is not the store");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let error = store.put_if_absent(&name("fleet/two"), "x".into()).await.expect_err("nor is it written to");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    std::fs::remove_dir(&mounted).unwrap();
    std::fs::rename(&away, &mounted).unwrap();
    assert_eq!(store.put_if_absent(&name("fleet/one"), "y".into()).await.unwrap(), Put::Existed);
}
