//! What the Admin API says, as far as it is read here ("Clusters" and "Cloud Backups" of its reference, version 2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Failure;
use crate::{
    inventory::NativeState,
    secrets::Secret,
    spec::{KeepUnit, SnapshotFrequency, SnapshotKeep, SnapshotRule},
};

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) results: Vec<T>,
}

/// "ClusterDescription20240805".
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Cluster {
    #[serde(default)]
    pub(super) backup_enabled: bool,
    #[serde(default)]
    pub(super) pit_enabled: bool,
    #[serde(default)]
    pub(super) termination_protection_enabled: bool,
    pub(super) cluster_type: Option<String>,
    pub(super) state_name: Option<String>,
    #[serde(rename = "mongoDBVersion")]
    pub(super) mongo_db_version: Option<String>,
    pub(super) create_date: Option<Timestamp>,
    #[serde(default)]
    pub(super) tags: Vec<Tag>,
}

/// "ResourceTag".
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

impl Cluster {
    /// Whether this driver looks after clusters of its kind.
    pub(super) fn looked_after(&self) -> Result<(), Failure> {
        match (self.cluster_type.as_deref(), self.backup_enabled) {
            (Some("REPLICASET"), true) => Ok(()),
            (Some("REPLICASET"), false) => {
                Err(Failure::Refused("Cloud Backup is off for it; switch it on in Atlas".to_owned()))
            }
            (Some(other), _) => Err(Failure::Refused(format!(
                "it is a cluster of type {}; this build looks after replica sets only",
                other.escape_debug()
            ))),
            (None, _) => Err(Failure::Wrong("Atlas does not tell of what type it is".to_owned())),
        }
    }

    /// What Atlas is changing of it just now.
    pub(super) fn changing(&self) -> Option<String> {
        match self.state_name.as_deref() {
            Some("IDLE") => None,
            Some(state) => Some(format!("it is {}", state.escape_debug())),
            None => Some("Atlas does not tell in which state it is".to_owned()),
        }
    }
}

/// "DiskBackupReplicaSet": a snapshot of a replica set.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Snapshot {
    pub(super) id: String,
    pub(super) description: Option<String>,
    pub(super) status: Option<String>,
    pub(super) snapshot_type: Option<String>,
    pub(super) created_at: Option<Timestamp>,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) mongod_version: Option<String>,
}

impl Snapshot {
    /// What somebody who had it made on demand called it.
    pub(super) fn name(&self) -> Option<&str> {
        let is_on_demand =
            self.snapshot_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("onDemand"));
        self.description.as_deref().filter(|_| is_on_demand)
    }

    /// How it is (`status`).
    pub(super) fn state(&self) -> NativeState {
        match self.status.as_deref() {
            Some("completed") => NativeState::Available,
            Some("queued" | "inProgress") => NativeState::Making,
            other => NativeState::Broken(format!("its status is {other:?}")),
        }
    }
}

/// "DiskBackupSnapshotSchedule20240805".
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Schedule {
    #[serde(default)]
    pub(super) policies: Vec<Policy>,
    pub(super) reference_hour_of_day: Option<u32>,
    pub(super) reference_minute_of_hour: Option<u32>,
    pub(super) restore_window_days: Option<u32>,
}

/// "AdvancedDiskBackupSnapshotSchedulePolicy".
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    pub(super) id: String,
    #[serde(default)]
    pub(super) policy_items: Vec<Item>,
}

/// "DiskBackupApiPolicyItem".
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    pub(super) frequency_type: String,
    pub(super) frequency_interval: u32,
    pub(super) retention_unit: String,
    pub(super) retention_value: u32,
}

impl Schedule {
    /// The only policy that a cluster has.
    pub(super) fn policy(&self) -> Result<&Policy, Failure> {
        match self.policies.as_slice() {
            [policy] => Ok(policy),
            other => Err(Failure::Wrong(format!(
                "it has {} backup policies, and this build knows clusters of one",
                other.len()
            ))),
        }
    }
}

impl Item {
    /// As it is declared.
    pub(super) fn rule(&self) -> Result<SnapshotRule, Failure> {
        let unknown = || {
            Failure::Wrong(format!(
                "its backup policy has an item that this build does not know: {} {}, kept {} {}",
                self.frequency_type.escape_debug(),
                self.frequency_interval,
                self.retention_value,
                self.retention_unit.escape_debug()
            ))
        };
        let frequency = match self.frequency_type.as_str() {
            "hourly" => SnapshotFrequency::Hourly,
            "daily" => SnapshotFrequency::Daily,
            "weekly" => SnapshotFrequency::Weekly,
            "monthly" => SnapshotFrequency::Monthly,
            "yearly" => SnapshotFrequency::Yearly,
            _ => return Err(unknown()),
        };
        let unit = match self.retention_unit.as_str() {
            "days" => KeepUnit::Days,
            "weeks" => KeepUnit::Weeks,
            "months" => KeepUnit::Months,
            "years" => KeepUnit::Years,
            _ => return Err(unknown()),
        };
        let keep = SnapshotKeep::new(self.retention_value, unit).ok_or_else(unknown)?;
        SnapshotRule::new(frequency, self.frequency_interval, keep).map_err(|_| unknown())
    }

    /// That of a declared rule; where one of `before` is made at the same time, it stays that one.
    pub(super) fn of(rule: &SnapshotRule, before: &[Item]) -> Self {
        let frequency_type = match rule.frequency() {
            SnapshotFrequency::Hourly => "hourly",
            SnapshotFrequency::Daily => "daily",
            SnapshotFrequency::Weekly => "weekly",
            SnapshotFrequency::Monthly => "monthly",
            SnapshotFrequency::Yearly => "yearly",
        };
        let retention_unit = match rule.keep().unit() {
            KeepUnit::Days => "days",
            KeepUnit::Weeks => "weeks",
            KeepUnit::Months => "months",
            KeepUnit::Years => "years",
        };
        let is_same = |item: &&Item| {
            item.frequency_type == frequency_type
                && (item.frequency_interval == rule.interval()
                    || rule.frequency() == SnapshotFrequency::Hourly)
        };
        Self {
            id: before.iter().find(is_same).and_then(|item| item.id.clone()),
            frequency_type: frequency_type.to_owned(),
            frequency_interval: rule.interval(),
            retention_unit: retention_unit.to_owned(),
            retention_value: rule.keep().number(),
        }
    }
}

/// "DiskBackupSnapshotRestoreJob".
#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Job {
    pub(super) id: String,
    #[serde(default)]
    pub(super) cancelled: bool,
    #[serde(default)]
    pub(super) failed: bool,
    #[serde(default)]
    pub(super) expired: bool,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) target_cluster_name: Option<String>,
    delivery_type: Option<String>,
    pub(super) snapshot_id: Option<String>,
    target_group_id: Option<String>,
    #[serde(rename = "pointInTimeUTCSeconds")]
    point_in_time: Option<i64>,
    /// Where what is to be downloaded is, once it is there. Whoever has it has the data.
    #[serde(default)]
    delivery_url: Vec<String>,
}

/// How far a restore has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// It goes on.
    Running,
    /// It was done, and when.
    Done(Timestamp),
    /// It ended without being done, and how.
    Ended(&'static str),
}

impl Job {
    /// Whether it says that it is of what `asked`, the body of a call for a job, asks for: how, of what, and into which cluster. Of the
    /// project it need not say.
    pub(super) fn is_as_asked(&self, asked: &Value) -> bool {
        let says = |told: Option<&str>, key: &str| match asked[key].as_str() {
            Some(wanted) => told == Some(wanted),
            None => true,
        };
        let is_into = asked["targetClusterName"].as_str().is_none_or(|target| self.is_into(target));
        let is_of_moment =
            asked["pointInTimeUTCSeconds"].as_i64().is_none_or(|at| self.point_in_time == Some(at));
        says(self.delivery_type.as_deref(), "deliveryType")
            && says(self.snapshot_id.as_deref(), "snapshotId")
            && (self.target_group_id.is_none() || says(self.target_group_id.as_deref(), "targetGroupId"))
            && is_into
            && is_of_moment
    }

    /// Where each of what is to be downloaded is; none yet where there is none.
    pub(super) fn urls(&self) -> Vec<Secret> {
        self.delivery_url.iter().map(|url| Secret::new(url.clone())).collect()
    }

    /// Whether it restores into the cluster of that name.
    pub(super) fn is_into(&self, cluster: &str) -> bool {
        self.target_cluster_name.as_deref().is_some_and(|target| target.eq_ignore_ascii_case(cluster))
    }

    pub(super) fn state(&self) -> JobState {
        match (self.failed, self.cancelled, self.finished_at, self.expired) {
            (true, _, _, _) => JobState::Ended("it failed"),
            (_, true, _, _) => JobState::Ended("somebody cancelled it"),
            (_, _, Some(at), _) => JobState::Done(at),
            (_, _, None, true) => JobState::Ended("it expired before it was finished"),
            (_, _, None, false) => JobState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(frequency: &str, interval: u32, value: u32, unit: &str) -> Item {
        Item {
            id: Some(format!("{frequency}-{interval}")),
            frequency_type: frequency.to_owned(),
            frequency_interval: interval,
            retention_unit: unit.to_owned(),
            retention_value: value,
        }
    }

    #[test]
    fn items_are_rules_and_rules_are_items() {
        for (item, text) in [
            (item("hourly", 6, 2, "days"), "every 6h, keep 2d"),
            (item("daily", 1, 7, "days"), "every day, keep 7d"),
            (item("weekly", 6, 4, "weeks"), "every saturday, keep 4w"),
            (item("monthly", 40, 12, "months"), "every month on last, keep 12mo"),
            (item("yearly", 12, 3, "years"), "every year in december, keep 3y"),
        ] {
            let rule = item.rule().unwrap();
            assert_eq!(rule.to_string(), text);
            assert_eq!(Item::of(&rule, std::slice::from_ref(&item)), item);
            assert_eq!(Item::of(&rule, &[]).id, None);
        }
        for unknown in
            [item("minutely", 1, 1, "days"), item("daily", 2, 1, "days"), item("daily", 1, 1, "eons")]
        {
            assert!(matches!(unknown.rule(), Err(Failure::Wrong(_))));
        }
    }

    #[test]
    fn a_job_is_ours_only_where_it_says_what_was_asked_for() {
        let told = |text: &str| serde_json::from_str::<Job>(&format!(r#"{{"id":"a",{text}}}"#)).unwrap();
        let asked = json!({
            "deliveryType": "automated", "snapshotId": "s", "targetClusterName": "copy", "targetGroupId": "p"
        });
        let into = r#""deliveryType":"automated","targetClusterName":"Copy""#;
        assert!(told(&format!(r#"{into},"snapshotId":"s""#)).is_as_asked(&asked));
        assert!(told(&format!(r#"{into},"snapshotId":"s","targetGroupId":"p""#)).is_as_asked(&asked));
        for other in [
            into.to_owned(),
            format!(r#"{into},"snapshotId":"t""#),
            format!(r#"{into},"snapshotId":"s","targetGroupId":"q""#),
            r#""deliveryType":"automated","targetClusterName":"then","snapshotId":"s""#.to_owned(),
            r#""deliveryType":"download","targetClusterName":"copy","snapshotId":"s""#.to_owned(),
            r#""targetClusterName":"copy","snapshotId":"s""#.to_owned(),
        ] {
            assert!(!told(&other).is_as_asked(&asked), "{other}");
        }
        let asked =
            json!({ "deliveryType": "pointInTime", "pointInTimeUTCSeconds": 7, "targetClusterName": "copy" });
        let into = r#""deliveryType":"pointInTime","targetClusterName":"copy""#;
        assert!(told(&format!(r#"{into},"pointInTimeUTCSeconds":7"#)).is_as_asked(&asked));
        assert!(!told(&format!(r#"{into},"pointInTimeUTCSeconds":8"#)).is_as_asked(&asked));
        assert!(!told(into).is_as_asked(&asked));
    }

    #[test]
    fn a_job_is_done_only_when_it_says_so_and_did_not_fail() {
        let job = |text: &str| serde_json::from_str::<Job>(text).unwrap().state();
        assert_eq!(job(r#"{"id":"a"}"#), JobState::Running);
        let at = "2026-11-29T12:00:00Z";
        assert_eq!(job(&format!(r#"{{"id":"a","finishedAt":"{at}"}}"#)), JobState::Done(at.parse().unwrap()));
        for ended in [r#""failed":true"#, r#""cancelled":true"#] {
            let state = job(&format!(r#"{{"id":"a","finishedAt":"{at}",{ended}}}"#));
            assert!(matches!(state, JobState::Ended(_)), "{ended}");
        }
        assert!(matches!(job(r#"{"id":"a","expired":true}"#), JobState::Ended(_)));
    }

    #[test]
    fn what_is_no_snapshot_on_demand_has_no_name_of_ours() {
        let snapshot = |kind: &str, status: &str| -> Snapshot {
            let text =
                format!(r#"{{"id":"a","description":"d","snapshotType":"{kind}","status":"{status}"}}"#);
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(snapshot("onDemand", "completed").name(), Some("d"));
        assert_eq!(snapshot("scheduled", "completed").name(), None);
        assert_eq!(snapshot("onDemand", "completed").state(), NativeState::Available);
        assert_eq!(snapshot("onDemand", "queued").state(), NativeState::Making);
        assert!(matches!(snapshot("onDemand", "failed").state(), NativeState::Broken(_)));
        assert!(matches!(snapshot("onDemand", "surprising").state(), NativeState::Broken(_)));
    }
}
