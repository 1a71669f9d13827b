//! Rules for the deletion of artifacts, each by its name.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::{
    Broken, DAY, Kept, Reach, World,
    approvals::{self, Deletions},
};
use crate::{
    artifact::{ArtifactId, Kind, layout::Holder},
    inventory::{NativeReference, Observed, Origin, Provided, StoredArtifact, StoredBackup},
    plan::{Action, Approved, Plan, Step, StepId},
    spec::{
        Retention,
        names::{BackupName, StoreName},
        retention::{self, Candidate, Checked, Rules, Selects},
    },
};

/// What a plan deletes of one backup in one store.
struct Case<'a> {
    world: &'a World<'a>,
    plan: &'a Plan,
    backup: &'a BackupName,
    store: &'a StoreName,
    stored: &'a StoredBackup,
    /// What goes, and by which step.
    gone: BTreeMap<ArtifactId, (&'a StoredArtifact, StepId)>,
    /// The earlier of our clock and the store's.
    now: Timestamp,
}

type Rule = fn(&Case<'_>) -> Option<String>;

/// Every rule that holds whatever a person says, by its name in [`crate::plan::Withheld::rule`]. `unknown` is judged
/// first, for nothing else can be judged without it.
const RULES: [(&str, Rule); 16] = [
    ("unreadable", unreadable),
    ("clock", clock),
    ("vanished", vanished),
    ("unknown", other_stores_unknown),
    ("native-unknown", natives_unknown),
    ("held", held),
    ("locked", locked),
    ("leased", leased),
    ("read", read),
    ("in-use", in_use),
    ("newest-good", newest_good),
    ("required", required),
    ("log-base", log_base),
    ("dependents-first", dependents_first),
    ("not-expired", not_expired),
    ("copy-missing", copy_missing),
];

/// What the rules say of every deletion of a plan.
#[derive(Default)]
pub(super) struct Judgement {
    pub(super) broken: Vec<Broken>,
    /// What a person approved although a rule is broken.
    pub(super) approved: Vec<Approved>,
}

pub(super) fn judge(plan: &Plan, world: &World<'_>) -> Judgement {
    let mut deletions: BTreeMap<(&BackupName, &StoreName), Vec<(ArtifactId, StepId)>> = BTreeMap::new();
    for step in &plan.steps {
        if let Action::Delete { backup, artifact, store } = &step.action {
            deletions.entry((backup, store)).or_default().push((*artifact, step.id));
        }
    }
    let mut judgement = Judgement::default();
    for ((backup, store), ids) in deletions {
        match case(plan, world, (backup, store), &ids) {
            Err(why) => judgement.broken.push(Broken {
                backup: backup.clone(),
                store: Some(store.clone()),
                rule: "unknown",
                reason: why,
                reach: Reach::Deletions(None),
            }),
            Ok(case) => judgement.add(&case),
        }
    }
    judgement
}

impl Judgement {
    fn add(&mut self, case: &Case<'_>) {
        let rules = RULES.iter().chain(&[("delete-share", delete_share as Rule)]);
        let mut faults: Vec<(&'static str, String)> =
            rules.filter_map(|(rule, judge)| Some((*rule, judge(case)?))).collect();
        if faults.is_empty() {
            return;
        }
        let artifacts: Vec<ArtifactId> = case.gone.keys().copied().collect();
        let (backup, store, stored) = (case.backup, case.store, case.stored);
        let deletions = Deletions { backup, store, stored, gone: &artifacts };
        let approvable = faults.iter().all(|(rule, _)| approvals::may_approve(rule));
        match deletions.approval(case.world) {
            Ok(approval) if approvable => {
                return self.approved.push(Approved {
                    backup: backup.clone(),
                    store: Some(store.clone()),
                    warrant: approval.warrant.clone(),
                    until: approval.until,
                });
            }
            Err(Some(why)) => {
                for (_, reason) in faults.iter_mut().filter(|(rule, _)| approvals::may_approve(rule)) {
                    reason.push_str(&format!("; an approval does not count: {why}"));
                }
            }
            Ok(_) | Err(None) => {}
        }
        let plan = deletions.hash(case.world);
        self.broken.extend(faults.into_iter().map(|(rule, reason)| Broken {
            backup: backup.clone(),
            store: Some(store.clone()),
            rule,
            reason,
            reach: Reach::Deletions(Some(Kept { plan, approvable, artifacts: artifacts.clone() })),
        }));
    }
}

/// Gathers what a case needs; fails where the inventory does not show it.
fn case<'a>(
    plan: &'a Plan,
    world: &'a World<'_>,
    (backup, store): (&'a BackupName, &'a StoreName),
    ids: &[(ArtifactId, StepId)],
) -> Result<Case<'a>, String> {
    let inventory = world.store(store)?;
    let stored =
        world.stored(inventory, backup).ok_or_else(|| format!("nothing of {backup} was found in {store}"))?;
    let by_id: BTreeMap<ArtifactId, &StoredArtifact> = stored.artifacts.iter().map(|a| (a.id, a)).collect();
    let mut gone = BTreeMap::new();
    for (id, step) in ids {
        let artifact = by_id.get(id).ok_or_else(|| format!("{id} was not found in {store}"))?;
        gone.insert(*id, (*artifact, *step));
    }
    Ok(Case { world, plan, backup, store, stored, gone, now: world.now.min(inventory.clock) })
}

impl<'a> Case<'a> {
    fn going(&self) -> impl Iterator<Item = &'a StoredArtifact> + '_ {
        self.gone.values().map(|(artifact, _)| *artifact)
    }

    fn staying(&self) -> impl Iterator<Item = &'a StoredArtifact> + '_ {
        self.stored.artifacts.iter().filter(|a| !self.gone.contains_key(&a.id))
    }

    /// Whether a good one repairs and replaces it. Whether that one may go is a question of its own.
    fn is_replaced(&self, artifact: &StoredArtifact) -> bool {
        self.stored.artifacts.iter().any(|other| other.is_good() && other.supersedes == Some(artifact.id))
    }

    /// The stores that the declaration gives the backup, if it is declared.
    fn declared_stores(&self) -> Option<&'a [StoreName]> {
        let spec = self.world.spec;
        match self.backup.is_infra() {
            true => spec.infra.as_ref().map(|infra| infra.stores.as_slice()),
            false => spec.backups.get(self.backup).map(|backup| backup.stores.as_slice()),
        }
    }

    /// What the declaration says of a store's retention for the backup.
    fn retention(&self, store: &StoreName) -> Option<Rules<'a>> {
        let spec = self.world.spec;
        let (keep, selects) = match self.backup.is_infra() {
            true => {
                let infra = spec.infra.as_ref()?;
                (infra.keep_in.get(store).unwrap_or(&infra.keep), Selects::EveryKind)
            }
            false => (spec.backups.get(self.backup)?.retention(store), Selects::Fulls),
        };
        Some(Rules { keep, selects, zone: &spec.fleet.time_zone })
    }
}

/// Nothing goes while a manifest of the backup can't be read: it may be the one that needs it.
fn unreadable(case: &Case<'_>) -> Option<String> {
    let (id, why) = case.stored.unreadable.iter().next()?;
    Some(format!("manifest {id} can't be trusted: {why}"))
}

/// Nothing goes while clocks differ: ages can't be told.
fn clock(case: &Case<'_>) -> Option<String> {
    case.world.clocks_apart()
}

/// Nothing goes because its declaration vanished.
fn vanished(case: &Case<'_>) -> Option<String> {
    match case.declared_stores() {
        Some(stores) if stores.contains(case.store) => None,
        Some(_) => Some(format!("{} is no longer declared for {}", case.store, case.backup)),
        None if case.world.spec.orphans.contains_key(case.backup) => None,
        None => Some(format!(
            "{0} is no longer declared; its artifacts go only after an [orphan.{0}] with `delete_after`",
            case.backup
        )),
    }
}

/// Nothing goes while another store that should hold a copy can't be seen.
fn other_stores_unknown(case: &Case<'_>) -> Option<String> {
    let others = case.declared_stores()?.iter().filter(|store| *store != case.store);
    others.filter_map(|store| case.world.store(store).err()).next()
}

/// Nothing goes while nobody knows what the provider still has of the backup; nor what the provider was not asked for, or can't be
/// asked for from where the declaration is.
fn natives_unknown(case: &Case<'_>) -> Option<String> {
    let Some(backup) = case.world.spec.backups.get(case.backup) else {
        let native = case.going().find(|artifact| artifact.native.is_some())?;
        return Some(format!("{} is its provider's, and nothing declares how that is reached", native.id));
    };
    let source = &backup.source;
    let provided = case.world.inventory.provided(case.backup);
    let why = |native: &NativeReference| match provided {
        Observed::Known(Provided { natives: Some(_), account, .. }) => {
            native.out_of_reach_of(source, account.as_deref())
        }
        _ => native.out_of_reach(source, None),
    };
    let natives = case.stored.artifacts.iter().filter_map(|a| Some((a.id, a.native.as_deref()?)));
    let (away, here): (Vec<_>, Vec<_>) =
        natives.map(|(id, native)| (id, native, why(native))).partition(|(.., why)| why.is_some());
    if let Some((id, _, why)) = away.into_iter().find(|(id, ..)| case.gone.contains_key(id)) {
        return Some(format!("{id} can't be asked for from here: {}", why.unwrap_or_default()));
    }
    if here.is_empty() {
        return None;
    }
    match provided {
        Observed::Unknown(why) => Some(format!("what its provider still has of it is unknown: {why}")),
        Observed::Known(Provided { natives: None, .. }) => {
            Some("what its provider still has of it was not asked".to_owned())
        }
        Observed::Known(Provided { natives: Some(natives), .. }) => {
            let mut going = here.into_iter().filter(|(id, ..)| case.gone.contains_key(id));
            let (id, ..) = going.find(|(_, native, _)| !natives.contains_key(&native.reference))?;
            Some(format!("its provider was not asked for {id}"))
        }
    }
}

/// What a person holds stays.
fn held(case: &Case<'_>) -> Option<String> {
    case.going().find_map(|a| Some(format!("{} is held: {}", a.id, a.held.as_deref()?)))
}

/// What is locked stays.
fn locked(case: &Case<'_>) -> Option<String> {
    let lock = case.world.spec.stores.get(case.store)?.immutable?;
    let ends = |a: &StoredArtifact| a.id.time().checked_add(lock).unwrap_or(Timestamp::MAX);
    let locked = case.going().find(|a| ends(a) > case.now)?;
    Some(format!("{} is locked until {:.0}", locked.id, ends(locked)))
}

/// What a capture under way may reuse stays.
fn leased(case: &Case<'_>) -> Option<String> {
    let leases = case.world.leased(case.backup, case.store, case.stored, case.now);
    leases.iter().find_map(|(capture, lease)| {
        let going = case.going().find(|a| lease.concerns(a.epoch))?;
        Some(format!("{} belongs to the epoch of capture {capture}, which is under way", going.id))
    })
}

/// What a restore or check under way reads stays.
fn read(case: &Case<'_>) -> Option<String> {
    let readings = case.world.read(case.backup, case.store, case.stored, case.now);
    readings.iter().find_map(|(reader, reading)| {
        let going = case.going().find(|a| reading.concerns(a.id))?;
        Some(format!("{} is being read by {}", going.id, Holder::Reader(*reader)))
    })
}

/// What another step of the plan reads or builds on stays.
fn in_use(case: &Case<'_>) -> Option<String> {
    let reads = |step: &Step, a: &StoredArtifact| match &step.action {
        Action::Capture(c) => {
            let epoch = || case.stored.artifact(c.base?).map(|base| base.epoch);
            c.backup == *case.backup && c.store == *case.store && c.base.is_some() && epoch() == Some(a.epoch)
        }
        Action::Copy { backup, artifact, from, .. } => {
            backup == case.backup && from == case.store && *artifact == a.id
        }
        Action::Repair { backup, artifact, store, from } => {
            backup == case.backup && (store == case.store || from == case.store) && *artifact == a.id
        }
        Action::Restore(r) => {
            r.backup == *case.backup && r.store == *case.store && r.artifacts.contains(&a.id)
        }
        Action::Recover(recover) => recover.work.reads().is_some_and(|r| {
            let mut read = r.artifacts.iter().chain(&r.logs);
            r.backup == *case.backup && r.store == *case.store && read.any(|id| *id == a.id)
        }),
        Action::Rehearse(rehearse) => rehearse.restores().any(|r| {
            let mut read = r.artifacts.iter().chain(&r.logs);
            r.backup == *case.backup && r.store == *case.store && read.any(|id| *id == a.id)
        }),
        Action::Drill(d) => {
            let mut read = d.artifacts.iter().chain(&d.logs);
            d.backup == *case.backup && d.store == *case.store && read.any(|id| *id == a.id)
        }
        _ => false,
    };
    let steps = case.plan.steps.iter().filter(|step| !matches!(step.action, Action::Delete { .. }));
    steps.into_iter().find_map(|step| {
        let going = case.going().find(|a| reads(step, a))?;
        Some(format!("step {} of the same plan needs {}", step.id.0, going.id))
    })
}

/// The newest good artifact of a backup that can be restored stays, whatever else the plan says. One whose declaration is gone, and whose
/// `[orphan]` says so, goes whole.
fn newest_good(case: &Case<'_>) -> Option<String> {
    if case.declared_stores().is_none() && case.world.spec.orphans.contains_key(case.backup) {
        return None;
    }
    let Some(newest) = case.stored.newest_whole(case.now) else {
        return Some(
            "no artifact here is known to be good: what is damaged may be all that there is".to_owned(),
        );
    };
    if case.gone.contains_key(&newest.id) {
        return Some(format!("{} is the newest good one", newest.id));
    }
    // Found whole again or repaired, it would be the newest.
    let newer = |a: &&StoredArtifact| {
        let could_be = a.kind != Kind::Log && !case.stored.is_whole(a) || !a.is_good();
        (a.newest, a.id) > (newest.newest, newest.id) && could_be
    };
    let lost = case.going().find(|a| newer(a) && !case.is_replaced(a))?;
    Some(format!("{} is damaged or lacks what it requires, and nothing that is good is as new", lost.id))
}

/// What an artifact that stays requires stays with it, and what repairs that.
fn required(case: &Case<'_>) -> Option<String> {
    let going: BTreeSet<ArtifactId> = case.going().flat_map(|a| [a.id, a.content()]).collect();
    case.staying().find_map(|a| {
        let required = a.requires.iter().find(|id| going.contains(id))?;
        Some(format!("{} requires {required}", a.id))
    })
}

/// The newest data that a log which stays goes on from stays with it: a log alone brings nothing back.
fn log_base(case: &Case<'_>) -> Option<String> {
    let is_data = |a: &&StoredArtifact| a.kind != Kind::Log && case.stored.is_whole(a);
    let logs = case.staying().filter(|a| a.kind == Kind::Log && a.is_good());
    logs.filter_map(|log| Some((log, log.from()?.time))).find_map(|(log, from)| {
        let order = |a: &&StoredArtifact| (a.newest, a.id);
        let base = case.going().filter(is_data).filter(|a| a.newest <= from).max_by_key(order)?;
        let is_better = |a: &StoredArtifact| a.newest <= from && order(&a) > order(&base);
        let other = case.staying().filter(is_data).any(is_better);
        (!other).then(|| format!("the log {} goes on from {}", log.id, base.id))
    })
}

/// What requires an artifact goes before it, so that a crash in between leaves no ruin.
fn dependents_first(case: &Case<'_>) -> Option<String> {
    let after: BTreeMap<StepId, &BTreeSet<StepId>> =
        case.plan.steps.iter().map(|s| (s.id, &s.after)).collect();
    let waits_for = |step: StepId, wanted: StepId| {
        let (mut open, mut seen) = (vec![step], BTreeSet::new());
        while let Some(next) = open.pop() {
            if next == wanted {
                return true;
            }
            if seen.insert(next) {
                open.extend(after.get(&next).into_iter().flat_map(|steps| steps.iter().copied()));
            }
        }
        false
    };
    case.gone.values().find_map(|(dependent, own)| {
        let early = dependent
            .requires
            .iter()
            .find(|id| case.gone.get(id).is_some_and(|(_, step)| !waits_for(*step, *own)))?;
        Some(format!("{early} would go before {}, which requires it", dependent.id))
    })
}

/// What its own rule covers stays; so does what no rule covers.
fn not_expired(case: &Case<'_>) -> Option<String> {
    let young = |a: &StoredArtifact, age| a.newest.checked_add(age).map_or(true, |end| end > case.now);
    if case.declared_stores().is_none() {
        let orphan = case.world.spec.orphans.get(case.backup)?;
        let early = case.going().find(|a| young(a, orphan.delete_after))?;
        return Some(format!("{} is younger than `delete_after`", early.id));
    }
    let rules = case.retention(case.store)?;
    case.going().filter(|a| !case.is_replaced(a)).find_map(|a| match age_of_rule(rules.keep, a) {
        Some(age) if young(a, age) => Some(format!("{} is younger than the rule of its kind", a.id)),
        None if !calendar_covers(rules, a) => Some(format!("no rule lets {} go", a.id)),
        _ => None,
    })
}

fn age_of_rule(keep: &Retention, artifact: &StoredArtifact) -> Option<std::time::Duration> {
    if artifact.origin == Origin::Manual {
        return keep.manual;
    }
    match artifact.kind {
        Kind::Full => keep.full,
        Kind::Incremental => keep.incremental,
        Kind::Differential => keep.differential,
        Kind::Log => keep.log,
    }
}

fn calendar_covers(rules: Rules<'_>, artifact: &StoredArtifact) -> bool {
    let Retention { hourly, daily, weekly, monthly, yearly, last, .. } = rules.keep;
    let declared = [hourly, daily, weekly, monthly, yearly, last].into_iter().any(|rule| rule.is_some());
    let kind = artifact.kind == Kind::Full || rules.selects == Selects::EveryKind;
    declared && kind && artifact.origin == Origin::Scheduled
}

/// What another declared store should hold and has no good copy of stays. The infra repo's bundles have no copies:
/// each store gets its own.
fn copy_missing(case: &Case<'_>) -> Option<String> {
    let others = case.declared_stores()?.iter().filter(|store| *store != case.store);
    if case.backup.is_infra() {
        return None;
    }
    others.into_iter().find_map(|other| {
        let inventory = case.world.store(other).ok()?;
        let there = case.world.stored(inventory, case.backup).unwrap_or(StoredBackup::NOTHING);
        let lacked: Vec<&StoredArtifact> = everywhere(case)
            .filter(|a| there.good_content(a.id).is_none() && there.good_content(a.content()).is_none())
            .collect();
        if !case.going().any(|a| lacked.iter().any(|l| l.id == a.id)) {
            return None;
        }
        let lacks = |id: ArtifactId| lacked.iter().any(|l| l.id == id);
        let known = there.artifacts.iter().filter(|a| a.unknown().is_none());
        let present = known.map(Candidate::of).filter(|c| !lacks(c.id));
        let hoped = lacked.iter().map(|a| Candidate {
            checked: Checked::Passed,
            held: None,
            supersedes: None,
            ..Candidate::of(a)
        });
        let all: Vec<Candidate<'_>> = present.chain(hoped).collect();
        let verdicts = retention::decide(case.retention(other)?, &all, case.world.now.min(inventory.clock));
        let wanted = case
            .going()
            .find(|a| a.is_good() && lacks(a.id) && verdicts.get(&a.id).is_some_and(|v| v.keeps()))?;
        Some(format!("{other} should hold {} and has no good copy", wanted.id))
    })
}

/// Good artifacts of the backup in any store that can be believed, each once.
fn everywhere<'a>(case: &Case<'a>) -> impl Iterator<Item = &'a StoredArtifact> {
    let world = case.world;
    let stores = world.inventory.stores.keys().filter_map(|name| world.store(name).ok());
    let stored = stores.filter_map(|store| case.world.stored(store, case.backup));
    let good = stored.flat_map(|stored| stored.artifacts.iter()).filter(|a| a.is_good());
    good.map(|a| (a.id, a)).collect::<BTreeMap<_, _>>().into_values()
}

/// Only a share goes within a day, counted with what went already; one always may.
fn delete_share(case: &Case<'_>) -> Option<String> {
    let recent =
        case.stored.deletions.iter().filter(|at| at.checked_add(DAY).map_or(true, |end| end > case.now));
    let (recent, share) = (recent.count(), case.world.limits.delete_share);
    let all = case.stored.artifacts.len() + recent;
    let allowed = ((share.clamp(0.0, 1.0) * all as f64) as usize).max(1);
    let wanted = recent + case.gone.len();
    (wanted > allowed).then(|| {
        format!(
            "{wanted} of {all} artifacts would go within a day, and {allowed} may by `allow.delete_share` of the controller's \
             configuration"
        )
    })
}
