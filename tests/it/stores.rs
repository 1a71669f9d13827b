//! Stores that need no server.

#[path = "../conformance/stores.rs"]
mod conformance;

use std::{os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use backstay::{
    artifact::layout::ObjectName,
    stores::{
        ErrorKind, Put, Store,
        local::{self, LocalStore},
        memory::MemoryStore,
    },
};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    let store = Arc::new(MemoryStore::under_system_clock());
    conformance::run(conformance::Subject { store, rootless: None }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_conforms() {
    let root = tempfile::tempdir().unwrap();
    let store = Arc::new(LocalStore::new(root.path()));
    let rootless = Arc::new(LocalStore::new(root.path().join("missing")));
    conformance::run(conformance::Subject { store, rootless: Some(rootless) }).await;
    assert!(!root.path().join("missing").exists(), "a missing root is not made");
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
