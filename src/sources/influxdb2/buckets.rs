//! Buckets as the server's backup describes them (InfluxDB's `BucketMetadataManifest`, in its `backup.go`). What Backstay does not
//! need to know of them is kept as it is, for the way back. Pure.

use serde::{Deserialize, Serialize, de};
use serde_json::{Map, Value};

/// A bucket and its shards.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Bucket {
    raw: Map<String, Value>,
    #[serde(skip)]
    seen: Seen,
}

/// What is read of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    #[serde(rename = "organizationID")]
    organization_id: String,
    #[serde(rename = "bucketID")]
    bucket_id: String,
    bucket_name: String,
    retention_policies: Vec<Policy>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    shard_groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Group {
    shards: Vec<Shard>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Shard {
    id: u64,
}

impl<'de> Deserialize<'de> for Bucket {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut raw = Map::deserialize(deserializer)?;
        drop_deleted_groups(&mut raw);
        let seen = Seen::deserialize(Value::Object(raw.clone())).map_err(de::Error::custom)?;
        Ok(Self { raw, seen })
    }
}

/// Takes out the groups of shards that the server is about to remove: they have no data any more.
fn drop_deleted_groups(bucket: &mut Map<String, Value>) {
    let policies = bucket.get_mut("retentionPolicies").and_then(Value::as_array_mut);
    for policy in policies.into_iter().flatten() {
        if let Some(groups) = policy.get_mut("shardGroups").and_then(Value::as_array_mut) {
            groups.retain(|group| group.get("deletedAt").is_none_or(Value::is_null));
        }
    }
}

impl Bucket {
    pub(super) fn id(&self) -> &str {
        &self.seen.bucket_id
    }

    pub(super) fn name(&self) -> &str {
        &self.seen.bucket_name
    }

    pub(super) fn organization(&self) -> &str {
        &self.seen.organization_id
    }

    /// The numbers of its shards.
    pub(super) fn shards(&self) -> impl Iterator<Item = u64> {
        let groups = self.seen.retention_policies.iter().flat_map(|policy| &policy.shard_groups);
        groups.flat_map(|group| &group.shards).map(|shard| shard.id)
    }

    /// What asks a server for a bucket of that name in an organization of its own, with shards like these.
    pub(super) fn as_another(&self, name: &str, organization: &str) -> Value {
        let mut raw = self.raw.clone();
        raw.insert("bucketName".to_owned(), name.into());
        raw.insert("organizationID".to_owned(), organization.into());
        Value::Object(raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TELE: &str = r#"{"organizationID": "01", "organizationName": "ops", "bucketID": "0a", "bucketName": "tele",
        "defaultRetentionPolicy": "autogen", "later": [1], "retentionPolicies": [{"name": "autogen", "duration": 7,
        "shardGroups": [{"id": 1, "shards": [{"id": 3, "shardOwners": []}, {"id": 4}]},
        {"id": 2, "deletedAt": "2026-01-01T00:00:00Z", "shards": [{"id": 5}]}, {"id": 3, "shards": [{"id": 6}]}]}]}"#;

    #[test]
    fn shards_of_groups_that_are_deleted_are_left_out() {
        let bucket: Bucket = serde_json::from_str(TELE).unwrap();
        assert_eq!(bucket.shards().collect::<Vec<_>>(), [3, 4, 6]);
        assert_eq!((bucket.id(), bucket.name(), bucket.organization()), ("0a", "tele", "01"));
    }

    #[test]
    fn what_is_not_known_of_a_bucket_goes_the_way_back_as_it_is() {
        let bucket: Bucket = serde_json::from_str(TELE).unwrap();
        let again: Bucket = serde_json::from_str(&serde_json::to_string(&bucket).unwrap()).unwrap();
        assert_eq!(again, bucket);
        let other = bucket.as_another("copy", "02");
        assert_eq!(
            (&other["bucketName"], &other["organizationID"], &other["later"][0]),
            (&"copy".into(), &"02".into(), &1.into())
        );
        serde_json::from_str::<Bucket>(r#"{"bucketName": "tele"}"#).expect_err("it is no bucket");
    }
}
