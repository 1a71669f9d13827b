//! The declaration's format: a mirror of its TOML. The JSON Schema is made of these types and their comments, and a
//! declaration is checked against that schema, so that what is documented and what is accepted can't differ.
//!
//! What is required is so in the schema only: the types can hold what is left of a faulty resource, for further faults
//! to be found in it.

mod backup;
mod machines;
mod policy;
mod recovery;
mod secret;
mod store;
mod traffic;

use std::{collections::BTreeMap, sync::LazyLock};

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;

use super::{
    Recipient,
    suspension::Moment,
    values::{Length, Line, Name, Text, Word, Zone},
};
pub use backup::{
    Accounts, Atlas, Backup, Dynamodb, Etcd, EtcdTls, Files, Influxdb, Influxdb2, Infra, LogFrom, Method,
    Mongodb, Mysql, Postgres, Rds, Redis, Server, Sqlite, TableMethod, Tls,
};
pub use machines::{
    Ansible, Cloudformation, Configure, Libvirt, OnLoss, Ssh, Terraform, TerraformProgram, TerraformState, Vm,
};
pub use policy::{CadenceForm, CatchUp, Keep, Policy, Verify, Window, default_grace};
pub use recovery::{
    Drill, DrillCheck, DrillCounts, DrillHow, DrillPoint, Recovery, RecoveryStage, RecoveryStep, Side,
    StandIn, StandInSsh, WaitFor,
};
pub use secret::Secret;
pub use store::{ALERT_AT, Addressing, Azblob, Budget, Gcs, Local, S3, Sftp, Store};
pub use traffic::{DynamicDns, LoadBalancer, RecordKind, Route53, Traffic, TsigAlgorithm};

/// What an infra repo declares: every `*.toml` of its declaration folder together, in any order.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Backstay declaration")]
pub struct Declaration {
    /// The fleet itself.
    #[schemars(required)]
    pub fleet: Option<Fleet>,
    /// Whom to call, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub contact: BTreeMap<String, Contact>,
    /// Places that hold artifacts, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub store: BTreeMap<String, Store>,
    /// Schedules, retention and objectives, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub policy: BTreeMap<String, Policy>,
    /// What is protected, by name. `infra` is reserved.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub backup: BTreeMap<String, Backup>,
    /// The infra repo's own backup: a bundle on every commit.
    pub infra: Option<Infra>,
    /// Machines that can be rebuilt, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub vm: BTreeMap<String, Vm>,
    /// Ordered recoveries of machines and data, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub recovery: BTreeMap<String, Recovery>,
    /// What leads users, and recoveries may switch from one site to another, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub traffic: BTreeMap<String, Traffic>,
    /// Scheduled restore tests, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub drill: BTreeMap<String, Drill>,
    /// Backups that were declared once and whose artifacts may go, by name.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub orphan: BTreeMap<String, Orphan>,
    /// Backups that were renamed, by the name that they had.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub moved: BTreeMap<String, Moved>,
    /// What stands still for a while, by a name of your choice.
    #[serde(default)]
    #[schemars(extend("propertyNames" = { "format": "name" }))]
    pub suspend: BTreeMap<String, Suspend>,
}

/// The fleet itself.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The fleet's name: the first folder in every store.
    #[schemars(required)]
    pub name: Option<Text<Name>>,
    /// IANA zone of cron schedules, windows and calendar rules of retention. Default: UTC.
    pub timezone: Option<Text<Zone>>,
    /// Age public keys of those who can read artifacts, such as operations and an off-line escrow.
    #[schemars(required, length(min = 1))]
    pub recipients: Option<Vec<Text<Recipient>>>,
}

/// Whom to call; printed in runbooks and alerts.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// A person or a group.
    #[schemars(required)]
    pub name: Option<Text<Line>>,
    /// What they do.
    pub role: Option<Text<Line>>,
    /// Where they read mail.
    pub email: Option<Text<Word>>,
    /// Where they answer.
    pub phone: Option<Text<Line>>,
}

/// A backup that was declared once and whose artifacts may go.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Orphan {
    /// How old its artifacts must be, at least.
    #[schemars(required)]
    pub delete_after: Option<Text<Length>>,
}

/// A backup that was renamed: it keeps its artifacts, its history and its schedule. In the stores they stay under the first
/// name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// The name that it has now, or had next.
    #[schemars(required)]
    pub to: Option<Text<Name>>,
}

/// What stands still for a while: exactly one of `backup`, `store` and `everything`. Objectives are judged as ever, and what
/// a person asks for is done all the same.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["backup"] }, { "required": ["store"] }, { "required": ["everything"] },
]))]
pub struct Suspend {
    /// A backup, or `infra`: no captures, copies, checks or deletions of it.
    pub backup: Option<Text<Name>>,
    /// A store: nothing is written into it, read from it or deleted in it. Captures go to the next store.
    pub store: Option<Text<Name>>,
    /// Every backup but the infra repo's own. Always `true`.
    pub everything: Option<bool>,
    /// Since when: a date, with or without a time, in the fleet's zone unless it names an offset. Default: at once.
    pub from: Option<Text<Moment>>,
    /// Until when.
    #[schemars(required)]
    pub until: Option<Text<Moment>>,
    /// Why, for those who read `plan` and `status`.
    #[schemars(required)]
    pub reason: Option<Text<Line>>,
}

/// The JSON Schema (draft 2020-12) of a declaration: of its files taken together.
pub fn json_schema() -> serde_json::Value {
    SCHEMA.clone()
}

pub(super) static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema_of::<Declaration>);

/// The JSON Schema of a mirror, whole in one piece.
pub(crate) fn schema_of<T: JsonSchema>() -> serde_json::Value {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    drop_null(&mut schema);
    schema
}

/// TOML has no null: what is optional is left out.
fn drop_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    match schema {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|t| t != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".into(), only);
                }
            }
            object.retain(|key, value| {
                key != "default" || !(value.is_null() || value.is_object() || value.is_array())
            });
            if let Some(Value::Array(any)) = object.get_mut("anyOf") {
                any.retain(|branch| branch["type"] != "null");
                if let [Value::Object(only)] = any.as_mut_slice() {
                    let only = std::mem::take(only);
                    object.remove("anyOf");
                    // The field's own description is nearer than its type's.
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::spec::values;

    /// Every schema of a value, with its path.
    fn visit(path: &str, schema: &Value, each: &mut impl FnMut(&str, &Value)) {
        each(path, schema);
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            visit(&format!("{path}.{key}"), inner, each);
        }
        for key in ["items", "additionalProperties"] {
            if schema[key].is_object() {
                visit(&format!("{path}.{key}"), &schema[key], each);
            }
        }
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            visit(path, inner, each);
        }
    }

    #[test]
    fn every_key_is_documented() {
        visit("", &SCHEMA, &mut |path, schema| {
            for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
                assert!(inner["description"].is_string() || key == "every", "{path}.{key}");
            }
        });
    }

    #[test]
    fn the_walk_understands_everything_that_the_schema_says() {
        let understood = [
            "$schema",
            "title",
            "description",
            "examples",
            "type",
            "properties",
            "required",
            "items",
            "minItems",
            "additionalProperties",
            "propertyNames",
            "minimum",
            "maximum",
            "format",
            "oneOf",
            "anyOf",
            "const",
        ];
        visit("", &SCHEMA, &mut |path, schema| {
            for keyword in schema.as_object().into_iter().flatten().map(|(keyword, _)| keyword.as_str()) {
                assert!(understood.contains(&keyword), "{path}: {keyword}");
            }
            let format =
                schema["format"].as_str().filter(|format| schema["type"] == "string" || *format == "name");
            if let Some(format) = format {
                assert!(values::format(format).is_some(), "{path}: {format}");
            }
        });
    }

    #[test]
    fn no_key_may_be_null() {
        assert!(!SCHEMA.to_string().contains("null"));
    }
}
