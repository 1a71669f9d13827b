//! Rules within one policy: what its schedules, window and retention make of each other.

use std::{collections::BTreeMap, time::Duration};

use humantime::format_duration;
use jiff::Timestamp;

use super::{Lint, objective::HORIZON_START};
use crate::{
    artifact::Kind,
    spec::{
        Backup, BinaryLogs, CatchUp, LogFrom, Mysql, Policy, Postgres, PostgresMethod, Retention, Schedule,
        Server, Source,
        places::{Path, path},
    },
};

/// Slots of a schedule that are looked at to tell whether a window ever lets one through.
const LOOKED_AT: usize = 400;
/// Where servers of MySQL and MariaDB listen that are declared without a port.
const MYSQL_PORT: u16 = 3306;

impl Lint<'_> {
    /// Whatever isn't a full needs one to build on.
    pub(super) fn kinds_have_a_base(&mut self) {
        let lowered = self.lowered;
        for policy in lowered.policies.values().filter(|p| !p.schedules.contains_key(&Kind::Full)) {
            for kind in policy.schedules.keys() {
                let at = path(["policy", policy.name.as_str(), kind.as_str()]);
                let message = format!("policy `{}` makes {kind}s, but never a full to build on", policy.name);
                self.error(
                    "incremental-without-full",
                    &at,
                    message,
                    "add `full`, such as full = \"0 1 * * 0\"",
                );
            }
        }
    }

    /// A policy with logs is only for sources that have a log.
    pub(super) fn sources_have_logs(&mut self) {
        let lowered = self.lowered;
        for backup in lowered.spec.backups.values() {
            if backup.policy.schedules.contains_key(&Kind::Log) && !backup.source.has_log() {
                let at = path(["backup", backup.name.as_str(), "policy"]);
                let (policy, kind) = (&backup.policy.name, backup.source.kind());
                let (message, hint) = match &backup.source {
                    Source::Postgres(_) => (
                        format!("policy `{policy}` captures logs, which go on from physical captures only"),
                        "use method = \"physical\", which captures the whole cluster, or a policy without `log`",
                    ),
                    _ => (
                        format!("policy `{policy}` captures logs, but `{kind}` keeps none"),
                        "use a policy without `log`",
                    ),
                };
                self.error("no-log", &at, message, hint);
            }
        }
    }

    /// The log of a server is replayed whole: what of it concerns one of its databases only nobody can tell for sure.
    pub(super) fn logs_can_be_replayed(&mut self) {
        let lowered = self.lowered;
        for backup in lowered.spec.backups.values() {
            let databases = match &backup.source {
                Source::Mysql(mysql) => &mysql.server.databases,
                Source::Mongodb(mongodb) => &mongodb.server.databases,
                _ => continue,
            };
            if backup.policy.schedules.contains_key(&Kind::Log) && !databases.is_empty() {
                let at = path(["backup", backup.name.as_str(), backup.source.kind(), "databases"]);
                let message = format!(
                    "backup `{}` captures the log of its server, which tells of all databases, but the data of some only",
                    backup.name
                );
                let hint = "leave `databases` out, or use a policy without `log`";
                self.error("log-of-some", &at, message, hint);
            }
        }
    }

    /// Binary logs go only once they are stored, and without `log` they never are.
    pub(super) fn purged_logs_are_captured(&mut self) {
        let lowered = self.lowered;
        for backup in lowered.spec.backups.values() {
            let Source::Mysql(Mysql { binary_logs: BinaryLogs::Purged, .. }) = &backup.source else {
                continue;
            };
            if !backup.policy.schedules.contains_key(&Kind::Log) {
                let at = path(["backup", backup.name.as_str(), "mysql", "purge_binary_logs"]);
                let message = format!(
                    "backup `{}` purges binary logs once they are stored, but policy `{}` captures none",
                    backup.name, backup.policy.name
                );
                self.error("purge-without-log", &at, message, "add `log` to the policy, or remove it");
            }
        }
    }

    /// Another backup's log may not be stored yet where one's is.
    pub(super) fn purged_logs_are_not_shared(&mut self) {
        let lowered = self.lowered;
        let of_logs = |backup: &'_ Backup| match &backup.source {
            Source::Mysql(mysql) if backup.policy.schedules.contains_key(&Kind::Log) => {
                let Server { host, port, socket, .. } = &mysql.server;
                Some((mysql.binary_logs, (host.clone(), port.unwrap_or(MYSQL_PORT), socket.clone())))
            }
            _ => None,
        };
        for backup in lowered.spec.backups.values() {
            let Some((BinaryLogs::Purged, place)) = of_logs(backup) else { continue };
            let shares = |other: &&Backup| {
                other.name != backup.name && of_logs(other).is_some_and(|(_, of)| of == place)
            };
            if let Some(other) = lowered.spec.backups.values().find(shares) {
                let at = path(["backup", backup.name.as_str(), "mysql", "purge_binary_logs"]);
                let message = format!(
                    "backup `{}` purges the binary logs of a server whose log backup `{}` captures, too",
                    backup.name, other.name
                );
                self.error(
                    "shared-purge",
                    &at,
                    message,
                    "remove it, or `log` from the policy of the other one",
                );
            }
        }
    }

    /// A slot that two backups move on keeps the log for neither.
    pub(super) fn slots_are_not_shared(&mut self) {
        let lowered = self.lowered;
        let mut taken = BTreeMap::new();
        for backup in lowered.spec.backups.values() {
            let Source::Postgres(Postgres {
                server,
                method: PostgresMethod::Physical { log: LogFrom::Slot(slot), .. },
                ..
            }) = &backup.source
            else {
                continue;
            };
            let place = (&server.host, server.port, &server.socket, slot.as_str());
            if let Some(other) = taken.insert(place, &backup.name) {
                let at = path(["backup", backup.name.as_str(), "postgres"]);
                let message =
                    format!("backup `{}` uses the replication slot of `{other}`, {slot}", backup.name);
                self.error("shared-slot", &at, message, "give one of them another `slot`");
            }
        }
    }

    /// A window that is always closed, or at every slot of a schedule.
    pub(super) fn windows_leave_time(&mut self) {
        let lowered = self.lowered;
        for policy in lowered.policies.values().filter(|policy| !policy.window.is_always_open()) {
            let at = path(["policy", policy.name.as_str(), "window"]);
            if policy.window.never_opens() {
                let message = format!("the window of policy `{}` never opens", policy.name);
                self.error(
                    "window-leaves-no-time",
                    &at,
                    message,
                    "leave a time of the week that is not denied and, with `allow`, is allowed",
                );
                continue;
            }
            for kind in policy.schedules.keys().filter(|kind| **kind != Kind::Log) {
                self.window_leaves_time_for(policy, *kind, &at);
            }
        }
    }

    fn window_leaves_time_for(&mut self, policy: &Policy, kind: Kind, at: &Path) {
        let zone = &self.lowered.spec.fleet.time_zone;
        let schedule = plain(policy, kind, zone.clone());
        let delay = |slot: Timestamp| {
            let opening = policy.window.next_opening(slot, zone)?;
            opening.duration_since(slot).try_into().ok()
        };
        let slots =
            std::iter::successors(schedule.next_after(HORIZON_START), |slot| schedule.next_after(*slot));
        let shortest: Option<Duration> = slots.take(LOOKED_AT).filter_map(delay).min();
        let Some(shortest) = shortest.filter(|delay| !delay.is_zero()) else { return };
        let message = format!(
            "every slot of `{kind}` of policy `{}` falls into a time when its window is closed",
            policy.name
        );
        let diagnostic_at = self.places.find(&path(["policy", policy.name.as_str(), kind.as_str()])).cloned();
        let count = self.diagnostics.len();
        match policy.catch_up {
            CatchUp::Skip if shortest > policy.grace => {
                let hint = "nothing is ever made: with catch_up = \"skip\" a run that late is left out";
                self.error("window-leaves-no-time", at, message, hint);
            }
            _ => {
                let hint =
                    format!("each waits at least {} for the window to open", format_duration(shortest));
                self.warning("window-delays-schedule", at, message, hint);
            }
        }
        if let (Some(diagnostic), Some(place)) = (self.diagnostics.get_mut(count), diagnostic_at) {
            *diagnostic = diagnostic.clone().see(place, "the schedule");
        }
    }

    /// What is deleted before its successor exists leaves times without any.
    pub(super) fn retention_outlives_the_next_backup(&mut self) {
        let lowered = self.lowered;
        for policy in lowered.policies.values() {
            let at = path(["policy", policy.name.as_str(), "keep"]);
            self.retention_outlives(policy, &policy.keep, at);
        }
        for backup in lowered.spec.backups.values() {
            for (store, keep) in &backup.keep_in {
                let at = path(["backup", backup.name.as_str(), "keep_in", store.as_str()]);
                self.retention_outlives(&backup.policy, keep, at);
            }
        }
    }

    fn retention_outlives(&mut self, policy: &Policy, keep: &Retention, mut at: Path) {
        for (kind, cadence) in &policy.schedules {
            let gap = cadence.longest_gap();
            let Some(kept) = keep.age(*kind).filter(|kept| *kept < gap && !keep.counts(*kind)) else {
                continue;
            };
            let (kept, gap) = (format_duration(kept), format_duration(gap));
            let message = format!(
                "policy `{}` makes a {kind} every {gap} at the longest, but keeps it only {kept}",
                policy.name
            );
            at.push(kind.as_str().to_owned());
            self.error(
                "retention-too-short",
                &at,
                message,
                format!("keep it for at least {gap}, or make it more often"),
            );
            at.pop();
        }
    }
}

/// The slots of one kind, without jitter.
pub(super) fn plain(policy: &Policy, kind: Kind, zone: jiff::tz::TimeZone) -> Schedule {
    let cadence = policy.schedules[&kind].clone();
    Schedule::without_jitter(cadence, zone)
}
