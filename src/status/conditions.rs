//! Conditions: what somebody should know, each with a stable reason, so that alerts can tell a new one from an old.

use std::time::Duration;

use bytesize::ByteSize;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    BackupStatus, Declared, DrillStatus, Hold, MachineStatus, ObjectiveState, Overall, RecoveryStatus,
    Status, StoreState,
    drifted::Healing,
    estimate::Estimate,
    words::{count, duration},
};
use crate::{
    inventory::{KeptLog, LogRisk, Machine, Observed, ReaderState},
    plan::due::SlotState,
    spec::{
        approvals::FILE,
        names::{BackupName, DrillName, RecoveryName, VmName},
    },
};

/// The share of a store's capacity from which on it is worth saying.
const NEARLY_FULL: f64 = 0.9;
/// A clock further off than this keeps everything from expiring.
const CLOCK_TOLERANCE_SECONDS: u64 = 600;

/// Something that somebody should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// What kind of thing.
    pub concern: Concern,
    /// The resource, such as `backup.agama` or `store.offsite`. With `concern` it is the same as long as the
    /// condition lasts.
    pub subject: String,
    /// For people.
    pub message: String,
}

/// What a [`Condition`] is about, gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Concern {
    /// The newest revision has faults or can't be read, and is not in force.
    BadRevision,
    /// A signature is missing or does not count, so that the newest revision is not in force.
    UntrustedRevision,
    /// The branch was rewritten, and is held.
    RewrittenBranch,
    /// A safety rule withheld deletions, or a change that has a provider keep less.
    Withheld,
    /// Nothing was ever captured.
    NeverSucceeded,
    /// The newest restore point is older than the objective allows.
    ObjectiveBreached,
    /// Artifacts are damaged, or their manifests can't be trusted.
    Damaged,
    /// A store holds what no trusted key signed.
    StoreRefused,
    /// A store could not be seen.
    StoreUnknown,
    /// A store's clock is off.
    ClockApart,
    /// The infra repo can't be asked for a newer revision.
    InfraUnreachable,
    /// A machine is gone, or does not run.
    MachineLost,
    /// A machine can't be seen.
    MachineUnknown,
    /// A recovery was cut off.
    RecoveryUnfinished,
    /// The last drill did not pass, or could not be made.
    DrillFailed,
    /// What a drill that was cut off had a provider make may be left, and cost money.
    DrillCopyLeft,
    /// A drill was never made.
    NeverDrilled,
    /// A drill or a recovery took longer than recovery may.
    SlowRecovery,
    /// A slot has passed and nothing fills it.
    Overdue,
    /// What a server keeps of its log until that is captured goes, has gone, or may fill its disk.
    LogAtRisk,
    /// A log is not read as it is written.
    LogReaderDown,
    /// A slot of a drill has passed, and none was made.
    DrillOverdue,
    /// Something declared can't be done here.
    CannotRun,
    /// Recovery would take nearly as long as it may, or will soon.
    RtoAtRisk,
    /// Something undoes again and again what Backstay does.
    Fought,
    /// A provider can't be asked what it keeps by itself.
    ProviderUnknown,
    /// A provider keeps less, or otherwise, than is declared.
    ProviderDiffers,
    /// A machine differs from what is declared.
    MachineDrifted,
    /// Something differs from how Backstay left it, and is not put back by itself.
    Drifted,
    /// A store is nearly full.
    NearlyFull,
    /// The runbooks on their branch are not those of now.
    RunbooksUnpublished,
    /// A store costs nearly what it may.
    NearBudget,
    /// Copies are still to be made.
    CopiesMissing,
    /// The infra repo approves something, and that does not count here.
    ApprovalVoid,
    /// Something stands still for a while.
    Suspended,
    /// Artifacts that no declaration covers.
    Orphaned,
}

impl Concern {
    /// What it makes of the whole.
    pub fn overall(self) -> Overall {
        match self {
            Concern::BadRevision | Concern::UntrustedRevision | Concern::RewrittenBranch => {
                Overall::BadRevision
            }
            Concern::Withheld => Overall::Withheld,
            Concern::NeverSucceeded
            | Concern::ObjectiveBreached
            | Concern::Damaged
            | Concern::StoreRefused
            | Concern::StoreUnknown
            | Concern::ClockApart
            | Concern::InfraUnreachable
            | Concern::MachineLost
            | Concern::MachineUnknown
            | Concern::RecoveryUnfinished
            | Concern::DrillFailed
            | Concern::DrillCopyLeft
            | Concern::NeverDrilled
            | Concern::SlowRecovery
            | Concern::Overdue
            | Concern::LogAtRisk
            | Concern::LogReaderDown
            | Concern::DrillOverdue
            | Concern::CannotRun
            | Concern::RtoAtRisk
            | Concern::Fought
            | Concern::ProviderUnknown
            | Concern::ProviderDiffers
            | Concern::MachineDrifted
            | Concern::Drifted => Overall::Partial,
            Concern::NearlyFull
            | Concern::RunbooksUnpublished
            | Concern::NearBudget
            | Concern::CopiesMissing
            | Concern::ApprovalVoid
            | Concern::Suspended
            | Concern::Orphaned => Overall::Healthy,
        }
    }

    /// Its name in JSON, metrics and alerts.
    pub fn as_str(self) -> &'static str {
        match self {
            Concern::BadRevision => "bad-revision",
            Concern::UntrustedRevision => "untrusted-revision",
            Concern::RewrittenBranch => "rewritten-branch",
            Concern::Withheld => "withheld",
            Concern::NeverSucceeded => "never-succeeded",
            Concern::ObjectiveBreached => "objective-breached",
            Concern::Damaged => "damaged",
            Concern::StoreRefused => "store-refused",
            Concern::StoreUnknown => "store-unknown",
            Concern::ClockApart => "clock-apart",
            Concern::InfraUnreachable => "infra-unreachable",
            Concern::MachineLost => "machine-lost",
            Concern::MachineUnknown => "machine-unknown",
            Concern::RecoveryUnfinished => "recovery-unfinished",
            Concern::DrillFailed => "drill-failed",
            Concern::DrillCopyLeft => "drill-copy-left",
            Concern::NeverDrilled => "never-drilled",
            Concern::SlowRecovery => "slow-recovery",
            Concern::Overdue => "overdue",
            Concern::LogAtRisk => "log-at-risk",
            Concern::LogReaderDown => "log-reader-down",
            Concern::DrillOverdue => "drill-overdue",
            Concern::CannotRun => "cannot-run",
            Concern::RtoAtRisk => "rto-at-risk",
            Concern::Fought => "fought",
            Concern::ProviderUnknown => "provider-unknown",
            Concern::ProviderDiffers => "provider-differs",
            Concern::MachineDrifted => "machine-drifted",
            Concern::Drifted => "drifted",
            Concern::NearlyFull => "nearly-full",
            Concern::RunbooksUnpublished => "runbooks-unpublished",
            Concern::NearBudget => "near-budget",
            Concern::CopiesMissing => "copies-missing",
            Concern::ApprovalVoid => "approval-void",
            Concern::Suspended => "suspended",
            Concern::Orphaned => "orphaned",
        }
    }
}

/// Everything that somebody should know of `status`.
pub(super) fn of(status: &Status) -> Vec<Condition> {
    let mut found = Vec::new();
    revisions(status, &mut found);
    stores(status, &mut found);
    for (name, backup) in &status.backups {
        of_backup(name, backup, &mut found);
        of_reader(name, backup, status.at, &mut found);
        of_provider(name, backup, &mut found);
    }
    for (name, drill) in &status.drills {
        of_drill(name, drill, &mut found);
    }
    for (copy, left) in &status.copies_left {
        let message = format!(
            "{copy}, which the provider of {} makes for it, may be left of {:.0}, when it was cut off, and cost money; the next pass \
             deletes it if it bears its mark, or says why it can't",
            left.backup, left.began
        );
        found.push(condition(Concern::DrillCopyLeft, format!("drill.{}", left.drill), message));
    }
    for (name, machine) in &status.machines {
        of_machine(name, machine, &mut found);
    }
    for (name, recovery) in &status.recoveries {
        of_recovery(name, recovery, &mut found);
    }
    for suspension in &status.suspensions {
        let message = format!("{suspension}; until {}", suspension.until);
        found.push(condition(Concern::Suspended, suspension.scope.to_string(), message));
    }
    drift(status, &mut found);
    for withheld in &status.withheld {
        let (what, go) = match &withheld.store {
            Some(store) => (format!("deletions in {store} are"), "let exactly these go"),
            None => ("a change of what its provider keeps is".to_owned(), "have exactly this done"),
        };
        let approve = withheld
            .to_approve()
            .map(|plan| format!("; to {go}: backstay approve {} --reason WHY", plan.short()));
        let message = format!(
            "{what} held back by rule `{}`: {}{}",
            withheld.rule,
            withheld.reason,
            approve.unwrap_or_default()
        );
        found.push(condition(Concern::Withheld, format!("backup.{}", withheld.backup), message));
    }
    for (plan, why) in &status.void_approvals {
        let message = format!("the approval of {} in {FILE} does not count: {why}", plan.short());
        found.push(condition(Concern::ApprovalVoid, "infra".to_owned(), message));
    }
    for cannot in &status.cannot_run {
        found.push(condition(Concern::CannotRun, cannot.resource.clone(), cannot.why.clone()));
    }
    found.sort();
    found.dedup();
    found
}

/// Whether restores are known to work. Of a drill that can't run here another condition tells.
fn of_drill(name: &DrillName, drill: &DrillStatus, found: &mut Vec<Condition>) {
    if drill.cannot_run.is_some() {
        return;
    }
    let mut say = |concern, message| found.push(condition(concern, format!("drill.{name}"), message));
    match &drill.last {
        None => say(Concern::NeverDrilled, format!("{} was never tried", drill.tried)),
        Some(last) if !last.outcome().is_passed() => {
            let message = format!(
                "the last drill of {}, of {:.0}, {}; `backstay drill {name}` tries again and tells more",
                drill.what(),
                last.began(),
                last.outcome()
            );
            say(Concern::DrillFailed, message);
        }
        Some(_) => {}
    }
    if let (true, Some(slot), Some(_)) = (drill.is_due, drill.slot, &drill.last) {
        say(Concern::DrillOverdue, format!("its slot of {slot:.0} has no drill yet"));
    }
    if let Some((took, allowed)) = drill.too_slow() {
        let (took, allowed) = (duration(took), duration(allowed));
        let message =
            format!("the last drill of {} took {took}; its objective allows {allowed}", drill.what());
        say(Concern::SlowRecovery, message);
    }
    if let (Some(estimate), Some(allowed)) = (&drill.estimate, drill.rto_seconds) {
        at_risk(&drill.tried.to_string(), estimate, allowed, &mut say);
    }
}

fn at_risk(what: &str, estimate: &Estimate, allowed: u64, say: &mut dyn FnMut(Concern, String)) {
    if estimate.puts_at_risk(Duration::from_secs(allowed)) {
        let (now, soon) = (length(estimate.seconds), length(estimate.seconds_in_30_days));
        let message = format!(
            "{what} would take about {now}, and as the data grows {soon} in 30 days; its objective allows {}",
            length(allowed)
        );
        say(Concern::RtoAtRisk, message);
    }
}

/// Whether a machine is there as it is declared. Of one that can't be looked at here another condition tells.
fn of_machine(name: &VmName, status: &MachineStatus, found: &mut Vec<Condition>) {
    if status.cannot_run.is_some() {
        return;
    }
    let mut say = |concern, message| found.push(condition(concern, format!("vm.{name}"), message));
    match &status.machine {
        Observed::Unknown(why) => say(Concern::MachineUnknown, format!("it can't be seen: {why}")),
        Observed::Known(Machine::Gone) => {
            say(Concern::MachineLost, format!("it is gone; `backstay rebuild {name}` makes it anew"));
        }
        Observed::Known(Machine::Broken { why }) => {
            say(Concern::MachineLost, format!("it is there and does not run: {why}"));
        }
        Observed::Known(Machine::Running(_)) if status.last.as_ref().is_some_and(|last| !last.is_whole()) => {
            let message = format!(
                "it was made anew, and not all of it is done; `backstay rebuild {name} --resume` goes on"
            );
            say(Concern::RecoveryUnfinished, message);
        }
        Observed::Known(Machine::Running(running)) if !running.drift.is_empty() => {
            say(Concern::MachineDrifted, format!("it differs: {}", running.drift.join("; ")));
        }
        Observed::Known(Machine::Running(_)) => {}
    }
}

fn of_recovery(name: &RecoveryName, recovery: &RecoveryStatus, found: &mut Vec<Condition>) {
    let mut say = |concern, message| found.push(condition(concern, format!("recovery.{name}"), message));
    if let Some(last) = recovery.last.as_ref().filter(|last| !last.is_whole()) {
        let message = format!(
            "the one of {:.0} was cut off after {} of {} parts; `backstay rebuild --recovery {name} --resume` goes on",
            last.began, last.done, last.parts
        );
        say(Concern::RecoveryUnfinished, message);
    }
    if let Some((took, allowed)) = recovery.too_slow() {
        let (took, allowed) = (duration(took), duration(allowed));
        say(Concern::SlowRecovery, format!("the last one took {took}; its objective allows {allowed}"));
    }
    if let (Some(estimate), Some(allowed)) = (&recovery.estimate, recovery.rto_seconds) {
        at_risk("it", estimate, allowed, &mut say);
    }
}

fn length(seconds: u64) -> String {
    duration(Duration::from_secs(seconds))
}

fn condition(concern: Concern, subject: String, message: String) -> Condition {
    Condition { concern, subject, message }
}

fn revisions(status: &Status, found: &mut Vec<Condition>) {
    if let Some(silent) = &status.revisions.contact.silent {
        let message = format!(
            "no newer revision can be seen since {:.0}: {}; what was fetched before is in force",
            silent.since, silent.reason
        );
        found.push(condition(Concern::InfraUnreachable, "infra".to_owned(), message));
    }
    if let Some(why) = &status.revisions.unpublished {
        let message = format!("the runbooks on their branch are not those of now: {why}");
        found.push(condition(Concern::RunbooksUnpublished, "runbooks".to_owned(), message));
    }
    if let Some(why) = &status.revisions.refused {
        let concern = match status.revisions.hold {
            Some(Hold::Untrusted) => Concern::UntrustedRevision,
            Some(Hold::Rewritten) => Concern::RewrittenBranch,
            Some(Hold::Bad | Hold::Unreadable) | None => Concern::BadRevision,
        };
        let short = |id: &'_ str| id.get(..10).unwrap_or(id).to_owned();
        let message = match &status.revisions.in_force {
            Some(last) if status.revisions.newest.as_ref() == Some(last) => {
                format!("{why}; revision {} stays in force, and is not trusted any more", short(last))
            }
            Some(last) => format!("{why}; revision {} stays in force", short(last)),
            None => format!("{why}; nothing is in force"),
        };
        found.push(condition(concern, "infra".to_owned(), message));
    }
}

fn stores(status: &Status, found: &mut Vec<Condition>) {
    for (name, store) in &status.stores {
        let subject = format!("store.{name}");
        let mut say = |concern, message| found.push(condition(concern, subject.clone(), message));
        match &store.state {
            StoreState::Refused(why) => say(
                Concern::StoreRefused,
                format!("{why}; look into it, then run `backstay adopt {name} --reason WHY`"),
            ),
            // That it cannot run here is said once.
            StoreState::Unknown(_) if status.cannot_run.iter().any(|it| it.resource == subject) => {}
            StoreState::Unknown(why) => {
                let why = why.strip_prefix(&format!("store {name} ")).unwrap_or(why);
                say(Concern::StoreUnknown, format!("it {why}"));
            }
            StoreState::Ready | StoreState::Empty => {}
        }
        if let Some(ahead) = store.clock_ahead_seconds.filter(|s| s.unsigned_abs() > CLOCK_TOLERANCE_SECONDS)
        {
            let (apart, side) = (length(ahead.unsigned_abs()), if ahead > 0 { "ahead of" } else { "behind" });
            say(
                Concern::ClockApart,
                format!("its clock is {apart} {side} ours; nothing is deleted until both are set right"),
            );
        }
        if let Some(share) = store.share().filter(|share| *share >= NEARLY_FULL) {
            say(Concern::NearlyFull, format!("{:.0} % of its capacity is used", share * 100.0));
        }
        if let Some(cost) = store.cost.filter(|cost| cost.is_high()) {
            say(Concern::NearBudget, format!("it costs {:.2} a month, of {:.2}", cost.month, cost.limit));
        }
    }
}

/// What fights back, and what nothing puts back by itself. Of damage and of refused stores other conditions tell.
fn drift(status: &Status, found: &mut Vec<Condition>) {
    for fight in status.drift.heals.iter().filter(|heals| heals.is_fight) {
        let message = format!(
            "{}, last at {:.0}: something undoes it ({}); find out what, or switch its self-heal off",
            fight.told,
            fight.last,
            fight.kind.as_str()
        );
        found.push(condition(Concern::Fought, fight.subject.clone(), message));
    }
    for drifted in status.drift.drifts.iter().filter(|drifted| !drifted.is_told_otherwise()) {
        let message = match &drifted.healing {
            Healing::Next { .. } | Healing::Later { .. } => continue,
            Healing::Off { resource } => format!(
                "{}; self-heal of {resource} is off: `backstay apply --heal {resource}` heals it once",
                drifted.drift.found
            ),
            Healing::None { remedy } => format!("{}; {remedy}", drifted.drift.found),
        };
        found.push(condition(Concern::Drifted, drifted.drift.subject.clone(), message));
    }
}

fn of_backup(name: &BackupName, backup: &BackupStatus, found: &mut Vec<Condition>) {
    let mut say = |concern, message| found.push(condition(concern, format!("backup.{name}"), message));
    if backup.declared == Declared::Orphaned {
        let message = match &backup.stored_as {
            None => {
                format!("nothing declares it; its artifacts are kept until an [orphan.{name}] lets them go")
            }
            Some(folder) => format!(
                "[moved.{name}] has given its folder to {folder}; what was stored as {folder} before that was \
                 declared is kept under this name, and can be restored by it"
            ),
        };
        say(Concern::Orphaned, message);
    }
    let unknown = backup.stores.values().any(|store| store.unknown.is_some());
    let wanted = backup.declared == Declared::Declared && backup.cannot_run.is_none();
    if wanted && backup.newest.is_none() && !unknown {
        say(Concern::NeverSucceeded, "it has no restore point".to_owned());
    }
    if let (Some(objective), Some(age)) = (&backup.objective, backup.age_seconds)
        && objective.state == ObjectiveState::Breached
    {
        let age = length(age.unsigned_abs());
        let allowed = length(objective.seconds);
        let message = format!("its newest restore point is {age} old; its objective allows {allowed}");
        say(Concern::ObjectiveBreached, message);
    }
    let can_run = backup.cannot_run.is_none() && backup.newest.is_some();
    for due in backup.schedules.iter().filter(|due| can_run && due.state == SlotState::Due) {
        let slot = due.slot.map(|slot| format!(" of {slot:.0}")).unwrap_or_default();
        say(Concern::Overdue, format!("its slot{slot} has no {} yet", due.kind));
    }
    if let Some(message) = backup.kept_log.as_ref().and_then(log_at_risk) {
        say(Concern::LogAtRisk, message);
    }
    for (store, stored) in &backup.stores {
        let faults = [(stored.damaged.len(), "damaged"), (stored.unreadable.len(), "unreadable")];
        let faults: Vec<String> = faults
            .into_iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| count(number, &format!("{what} artifact"), &format!("{what} artifacts")))
            .collect();
        if !faults.is_empty() {
            let message = format!(
                "{store} holds {}; `backstay verify {name} --repair` mends what is whole elsewhere",
                faults.join(" and ")
            );
            say(Concern::Damaged, message);
        }
        if let Some((first, why)) = stored.out_of_reach.first_key_value() {
            let what = match stored.out_of_reach.len() {
                1 => format!("{first} in {store}"),
                more => format!("{first} and {} in {store}", count(more - 1, "more", "more")),
            };
            say(Concern::ProviderUnknown, format!("nobody can tell from here how {what} is: {why}"));
        }
        if stored.missing > 0 {
            say(Concern::CopiesMissing, format!("{store} lacks {}", count(stored.missing, "copy", "copies")));
        }
    }
}

/// Whether a provider keeps what is declared. Of a backup that can't run here another condition tells.
fn of_provider(name: &BackupName, backup: &BackupStatus, found: &mut Vec<Condition>) {
    let Some(provider) = backup.provider.as_ref().filter(|_| backup.cannot_run.is_none()) else { return };
    let mut say = |concern, message| found.push(condition(concern, format!("backup.{name}"), message));
    match (&provider.settings, &provider.lacking) {
        (Observed::Unknown(why), _) => {
            say(Concern::ProviderUnknown, format!("what its provider keeps can't be seen: {why}"));
        }
        (Observed::Known(settings), Some(lacking)) => {
            say(Concern::ProviderDiffers, format!("declared is {lacking}, and its provider has {settings}"));
        }
        (Observed::Known(_), None) => {}
    }
}

/// How long a reader may rest before that is worth saying, where no objective is shorter.
const READERS_REST: Duration = Duration::from_secs(300);

/// A reader that has not read for too long, or has no room.
fn of_reader(name: &BackupName, backup: &BackupStatus, now: Timestamp, found: &mut Vec<Condition>) {
    let Some(reader) = &backup.log_reader else { return };
    let rpo = backup.objective.as_ref().map(|objective| Duration::from_secs(objective.seconds));
    let patience = rpo.map_or(READERS_REST, |rpo| rpo.min(READERS_REST));
    let rests = now.duration_since(reader.since).unsigned_abs();
    let is_said = match reader.state {
        ReaderState::Up => false,
        ReaderState::Down => rests > patience,
        ReaderState::Full => true,
    };
    if is_said {
        let why = reader.why.as_deref().unwrap_or("nobody knows why");
        let message = format!(
            "its log has not been read as it is written since {:.0}: {why}; what is written since its last slot would go with its server",
            reader.since
        );
        found.push(condition(Concern::LogReaderDown, format!("backup.{name}"), message));
    }
}

/// Why what a server keeps of its log needs somebody, and what is to be done.
fn log_at_risk(kept: &KeptLog) -> Option<String> {
    let KeptLog { slot, bytes, limit, .. } = kept;
    let (bytes, limit) = (ByteSize(*bytes), limit.map(ByteSize).unwrap_or_default());
    Some(match kept.risk()? {
        LogRisk::Lost => format!(
            "its server has dropped log that replication slot {slot} was to keep: the next log begins anew, after a full; \
             capture the log more often, or raise max_slot_wal_keep_size"
        ),
        LogRisk::Leaving => format!(
            "replication slot {slot} keeps {bytes} of log, over the limit of {limit}: the server's next checkpoint drops it; \
             capture the log now, or raise max_slot_wal_keep_size"
        ),
        LogRisk::Unlimited => format!(
            "replication slot {slot} keeps {bytes} of log, and nothing keeps it from filling the server's disk; as a superuser: \
             ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();"
        ),
        LogRisk::HalfUsed => format!(
            "replication slot {slot} keeps {bytes} of log, over half of the {limit} after which the server drops it; see why the \
             log is not captured, or raise max_slot_wal_keep_size"
        ),
    })
}
