//! The bucket's own rules, as far as they bear on what lies below a prefix: `GetBucketLifecycleConfiguration`,
//! `GetBucketVersioning` and `GetObjectLockConfiguration` of the S3 API reference.

use std::collections::BTreeMap;

use aws_sdk_s3::types::{
    BucketVersioningStatus, ExpirationStatus, LifecycleRule, LifecycleRuleFilter, ObjectLockRetentionMode,
    TransitionStorageClass,
};

use super::S3Store;
use crate::{
    aws::Fault,
    inventory::{DefaultLock, LockMode, StoreRules, Versioning},
};

/// Days of a year, for locks that are told in years.
const YEAR: i32 = 365;

/// What the bucket does by itself with objects whose keys begin with `prefix`.
pub(super) async fn rules(store: &S3Store, prefix: &str) -> Result<StoreRules, Fault> {
    let (takes, versioning, lock) = tokio::try_join!(takes(store, prefix), versioning(store), lock(store))?;
    Ok(StoreRules { takes, versioning, lock })
}

/// What was asked for; `None` where the bucket has nothing of the kind, or the server does not know of such a thing.
fn told<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Fault::Service { status: 404 | 405 | 501, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

async fn takes(store: &S3Store, prefix: &str) -> Result<BTreeMap<String, String>, Fault> {
    let asked = store.client.get_bucket_lifecycle_configuration().bucket(&store.bucket).send().await;
    let rules = told(asked.map_err(Fault::from))?.and_then(|answer| answer.rules).unwrap_or_default();
    let enabled =
        rules.iter().filter(|rule| rule.status == ExpirationStatus::Enabled && reaches(rule, prefix));
    Ok(enabled.filter_map(|rule| Some((rule.id.clone().unwrap_or_default(), harm(rule)?))).collect())
}

/// Whether a rule is about some of the objects below `prefix`. Ours have no tags, so that a rule for tagged ones is not.
fn reaches(rule: &LifecycleRule, prefix: &str) -> bool {
    let below = |theirs: Option<&str>| {
        let theirs = theirs.unwrap_or_default();
        prefix.starts_with(theirs) || theirs.starts_with(prefix)
    };
    match &rule.filter {
        None => {
            #[expect(deprecated, reason = "older servers still tell it there")]
            let theirs = rule.prefix.as_deref();
            below(theirs)
        }
        Some(LifecycleRuleFilter { tag: Some(_), .. }) => false,
        Some(LifecycleRuleFilter { and: Some(all), .. }) => {
            all.tags().is_empty() && below(all.prefix.as_deref())
        }
        Some(filter) => below(filter.prefix.as_deref()),
    }
}

/// What a rule does that nobody but Backstay may. Former versions, and parts of uploads that were cut off, may go.
fn harm(rule: &LifecycleRule) -> Option<String> {
    if let Some(expiration) = &rule.expiration
        && (expiration.days.is_some() || expiration.date.is_some())
    {
        return Some(match expiration.days {
            Some(days) => format!("it deletes objects after {days} days"),
            None => "it deletes objects on a set day".to_owned(),
        });
    }
    let out_of_reach = [TransitionStorageClass::Glacier, TransitionStorageClass::DeepArchive];
    let archived = rule.transitions().iter().filter_map(|transition| transition.storage_class.as_ref());
    let class = archived.into_iter().find(|class| out_of_reach.contains(class))?;
    Some(format!("it moves objects to {}, where they can't be read", class.as_str()))
}

async fn versioning(store: &S3Store) -> Result<Versioning, Fault> {
    let asked = store.client.get_bucket_versioning().bucket(&store.bucket).send().await;
    let status = told(asked.map_err(Fault::from))?.and_then(|answer| answer.status);
    Ok(match status {
        Some(BucketVersioningStatus::Enabled) => Versioning::On,
        Some(_) => Versioning::Suspended,
        None => Versioning::Off,
    })
}

async fn lock(store: &S3Store) -> Result<Option<DefaultLock>, Fault> {
    let asked = store.client.get_object_lock_configuration().bucket(&store.bucket).send().await;
    let configuration = told(asked.map_err(Fault::from))?.and_then(|answer| answer.object_lock_configuration);
    let retention = configuration.and_then(|it| it.rule).and_then(|rule| rule.default_retention);
    Ok(retention.and_then(|retention| {
        let mode = match retention.mode? {
            ObjectLockRetentionMode::Compliance => LockMode::Compliance,
            _ => LockMode::Governance,
        };
        let days = retention.days.or_else(|| retention.years?.checked_mul(YEAR))?;
        Some(DefaultLock { mode, days: u32::try_from(days).ok()? })
    }))
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{LifecycleExpiration, LifecycleRuleAndOperator, Tag, Transition};

    use super::*;

    fn rule(filter: LifecycleRuleFilter) -> LifecycleRule {
        let expiration = LifecycleExpiration::builder().days(30).build();
        let rule = LifecycleRule::builder().id("x").status(ExpirationStatus::Enabled);
        rule.filter(filter).expiration(expiration).build().unwrap()
    }

    fn prefixed(prefix: &str) -> LifecycleRuleFilter {
        LifecycleRuleFilter::builder().prefix(prefix).build()
    }

    #[test]
    fn a_rule_reaches_what_is_above_or_below_our_prefix_and_not_what_is_beside_it() {
        for theirs in ["", "backups/", "backups/pavroto/", "backups/pavroto/agama/", "back"] {
            assert!(reaches(&rule(prefixed(theirs)), "backups/pavroto/"), "{theirs}");
        }
        for theirs in ["logs/", "backups/pavroto-2/", "x"] {
            assert!(!reaches(&rule(prefixed(theirs)), "backups/pavroto/"), "{theirs}");
        }
        let tag = Tag::builder().key("a").value("b").build().unwrap();
        assert!(!reaches(&rule(LifecycleRuleFilter::builder().tag(tag.clone()).build()), "backups/"));
        let and = LifecycleRuleAndOperator::builder().prefix("backups/").tags(tag).build();
        assert!(!reaches(&rule(LifecycleRuleFilter::builder().and(and).build()), "backups/"));
        let and = LifecycleRuleAndOperator::builder().prefix("backups/").object_size_greater_than(1).build();
        assert!(reaches(&rule(LifecycleRuleFilter::builder().and(and).build()), "backups/"));
    }

    #[test]
    fn deleting_and_archiving_is_harm_and_cheaper_storage_is_not() {
        let transition = |class| {
            let rule = LifecycleRule::builder().id("x").status(ExpirationStatus::Enabled);
            rule.transitions(Transition::builder().days(1).storage_class(class).build()).build().unwrap()
        };
        assert!(harm(&rule(prefixed(""))).unwrap().contains("after 30 days"));
        assert!(harm(&transition(TransitionStorageClass::Glacier)).unwrap().contains("GLACIER"));
        assert_eq!(harm(&transition(TransitionStorageClass::StandardIa)), None);
        let markers = LifecycleExpiration::builder().expired_object_delete_marker(true).build();
        let markers = LifecycleRule::builder().status(ExpirationStatus::Enabled).expiration(markers).build();
        assert_eq!(harm(&markers.unwrap()), None);
    }
}
