//! Puts that a server denies: MinIO denies one whose folder it removes at that moment, though the key may do it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use backstay::{
    artifact::layout::ObjectName,
    stores::{ErrorKind, Put, Store, s3::S3Store},
};
use s3s::{
    S3, S3Request, S3Response, S3Result,
    dto::{
        DeleteObjectInput, DeleteObjectOutput, GetObjectInput, GetObjectOutput, HeadObjectInput,
        HeadObjectOutput, PutObjectInput, PutObjectOutput,
    },
    s3_error,
};
use s3s_fs::FileSystem;
use tempfile::TempDir;

use crate::lab::s3;

/// Puts of objects of fleets that were asked for, and how many of them, the first ones, are denied.
struct Puts {
    asked: AtomicUsize,
    denied: usize,
}

struct Denying(FileSystem, Arc<Puts>);

#[async_trait]
impl S3 for Denying {
    async fn put_object(&self, put: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let Denying(files, puts) = self;
        let denied =
            put.input.key.contains("fleet/") && puts.asked.fetch_add(1, Ordering::SeqCst) < puts.denied;
        if denied { Err(s3_error!(AccessDenied)) } else { files.put_object(put).await }
    }

    async fn get_object(&self, get: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        self.0.get_object(get).await
    }

    async fn head_object(&self, head: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        self.0.head_object(head).await
    }

    async fn delete_object(
        &self,
        delete: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.delete_object(delete).await
    }
}

async fn store_that_denies(denied: usize) -> (TempDir, S3Store, Arc<Puts>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(s3::BUCKET)).unwrap();
    let puts = Arc::new(Puts { asked: AtomicUsize::new(0), denied });
    let files = FileSystem::new(folder.path()).unwrap();
    let address = s3::serve(Denying(files, puts.clone())).await;
    (folder, S3Store::new(s3::options(address)).unwrap(), puts)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_is_denied_for_a_moment_goes_through() {
    let (_folder, store, puts) = store_that_denies(2).await;
    let object = ObjectName::parse("fleet/one").unwrap();
    assert_eq!(store.put_if_absent(&object, "content".into()).await.unwrap(), Put::Created);
    assert_eq!(puts.asked.load(Ordering::SeqCst), 3);
    assert_eq!(store.get(&object, None, 64).await.unwrap(), "content");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_that_a_policy_denies_ends_and_is_told() {
    let (_folder, store, puts) = store_that_denies(usize::MAX).await;
    let object = ObjectName::parse("fleet/one").unwrap();
    let error = store.put_if_absent(&object, "content".into()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(puts.asked.load(Ordering::SeqCst) < 10, "it is not asked for ever");
    assert_eq!(store.get(&object, None, 64).await.unwrap_err().kind, ErrorKind::NotFound);
}
