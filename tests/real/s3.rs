//! The S3 store against MinIO and against s3s.

use std::sync::Arc;

use backstay::{
    artifact::layout::ObjectName,
    aws::{AwsCredentials, S3Options},
    stores::{
        ErrorKind, Held, Listed, Put, Store, StoreError,
        retry::{Attempts, RetryStore},
        s3::S3Store,
    },
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    lab::{
        s3::{Minio, S3s},
        tmpfs::Tmpfs,
    },
    store_conformance::{Names, Subject, run},
};

/// More than is sent whole.
const LARGE: usize = 96 << 20;

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).unwrap()
}

fn store(options: S3Options) -> S3Store {
    S3Store::new(options).unwrap()
}

fn without_bucket(options: S3Options) -> S3Options {
    S3Options { bucket: "nowhere".into(), ..options }
}

async fn put(store: &dyn Store, object: &str, content: impl Into<Bytes>) -> Result<Put, StoreError> {
    store.put_if_absent(&name(object), content.into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms_against_minio() {
    let minio = Minio::start();
    run(Subject {
        store: Arc::new(store(minio.options())),
        rootless: Some(Arc::new(store(without_bucket(minio.options())))),
        names: Names::Any,
    })
    .await;
}

/// s3s-fs mixes content and digests of puts that race, fails on looking at a folder, and makes buckets on its own.
#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms_against_s3s() {
    let s3s = S3s::start().await;
    let store = Arc::new(store(s3s.options()));
    run(Subject { store, rootless: None, names: Names::OnlyOurs }).await;
}

#[tokio::test]
async fn a_store_can_be_a_whole_bucket() {
    let minio = Minio::start();
    let (whole, below) =
        (store(S3Options { prefix: String::new(), ..minio.options() }), store(minio.options()));
    put(&below, "fleet/one", "x").await.unwrap();
    put(&whole, "fleet/two", "y").await.unwrap();
    let names = |listed: Vec<Listed>| listed.into_iter().map(|l| l.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(whole.list(&name("fleet")).await.unwrap()), ["fleet/two"]);
    assert_eq!(names(below.list(&name("fleet")).await.unwrap()), ["fleet/one"]);
    assert_eq!(names(whole.list(&name("below")).await.unwrap()), ["below/this/fleet/one"]);
}

#[tokio::test]
async fn minio_is_found_to_hold_to_conditions_and_checksums() {
    let minio = Minio::start();
    let found = store(minio.options()).capabilities().await.unwrap();
    assert_eq!((found.conditional_put, found.checksums), (Held::Yes, Held::Yes));
}

#[tokio::test]
async fn an_object_sent_whole_tells_its_digest() {
    let minio = Minio::start();
    let (store, content) = (store(minio.options()), Bytes::from(vec![5; 40 << 20]));
    put(&store, "fleet/pack", content.clone()).await.unwrap();
    let stat = store.stat(&name("fleet/pack")).await.unwrap().unwrap();
    assert_eq!(stat.sha256, Some(Sha256::digest(&content).into()));
}

async fn an_object_in_parts_is_put_once(options: S3Options) {
    let (store, content) = (store(options), Bytes::from(vec![5; LARGE + 1]));
    assert_eq!(put(&store, "fleet/large", content.clone()).await.unwrap(), Put::Created);
    assert_eq!(put(&store, "fleet/large", vec![6; LARGE]).await.unwrap(), Put::Existed);
    let stat = store.stat(&name("fleet/large")).await.unwrap().unwrap();
    assert_eq!((stat.size, stat.sha256), (content.len() as u64, None));
    assert!(store.get(&name("fleet/large"), None, 1 << 30).await.unwrap() == content);
}

#[tokio::test]
async fn an_object_in_parts_is_put_once_on_minio() {
    an_object_in_parts_is_put_once(Minio::start().options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_in_parts_is_put_once_on_s3s() {
    an_object_in_parts_is_put_once(S3s::start().await.options()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_puts_in_parts_that_race_one_wins() {
    let minio = Minio::start();
    let store = Arc::new(store(minio.options()));
    let puts = [1, 2].map(|fill| {
        let store = store.clone();
        tokio::spawn(async move { put(store.as_ref(), "fleet/large", vec![fill; LARGE]).await.unwrap() })
    });
    let puts = futures::future::join_all(puts).await.into_iter().map(Result::unwrap);
    assert_eq!(puts.filter(|put| *put == Put::Created).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_cut_off_by_the_servers_death_leaves_nothing_and_goes_through_afterwards() {
    let mut minio = Minio::start();
    let store = Arc::new(store(minio.options()));
    put(store.as_ref(), "fleet/before", "x").await.unwrap();
    let under_way = tokio::spawn({
        let store = store.clone();
        async move { put(store.as_ref(), "fleet/large", vec![7; LARGE]).await }
    });
    // Where MinIO keeps what is not complete yet.
    let uploads = minio.data().join(".minio.sys/multipart");
    while std::fs::read_dir(&uploads).map_or(0, |uploads| uploads.count()) == 0 {
        assert!(!under_way.is_finished(), "the put was over before the server could be killed");
        tokio::task::yield_now().await;
    }
    minio.kill();
    let error = under_way.await.unwrap().expect_err("the server died");
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");

    minio.restart();
    assert_eq!(store.stat(&name("fleet/large")).await.unwrap(), None, "no part of the object is visible");
    let retry = RetryStore::new(store, Attempts::default());
    assert_eq!(put(&retry, "fleet/large", vec![8; LARGE]).await.unwrap(), Put::Created);
    assert!(retry.get(&name("fleet/large"), None, 1 << 30).await.unwrap() == vec![8; LARGE]);
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_transient() {
    let mut minio = Minio::start();
    minio.kill();
    let error = store(minio.options()).stat(&name("fleet/one")).await.expect_err("nobody listens");
    assert_eq!(error.kind, ErrorKind::Transient, "{error}");
    assert!(error.to_string().contains("check the endpoint"), "{error}");
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_denied() {
    let minio = Minio::start_with_tls();
    let endpoint = minio.options().endpoint.map(|endpoint| endpoint.replace("http:", "https:"));
    let store = store(S3Options { endpoint, ..minio.options() });
    let error = store.stat(&name("fleet/one")).await.expect_err("the certificate is not trusted");
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
}

#[tokio::test]
async fn a_full_store_is_full() {
    let disk = Tmpfs::mount(64 << 20);
    let minio = Minio::start_on(&disk);
    let store = store(minio.options());
    put(&store, "fleet/small", "x").await.unwrap();
    let error = put(&store, "fleet/large", vec![2; 62 << 20]).await.expect_err("there is no room");
    assert_eq!(error.kind, ErrorKind::Full, "{error}");
    assert_eq!(store.stat(&name("fleet/large")).await.unwrap(), None);
}

#[tokio::test]
async fn a_missing_bucket_is_unavailable_and_wrong_keys_are_denied() {
    let minio = Minio::start();
    let key = |id: &str, secret: &str| S3Options {
        credentials: AwsCredentials::Key { id: id.into(), secret: secret.to_owned().into() },
        ..minio.options()
    };
    let cases = [
        (without_bucket(minio.options()), ErrorKind::Unavailable, "create the bucket"),
        (key("backstay-tests", "another secret"), ErrorKind::Denied, "check the access key"),
        (key("nobody", "another secret"), ErrorKind::Denied, "check the access key"),
    ];
    for (options, kind, words) in cases {
        let store = store(options);
        let object = name("fleet/one");
        let errors = [
            put(&store, "fleet/one", "x").await.err(),
            store.get(&object, None, 9).await.err(),
            store.stat(&object).await.err(),
            store.list(&name("fleet")).await.err(),
            store.delete(&object).await.err(),
            store.clock().await.err(),
        ];
        for error in errors {
            let error = error.expect("the call must fail");
            assert_eq!(error.kind, kind, "{error}");
            assert!(error.to_string().contains(words), "{error}");
            assert!(!error.to_string().contains("another secret"), "{error}");
        }
    }
}
