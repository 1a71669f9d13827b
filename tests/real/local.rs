//! The local store on a file system that fills up, is read-only, or goes away.

use backstay::{
    artifact::layout::ObjectName,
    stores::{ErrorKind, Put, Store, StoreError, local::LocalStore},
};

use crate::lab::tmpfs::Tmpfs;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

async fn put(store: &LocalStore, object: &str, content: Vec<u8>) -> Result<Put, StoreError> {
    store.put_if_absent(&name(object), content.into()).await
}

#[tokio::test]
async fn a_full_store_is_full_and_takes_objects_again_once_there_is_room() {
    let disk = Tmpfs::mount(4 << 20);
    let store = LocalStore::new(disk.path());
    put(&store, "fleet/small", vec![1; 1 << 20]).await.unwrap();
    let error = put(&store, "fleet/large", vec![2; 8 << 20]).await.expect_err("there is no room");
    assert_eq!(error.kind, ErrorKind::Full, "{error}");
    assert!(error.to_string().contains("free space"), "{error}");
    assert_eq!(store.stat(&name("fleet/large")).await.unwrap(), None);
    assert_eq!(put(&store, "fleet/next", vec![3; 2 << 20]).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn a_read_only_store_is_denied_and_can_still_be_read() {
    let disk = Tmpfs::mount(4 << 20);
    let store = LocalStore::new(disk.path());
    put(&store, "fleet/one", vec![1]).await.unwrap();
    disk.forbid_writing();
    let errors =
        [put(&store, "fleet/two", vec![2]).await.err(), store.delete(&name("fleet/one")).await.err()];
    for error in errors {
        let error = error.expect("nothing can be changed");
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains("mount it for writing"), "{error}");
    }
    assert_eq!(store.get(&name("fleet/one"), None, 9).await.unwrap(), vec![1]);
    store.clock().await.expect("a store that can only be read still has a clock");
}

#[tokio::test]
async fn a_store_that_was_unmounted_is_unavailable_and_not_empty() {
    let disk = Tmpfs::mount(4 << 20);
    let store = LocalStore::new(disk.path());
    put(&store, "fleet/one", vec![1]).await.unwrap();
    disk.unmount();
    let errors = [
        store.list(&name("fleet")).await.err(),
        store.stat(&name("fleet/one")).await.err(),
        put(&store, "fleet/two", vec![2]).await.err(),
        store.delete(&name("fleet/one")).await.err(),
        store.clock().await.err(),
    ];
    for error in errors {
        let error = error.expect("the empty mount point is not the store");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}
