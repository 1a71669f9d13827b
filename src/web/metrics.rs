//! The status as metrics, in the words of the design; written anew for every scrape, so that what is gone is gone.

mod recovery;
mod several;

use std::collections::BTreeMap;

use jiff::Timestamp;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

pub(super) use self::several::Several;
use super::{Board, Webhooks};
use crate::{
    inventory::{KeptLog, LogReader, ReaderState},
    plan::due::Dueness,
    spec::names::BackupName,
    status::{BackupStatus, Status, Tried},
};

/// Which backup, store and kind a value is of; what does not apply is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    backup: Option<String>,
    store: Option<String>,
    kind: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectiveLabels {
    backup: String,
    objective: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConditionLabels {
    concern: &'static str,
    subject: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriftLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrillLabels {
    drill: String,
    backup: Option<String>,
    recovery: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealLabels {
    kind: &'static str,
    subject: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevisionLabels {
    revision: String,
    newest: String,
}

/// Everything that the board shows, and how webhooks were answered, as OpenMetrics text.
pub(super) fn text(board: &Board, webhooks: &Webhooks, now: Timestamp) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("backstay");
    registry.register("looks", "Passes, by what they were begun for", board.looks());
    registry.register("webhook_deliveries", "Webhooks that came, by what they were told", webhooks.answers());
    registry.register("pass_duration_seconds", "How long passes took", board.durations());
    if let Some(last) = board.health(now).last_pass {
        let ended: Gauge = Gauge::default();
        ended.set(last.ended.as_second());
        registry.register("last_pass_timestamp_seconds", "When the last pass ended", ended);
    }
    if let Some(status) = board.status() {
        register(&mut registry, &status, now);
    }
    readers(&mut registry, &board.readers(), now);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn register(registry: &mut Registry, status: &Status, now: Timestamp) {
    schedules(registry, status);
    recovery_points(registry, status, now);
    let kept = status.backups.iter().filter_map(|(name, backup)| Some((name, backup.kept_log.as_ref()?)));
    kept_logs(registry, kept);
    stores(registry, status);
    drills(registry, status, now);
    recovery::register(registry, status);
    let conditions = Family::<ConditionLabels, Gauge>::default();
    for condition in &status.conditions {
        let labels =
            ConditionLabels { concern: condition.concern.as_str(), subject: condition.subject.clone() };
        conditions.get_or_create(&labels).set(1);
    }
    registry.register("condition", "1 for everything that somebody should know", conditions);
    drift(registry, status);
    let revisions = RevisionLabels {
        revision: status.revisions.in_force.clone().unwrap_or_default(),
        newest: status.revisions.newest.clone().unwrap_or_default(),
    };
    if let Some(answered) = status.revisions.contact.answered {
        let contact: Gauge = Gauge::default();
        contact.set(answered.as_second());
        registry.register("infra_contact_timestamp_seconds", "When the infra repo last answered", contact);
    }
    registry.register("revision", "The revision in force and the newest one", Info::new(revisions));
}

fn drift(registry: &mut Registry, status: &Status) {
    let drifted = Family::<DriftLabels, Gauge>::default();
    for drifts in status.drift.drifts.iter() {
        drifted.get_or_create(&DriftLabels { kind: drifts.drift.kind.as_str() }).inc();
    }
    registry.register("drift", "How much differs from how Backstay left it", drifted);
    let healed = Family::<HealLabels, Gauge>::default();
    for heals in &status.drift.heals {
        let labels = HealLabels { kind: heals.kind.as_str(), subject: heals.subject.clone() };
        healed.get_or_create(&labels).set(i64::try_from(heals.times).unwrap_or(i64::MAX));
    }
    registry.register("drift_heals", "How often it was put back within the last 24 hours", healed);
}

fn schedules(registry: &mut Registry, status: &Status) {
    let intervals = Family::<Labels, Gauge>::default();
    let successes = Family::<Labels, Gauge>::default();
    for (name, backup) in &status.backups {
        for due in &backup.schedules {
            intervals.get_or_create(&of_kind(name, None, due.kind)).set(interval(due));
        }
        for (kind, stores) in &backup.successes {
            for (store, at) in stores {
                successes.get_or_create(&of_kind(name, Some(store), *kind)).set(at.as_second());
            }
        }
    }
    registry.register("expected_interval_seconds", "Longest time between two slots of a schedule", intervals);
    registry.register(
        "last_success_timestamp_seconds",
        "The moment of the newest good artifact of a kind in a store",
        successes,
    );
}

fn recovery_points(registry: &mut Registry, status: &Status, now: Timestamp) {
    let ages = Family::<Labels, Gauge>::default();
    let objectives = Family::<ObjectiveLabels, Gauge>::default();
    for (name, backup) in &status.backups {
        if let Some(newest) = backup.newest_moment() {
            let labels = Labels { backup: Some(name.to_string()), ..Labels::default() };
            ages.get_or_create(&labels).set(now.duration_since(newest).as_secs());
        }
        for (objective, seconds) in seconds_of(backup) {
            let labels = ObjectiveLabels { backup: name.to_string(), objective };
            objectives.get_or_create(&labels).set(i64::try_from(seconds).unwrap_or(i64::MAX));
        }
    }
    registry.register(
        "recovery_point_age_seconds",
        "Age of the newest moment that a backup can be brought back to",
        ages,
    );
    windows(registry, status);
    providers(registry, status);
    registry.register("objective_seconds", "What is declared as RPO and RTO", objectives);
}

/// The newest stretch of time of each backup that its log reaches.
fn windows(registry: &mut Registry, status: &Status) {
    let starts = Family::<Labels, Gauge>::default();
    let ends = Family::<Labels, Gauge>::default();
    for (name, backup) in &status.backups {
        if let Some(window) = backup.windows.last() {
            let labels = Labels { backup: Some(name.to_string()), ..Labels::default() };
            starts.get_or_create(&labels).set(window.start.as_second());
            ends.get_or_create(&labels).set(window.end.as_second());
        }
    }
    let start =
        "The first moment of the newest stretch of time that a backup can be brought back to by its log";
    registry.register("pitr_window_start_timestamp_seconds", start, starts);
    registry.register("pitr_window_end_timestamp_seconds", "Its last moment", ends);
}

/// From when to when providers can bring back any second, and whether they are set as is declared.
fn providers(registry: &mut Registry, status: &Status) {
    let starts = Family::<Labels, Gauge>::default();
    let ends = Family::<Labels, Gauge>::default();
    let as_declared = Family::<Labels, Gauge>::default();
    for (name, backup) in &status.backups {
        let Some(provider) = &backup.provider else { continue };
        let labels = Labels { backup: Some(name.to_string()), ..Labels::default() };
        let holds = provider.settings.known().is_some() && provider.lacking.is_none();
        as_declared.get_or_create(&labels).set(i64::from(holds));
        if let Some(window) = provider.window() {
            starts.get_or_create(&labels).set(window.start.as_second());
            ends.get_or_create(&labels).set(window.end.as_second());
        }
    }
    let start = "The first moment that the provider of a backup's source can bring back by itself, in its own account";
    registry.register("provider_window_start_timestamp_seconds", start, starts);
    registry.register("provider_window_end_timestamp_seconds", "Its last moment", ends);
    let set = "Whether the provider of a backup's source was seen to be set as is declared";
    registry.register("provider_set_as_declared", set, as_declared);
}

/// What servers keep of their logs until that is captured.
fn kept_logs<'a>(registry: &mut Registry, all: impl Iterator<Item = (&'a BackupName, &'a KeptLog)>) {
    let retained = Family::<Labels, Gauge>::default();
    let limits = Family::<Labels, Gauge>::default();
    for (name, kept) in all {
        let labels = Labels { backup: Some(name.to_string()), ..Labels::default() };
        retained.get_or_create(&labels).set(i64::try_from(kept.bytes).unwrap_or(i64::MAX));
        if let Some(limit) = kept.limit {
            limits.get_or_create(&labels).set(i64::try_from(limit).unwrap_or(i64::MAX));
        }
    }
    registry.register(
        "postgres_slot_retained_bytes",
        "Bytes of log that a server keeps until they are captured",
        retained,
    );
    registry.register("postgres_slot_limit_bytes", "The most that it keeps", limits);
}

/// How the readers of logs are.
fn readers(registry: &mut Registry, all: &BTreeMap<String, LogReader>, now: Timestamp) {
    let family = Family::<Labels, Gauge>::default;
    let (up, lags, bytes) = (family(), family(), family());
    for (backup, reader) in all {
        let labels = Labels { backup: Some(backup.clone()), ..Labels::default() };
        up.get_or_create(&labels).set(i64::from(reader.state == ReaderState::Up));
        bytes.get_or_create(&labels).set(i64::try_from(reader.spool_bytes).unwrap_or(i64::MAX));
        if let Some(complete) = reader.complete {
            lags.get_or_create(&labels).set(now.duration_since(complete).as_secs());
        }
    }
    registry.register("log_reader_up", "Whether the log is read as it is written", up);
    registry.register(
        "log_reader_lag_seconds",
        "How long ago the reader was last seen to have all that the server had",
        lags,
    );
    registry.register("log_reader_spool_bytes", "What is read of the log and not in every store yet", bytes);
}

fn seconds_of(backup: &BackupStatus) -> impl Iterator<Item = (&'static str, u64)> {
    let rpo = backup.objective.as_ref().map(|objective| ("rpo", objective.seconds));
    rpo.into_iter().chain(backup.rto_seconds.map(|seconds| ("rto", seconds)))
}

fn stores(registry: &mut Registry, status: &Status) {
    let bytes = Family::<Labels, Gauge>::default();
    for (name, backup) in &status.backups {
        for (store, stored) in backup.stores.iter().filter(|(_, stored)| stored.unknown.is_none()) {
            let labels =
                Labels { backup: Some(name.to_string()), store: Some(store.to_string()), kind: None };
            bytes.get_or_create(&labels).set(i64::try_from(stored.bytes).unwrap_or(i64::MAX));
        }
    }
    registry.register("store_bytes", "Bytes of a backup in a store", bytes);
}

/// What the last drills came to.
fn drills(registry: &mut Registry, status: &Status, now: Timestamp) {
    let family = Family::<DrillLabels, Gauge>::default;
    let (last, passed, took, ages, estimates) = (family(), family(), family(), family(), family());
    let left_out = family();
    let whole = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
    for (name, drill) in &status.drills {
        let (backup, recovery) = match &drill.tried {
            Tried::Backup(backup) => (Some(backup.to_string()), None),
            Tried::Recovery(recovery) => (None, Some(recovery.to_string())),
        };
        let labels = DrillLabels { drill: name.to_string(), backup, recovery };
        if let Some(at) = drill.last_passed {
            ages.get_or_create(&labels).set(now.duration_since(at).as_secs());
        }
        if let Some(estimate) = &drill.estimate {
            estimates.get_or_create(&labels).set(whole(estimate.seconds));
        }
        if let Some(result) = &drill.last {
            last.get_or_create(&labels).set(result.began().as_second());
            passed.get_or_create(&labels).set(i64::from(result.outcome().is_passed()));
            left_out.get_or_create(&labels).set(i64::try_from(result.left_out()).unwrap_or(i64::MAX));
            if let Some(seconds) = result.rto_seconds() {
                took.get_or_create(&labels).set(whole(seconds));
            }
        }
    }
    registry.register("drill_last_timestamp_seconds", "When the last drill began", last);
    registry.register("drill_left_out_steps", "How many declared steps the last drill left out", left_out);
    registry.register("drill_passed", "Whether the last drill passed", passed);
    registry.register("drill_recovery_seconds", "How long the last drill took to usable data", took);
    registry.register("drill_estimate_seconds", "How long the restore would take now", estimates);
    registry.register("drill_last_passed_age_seconds", "How long ago the last drill began that passed", ages);
}

fn of_kind(
    backup: &BackupName,
    store: Option<&crate::spec::names::StoreName>,
    kind: crate::artifact::Kind,
) -> Labels {
    Labels {
        backup: Some(backup.to_string()),
        store: store.map(ToString::to_string),
        kind: Some(kind.to_string()),
    }
}

/// The longest time between two slots of a schedule, seconds.
fn interval(due: &Dueness) -> i64 {
    i64::try_from(due.cadence.longest_gap().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::WalStatus;

    #[test]
    fn a_reader_is_up_or_not_and_its_lag_grows_with_time() {
        let reader = |state, complete: Option<&str>| LogReader {
            state,
            since: Timestamp::UNIX_EPOCH,
            why: None,
            complete: complete.map(|at| at.parse().unwrap()),
            seen: Timestamp::UNIX_EPOCH,
            spool_bytes: 7,
        };
        let all = BTreeMap::from([
            ("orders".to_owned(), reader(ReaderState::Up, Some("2026-11-20T10:00:00Z"))),
            ("shop".to_owned(), reader(ReaderState::Down, None)),
        ]);
        let mut registry = Registry::with_prefix("backstay");
        readers(&mut registry, &all, "2026-11-20T10:00:09Z".parse().unwrap());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |line: &str| text.lines().find_map(|found| found.strip_prefix(line).map(str::to_owned));
        let of = |what: &str, backup: &str| {
            value(&format!("backstay_log_reader_{what}{{backup=\"{backup}\",store=\"\",kind=\"\"}} "))
        };
        assert_eq!((of("up", "orders"), of("up", "shop")), (Some("1".into()), Some("0".into())), "{text}");
        assert_eq!((of("lag_seconds", "orders"), of("lag_seconds", "shop")), (Some("9".into()), None));
    }

    #[test]
    fn a_slot_without_a_limit_has_none_in_the_metrics() {
        let kept = |limit| KeptLog {
            slot: "backstay_orders".to_owned(),
            bytes: 4096,
            limit,
            status: WalStatus::Reserved,
        };
        let (orders, shop): (BackupName, BackupName) = ("orders".parse().unwrap(), "shop".parse().unwrap());
        let mut registry = Registry::with_prefix("backstay");
        kept_logs(&mut registry, [(&orders, &kept(Some(8192))), (&shop, &kept(None))].into_iter());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let of = |what: &str| text.lines().filter(|line| line.contains(&format!("{what}_bytes{{"))).count();
        assert_eq!((of("retained"), of("limit")), (2, 1), "{text}");
        assert!(
            text.lines()
                .any(|line| line.contains("limit_bytes{backup=\"orders\"") && line.ends_with(" 8192"))
        );
    }
}
