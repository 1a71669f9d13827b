//! A bucket's own rules, as real servers tell them.

use aws_sdk_s3::{
    Client,
    types::{
        BucketLifecycleConfiguration, BucketVersioningStatus, DefaultRetention, ExpirationStatus,
        LifecycleExpiration, LifecycleRule, LifecycleRuleFilter, ObjectLockConfiguration, ObjectLockEnabled,
        ObjectLockRetentionMode, ObjectLockRule, VersioningConfiguration,
    },
};
use backstay::{
    artifact::layout::ObjectName,
    aws::S3Options,
    inventory::{DefaultLock, LockMode, StoreRules, Versioning},
    stores::{Store, s3::S3Store},
};

use crate::lab::s3::{BUCKET, Minio, S3s, client};

async fn rules(options: &S3Options) -> StoreRules {
    let store = S3Store::new(options.clone()).unwrap();
    store.rules(&ObjectName::parse("pavroto").unwrap()).await.unwrap()
}

/// Has the bucket delete what lies below `prefix` after 30 days.
async fn expire(client: &Client, rule: &str, prefix: &str) {
    let rule = LifecycleRule::builder()
        .id(rule)
        .status(ExpirationStatus::Enabled)
        .filter(LifecycleRuleFilter::builder().prefix(prefix).build())
        .expiration(LifecycleExpiration::builder().days(30).build());
    let rules = BucketLifecycleConfiguration::builder().rules(rule.build().unwrap()).build().unwrap();
    client
        .put_bucket_lifecycle_configuration()
        .bucket(BUCKET)
        .lifecycle_configuration(rules)
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_lifecycle_rule_that_somebody_sets_on_our_prefix_is_seen_until_it_is_taken_away() {
    let minio = Minio::start();
    let (options, client) = (minio.options(), client(&minio.options()));
    assert_eq!(rules(&options).await, StoreRules::default());
    expire(&client, "others", "below/those/").await;
    assert_eq!(rules(&options).await, StoreRules::default(), "it is beside ours");
    expire(&client, "tidy", "below/").await;
    let takes = rules(&options).await.takes;
    assert_eq!(takes, [("tidy".to_owned(), "it deletes objects after 30 days".to_owned())].into());
    client.delete_bucket_lifecycle().bucket(BUCKET).send().await.unwrap();
    assert_eq!(rules(&options).await, StoreRules::default());
}

#[tokio::test]
async fn versioning_that_somebody_suspends_is_seen() {
    let minio = Minio::start();
    let client = client(&minio.options());
    let mut seen = Vec::new();
    for status in [BucketVersioningStatus::Enabled, BucketVersioningStatus::Suspended] {
        let versioning = VersioningConfiguration::builder().status(status).build();
        let set = client.put_bucket_versioning().bucket(BUCKET).versioning_configuration(versioning).send();
        set.await.unwrap();
        seen.push(rules(&minio.options()).await);
    }
    assert_eq!((seen[0].versioning, seen[1].versioning), (Versioning::On, Versioning::Suspended));
    assert!(seen[1].weaker_than(&seen[0]).is_some());
}

#[tokio::test]
async fn a_default_lock_that_somebody_shortens_is_seen() {
    let minio = Minio::start();
    let client = client(&minio.options());
    client.create_bucket().bucket("locked").object_lock_enabled_for_bucket(true).send().await.unwrap();
    let options = S3Options { bucket: "locked".into(), ..minio.options() };
    let mut seen = Vec::new();
    for days in [14, 7] {
        let retention =
            DefaultRetention::builder().mode(ObjectLockRetentionMode::Compliance).days(days).build();
        let lock = ObjectLockConfiguration::builder()
            .object_lock_enabled(ObjectLockEnabled::Enabled)
            .rule(ObjectLockRule::builder().default_retention(retention).build())
            .build();
        let set =
            client.put_object_lock_configuration().bucket("locked").object_lock_configuration(lock).send();
        set.await.unwrap();
        seen.push(rules(&options).await);
    }
    assert_eq!(seen[0].lock, Some(DefaultLock { mode: LockMode::Compliance, days: 14 }));
    assert!(seen[1].weaker_than(&seen[0]).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_knows_no_such_rules_has_none() {
    assert_eq!(rules(&S3s::start().await.options()).await, StoreRules::default());
}
