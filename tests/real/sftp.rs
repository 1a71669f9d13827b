//! The SFTP store against OpenSSH's server.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, sync::Arc, time::Duration};

use backstay::{
    artifact::layout::ObjectName,
    stores::{
        ErrorKind, Put, Store, StoreError,
        retry::{Attempts, RetryStore},
        sftp::{Identity, SftpOptions, SftpStore},
    },
};
use bytes::Bytes;

use crate::{
    lab::{sshd::Sshd, tmpfs::Tmpfs},
    store_conformance::{Names, Subject, run},
};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn store(options: SftpOptions) -> SftpStore {
    SftpStore::new(options).unwrap()
}

fn at(sshd: &Sshd, path: &Path) -> SftpStore {
    store(SftpOptions { path: path.display().to_string(), ..sshd.options() })
}

async fn put(store: &SftpStore, object: &str, content: impl Into<Bytes>) -> Result<Put, StoreError> {
    store.put_if_absent(&name(object), content.into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_conforms() {
    let sshd = Sshd::start();
    let rootless = at(&sshd, &sshd.store().join("missing"));
    run(Subject {
        store: Arc::new(store(sshd.options())),
        rootless: Some(Arc::new(rootless)),
        names: Names::Any,
    })
    .await;
    assert!(!sshd.store().join("missing").exists(), "a missing folder is not made");
}

#[tokio::test]
async fn what_is_written_is_its_owners_only_and_no_file_is_left_aside() {
    let sshd = Sshd::start();
    assert_eq!(put(&store(sshd.options()), "fleet/a/one", "x").await.unwrap(), Put::Created);
    let mode = |path: &str| fs::metadata(sshd.store().join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("fleet/a/one"), mode("fleet"), mode(".backstay-tmp")), (0o600, 0o700, 0o700));
    assert_eq!(fs::read_dir(sshd.store().join(".backstay-tmp")).unwrap().count(), 0);
}

#[tokio::test]
async fn an_identity_that_is_not_a_file_works_and_is_not_left_behind() {
    let sshd = Sshd::start();
    let Identity::File(path) = sshd.options().identity else { panic!("the lab gives a file") };
    let key = fs::read_to_string(path).unwrap().trim_end().to_owned();
    let store = store(SftpOptions { identity: Identity::Key(key.into()), ..sshd.options() });
    assert_eq!(put(&store, "fleet/one", "x").await.unwrap(), Put::Created);
}

#[tokio::test]
async fn a_host_with_another_key_is_denied() {
    let (sshd, other) = (Sshd::start(), Sshd::start());
    let store = store(SftpOptions { host_key: other.options().host_key, ..sshd.options() });
    let error = put(&store, "fleet/one", "x").await.expect_err("the host is not the pinned one");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("not the pinned one"), "{error}");
    assert!(!sshd.store().join("fleet").exists());
}

#[tokio::test]
async fn a_key_that_the_host_does_not_know_is_denied() {
    let sshd = Sshd::start();
    let store = store(SftpOptions { identity: Identity::File(sshd.stranger()), ..sshd.options() });
    let error = put(&store, "fleet/one", "x").await.expect_err("the key is not authorized");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("authorized_keys"), "{error}");
}

#[tokio::test]
async fn a_missing_or_readable_identity_is_denied() {
    let sshd = Sshd::start();
    let Identity::File(readable) = sshd.options().identity else { panic!("the lab gives a file") };
    fs::set_permissions(&readable, fs::Permissions::from_mode(0o644)).unwrap();
    for (identity, words) in [(sshd.store().join("none"), "not accessible"), (readable, "chmod 600")] {
        let store = store(SftpOptions { identity: Identity::File(identity), ..sshd.options() });
        let error = put(&store, "fleet/one", "x").await.expect_err("there is no usable key");
        assert_eq!(error.kind, ErrorKind::Denied, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_transient() {
    let mut sshd = Sshd::start();
    sshd.kill();
    let sftp = store(sshd.options());
    let object = name("fleet/one");
    let errors = futures::future::join_all((0..4).map(|_| sftp.stat(&object))).await;
    let error = errors.into_iter().map(|stat| stat.expect_err("nobody listens")).next_back().unwrap();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
    sshd.restart();
    assert_eq!(put(&sftp, "fleet/one", "x").await.unwrap(), Put::Created);
}

#[tokio::test]
async fn a_host_that_falls_silent_is_transient_and_the_next_call_connects_anew() {
    let sshd = Sshd::start();
    let store = store(SftpOptions { silence: Duration::from_secs(2), ..sshd.options() });
    put(&store, "fleet/one", "x").await.unwrap();
    sshd.freeze();
    let error = store.stat(&name("fleet/one")).await.expect_err("nothing answers");
    sshd.thaw();
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("silent"), "{error}");
    assert!(store.stat(&name("fleet/one")).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_cut_off_by_the_servers_death_leaves_nothing_and_goes_through_afterwards() {
    let mut sshd = Sshd::start();
    let sftp = store(sshd.options());
    put(&sftp, "fleet/before", "x").await.unwrap();
    let content = Bytes::from(vec![7; 96 << 20]);
    let under_way = tokio::spawn({
        let (sftp, content) = (sftp.clone(), content.clone());
        async move { put(&sftp, "fleet/large", content).await }
    });
    let aside = sshd.store().join(".backstay-tmp");
    let begun = || {
        let files = fs::read_dir(&aside).unwrap().flatten();
        files.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0)
    };
    while !begun() {
        assert!(!under_way.is_finished(), "the put was over before the server could be killed");
        tokio::task::yield_now().await;
    }
    sshd.kill();
    let error = under_way.await.unwrap().expect_err("the server died");
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(!sshd.store().join("fleet/large").exists(), "no part of the object is visible");

    sshd.restart();
    let retry = RetryStore::new(Arc::new(sftp), Attempts::default());
    assert_eq!(retry.put_if_absent(&name("fleet/large"), content.clone()).await.unwrap(), Put::Created);
    assert!(retry.get(&name("fleet/large"), None, 1 << 30).await.unwrap() == content);
}

#[tokio::test]
async fn files_of_dead_writers_are_removed_once_they_are_a_day_old() {
    let sshd = Sshd::start();
    let aside = sshd.store().join(".backstay-tmp");
    fs::create_dir(&aside).unwrap();
    for (file, hours) in [("old", 25), ("young", 23)] {
        let written = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::create(aside.join(file)).unwrap().set_modified(written).unwrap();
    }
    put(&store(sshd.options()), "fleet/one", "x").await.unwrap();
    assert!(!aside.join("old").exists());
    assert!(aside.join("young").exists());
}

#[tokio::test]
async fn a_full_store_is_full_and_takes_objects_again_once_there_is_room() {
    let (sshd, disk) = (Sshd::start(), Tmpfs::mount(4 << 20));
    let store = at(&sshd, disk.path());
    put(&store, "fleet/small", vec![1; 1 << 20]).await.unwrap();
    let error = put(&store, "fleet/large", vec![2; 8 << 20]).await.expect_err("there is no room");
    assert_eq!(error.kind, ErrorKind::Full, "{error}");
    assert_eq!(store.stat(&name("fleet/large")).await.unwrap(), None);
    assert_eq!(put(&store, "fleet/next", vec![3; 2 << 20]).await.unwrap(), Put::Created);
}

#[tokio::test]
async fn a_read_only_store_is_denied_and_can_still_be_read() {
    let (sshd, disk) = (Sshd::start(), Tmpfs::mount(4 << 20));
    let store = at(&sshd, disk.path());
    put(&store, "fleet/one", "x").await.unwrap();
    disk.forbid_writing();
    let error = put(&store, "fleet/two", "x").await.expect_err("nothing can be written");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    let error = store.delete(&name("fleet/one")).await.expect_err("nothing can be deleted");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert_eq!(store.get(&name("fleet/one"), None, 9).await.unwrap(), "x");
}

#[tokio::test]
async fn a_store_that_was_unmounted_is_unavailable_and_not_empty() {
    let (sshd, disk) = (Sshd::start(), Tmpfs::mount(4 << 20));
    let store = at(&sshd, disk.path());
    put(&store, "fleet/one", "x").await.unwrap();
    disk.unmount();
    let errors = [
        store.list(&name("fleet")).await.err(),
        store.stat(&name("fleet/one")).await.err(),
        put(&store, "fleet/two", "x").await.err(),
        store.delete(&name("fleet/one")).await.err(),
    ];
    for error in errors {
        let error = error.expect("the empty mount point is not the store");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    }
}
