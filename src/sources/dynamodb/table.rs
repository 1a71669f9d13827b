//! What a table is, in the words of the requests that make one: what `aws dynamodb create-table --cli-input-json` takes.

mod request;
mod told;

use serde::{Deserialize, Serialize};

pub(super) use told::{describe, existing, keys};

/// What `CreateTable` takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Table {
    pub table_name: String,
    pub attribute_definitions: Vec<Attribute>,
    pub key_schema: Vec<Key>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_secondary_indexes: Vec<Index>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub global_secondary_indexes: Vec<Index>,
    pub billing_mode: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned_throughput: Option<Throughput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_throughput: Option<OnDemand>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_specification: Option<Stream>,
    #[serde(default, rename = "SSESpecification", skip_serializing_if = "Option::is_none")]
    pub sse_specification: Option<Encryption>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table_class: Option<String>,
    #[serde(default)]
    pub deletion_protection_enabled: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Tag>,
}

/// An attribute that is part of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attribute {
    pub attribute_name: String,
    /// `S`, `N` or `B`.
    pub attribute_type: String,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Key {
    pub attribute_name: String,
    /// `HASH` or `RANGE`.
    pub key_type: String,
}

/// A secondary index; a local one has no throughput of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Index {
    pub index_name: String,
    pub key_schema: Vec<Key>,
    pub projection: Projection,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioned_throughput: Option<Throughput>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand_throughput: Option<OnDemand>,
}

/// Which attributes an index holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Projection {
    pub projection_type: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub non_key_attributes: Vec<String>,
}

/// Capacity that is paid for whether it is used or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Throughput {
    pub read_capacity_units: i64,
    pub write_capacity_units: i64,
}

/// Bounds of what is paid for by use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OnDemand {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_read_request_units: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_write_request_units: Option<i64>,
}

/// Whether changes are published, and what of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Stream {
    pub stream_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_view_type: Option<String>,
}

/// Encryption with another key than DynamoDB's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Encryption {
    pub enabled: bool,
    #[serde(rename = "SSEType", default, skip_serializing_if = "Option::is_none")]
    pub sse_type: Option<String>,
    #[serde(rename = "KMSMasterKeyId", default, skip_serializing_if = "Option::is_none")]
    pub kms_master_key_id: Option<String>,
}

/// A tag of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub key: String,
    pub value: String,
}

/// When items expire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TimeToLive {
    pub enabled: bool,
    pub attribute_name: String,
}

/// DynamoDB's own continuous backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PointInTimeRecovery {
    pub point_in_time_recovery_enabled: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_period_in_days: Option<i32>,
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table with one of everything.
    pub(in crate::sources::dynamodb) fn orders() -> Table {
        let text = |text: &str| text.to_owned();
        let key = |name: &str, kind: &str| Key { attribute_name: text(name), key_type: text(kind) };
        let attribute =
            |name: &str, kind: &str| Attribute { attribute_name: text(name), attribute_type: text(kind) };
        let units = Throughput { read_capacity_units: 5, write_capacity_units: 7 };
        let index = |name: &str, range: &str, kind: &str, own: &[&str]| Index {
            index_name: text(name),
            key_schema: vec![key("customer", "HASH"), key(range, "RANGE")],
            projection: Projection {
                projection_type: text(kind),
                non_key_attributes: own.iter().map(|name| text(name)).collect(),
            },
            provisioned_throughput: None,
            on_demand_throughput: None,
        };
        Table {
            table_name: text("orders"),
            attribute_definitions: vec![
                attribute("at", "N"),
                attribute("customer", "S"),
                attribute("total", "N"),
            ],
            key_schema: vec![key("customer", "HASH"), key("at", "RANGE")],
            local_secondary_indexes: vec![index("by-total", "total", "KEYS_ONLY", &[])],
            global_secondary_indexes: vec![Index {
                provisioned_throughput: Some(units.clone()),
                ..index("totals", "total", "INCLUDE", &["note"])
            }],
            billing_mode: text("PROVISIONED"),
            provisioned_throughput: Some(units),
            on_demand_throughput: None,
            stream_specification: Some(Stream {
                stream_enabled: true,
                stream_view_type: Some(text("NEW_IMAGE")),
            }),
            sse_specification: Some(Encryption {
                enabled: true,
                sse_type: Some(text("KMS")),
                kms_master_key_id: Some(text("arn:aws:kms:eu-north-1:1:key/x")),
            }),
            table_class: Some(text("STANDARD")),
            deletion_protection_enabled: true,
            tags: vec![Tag { key: text("team"), value: text("shop") }],
        }
    }

    #[test]
    fn a_description_is_in_the_words_of_a_request() {
        let written = serde_json::to_value(orders()).unwrap();
        assert_eq!(written["SSESpecification"]["KMSMasterKeyId"], "arn:aws:kms:eu-north-1:1:key/x");
        assert_eq!(written["GlobalSecondaryIndexes"][0]["Projection"]["NonKeyAttributes"][0], "note");
        assert_eq!(written["ProvisionedThroughput"]["WriteCapacityUnits"], 7);
        assert_eq!(serde_json::from_value::<Table>(written).unwrap(), orders());
    }
}
