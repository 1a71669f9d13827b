//! What steps that are under way have for themselves: what may begin, or be planned, beside them.

use std::collections::BTreeMap;

use crate::{
    artifact::Kind,
    plan::{Action, action::SandboxKind},
    spec::names::{BackupName, DrillName, StoreName},
};

/// What some actions claim. Others stand beside them unless they repeat or contradict one of them.
#[derive(Debug, Default)]
pub struct Claims<'a>(BTreeMap<Option<&'a BackupName>, Vec<&'a Action>>);

impl<'a> FromIterator<&'a Action> for Claims<'a> {
    fn from_iter<T: IntoIterator<Item = &'a Action>>(actions: T) -> Self {
        let mut claims: BTreeMap<Option<&'a BackupName>, Vec<&'a Action>> = BTreeMap::new();
        for action in actions {
            for key in keys(action) {
                claims.entry(key).or_default().push(action);
            }
        }
        Self(claims)
    }
}

impl Claims<'_> {
    /// Whether `action` neither repeats nor contradicts what is claimed.
    pub fn allow(&self, action: &Action) -> bool {
        let mut claimed = keys(action).into_iter().filter_map(|key| self.0.get(&key)).flatten();
        claimed.all(|other| *other != action && agree(other, action))
    }

    /// Whether `action` is among the claimed ones.
    pub fn contain(&self, action: &Action) -> bool {
        self.0.get(&action.backup()).is_some_and(|claimed| claimed.contains(&action))
    }
}

/// What others that could contradict an action are found by: its backups, and `None` where it has no single one.
fn keys(action: &Action) -> Vec<Option<&BackupName>> {
    match action {
        Action::Rehearse(rehearse) => {
            let backups = rehearse.restores().map(|restore| Some(&restore.backup));
            backups.chain([None]).collect()
        }
        // A drill may have been of another backup before.
        _ if copies_of(action).is_some() => vec![action.backup(), None],
        _ => vec![action.backup()],
    }
}

/// What a step does to a backup in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// It reads what is committed.
    Reads,
    /// It commits something new.
    Adds,
    /// It replaces, deletes, or decides what is garbage.
    Changes,
}

impl Deed {
    /// What is read goes well with what is added; otherwise only readers go together.
    fn agrees_with(self, other: Deed) -> bool {
        use Deed::{Adds, Reads};
        matches!((self, other), (Reads, Reads | Adds) | (Adds, Reads))
    }
}

/// Whether two actions on one backup may be under way beside each other: of a backup one capture of its data and one of
/// its log at a time, and in each of its stores one that changes it, or one that adds to it beside those that read.
pub(super) fn agree(one: &Action, other: &Action) -> bool {
    if let (Action::Capture(one), Action::Capture(other)) = (one, other) {
        // Logs share nothing with what else is captured, and must not wait for a long full.
        return one.backup != other.backup || (one.kind == Kind::Log) != (other.kind == Kind::Log);
    }
    if let (Action::Recover(one), Action::Recover(other)) = (one, other)
        && let (Some(one), Some(other)) = (one.work.made(), other.work.made())
    {
        return one != other;
    }
    if let (Some(one), Some(other)) = (stand_ins_of(one), stand_ins_of(other)) {
        return one != other;
    }
    if let (Some(one), Some(other)) = (copies_of(one), copies_of(other)) {
        return one != other;
    }
    if let (Action::Protect(one), Action::Protect(other)) = (one, other) {
        return one.backup != other.backup;
    }
    deeds(one).iter().all(|(backup, store, deed)| {
        let theirs = deeds(other);
        let mut same = theirs.iter().filter(|(of, place, _)| of == backup && place == store);
        same.all(|(_, _, second)| deed.agrees_with(*second))
    })
}

/// The drill whose machines an action makes or removes: nothing else does so meanwhile.
fn stand_ins_of(action: &Action) -> Option<&DrillName> {
    match action {
        Action::Rehearse(rehearse) => Some(&rehearse.drill),
        Action::ClearAway { drill, .. } => Some(drill),
        _ => None,
    }
}

/// The drill whose copy an action has a provider make or delete: all times of a drill give it one name.
fn copies_of(action: &Action) -> Option<&DrillName> {
    match action {
        Action::Drill(drill) if drill.sandbox == SandboxKind::Provider => Some(&drill.drill),
        Action::DeleteDrillCopy { drill, .. } => Some(drill),
        _ => None,
    }
}

/// The stores that an action uses.
pub(super) fn stores(action: &Action) -> impl Iterator<Item = &StoreName> {
    deeds(action).into_iter().map(|(_, store, _)| store)
}

/// What an action does to which backup in which store.
fn deeds(action: &Action) -> Vec<(Option<&BackupName>, &StoreName, Deed)> {
    if let Action::Rehearse(rehearse) = action {
        return rehearse.restores().map(|it| (Some(&it.backup), &it.store, Deed::Reads)).collect();
    }
    let (first, second) = match action {
        Action::Arm(_)
        | Action::Disarm(_)
        | Action::Push { .. }
        | Action::Protect(_)
        | Action::Rewind { .. }
        | Action::Rehearse(_)
        | Action::DeleteDrillCopy { .. }
        | Action::ClearAway { .. }
        | Action::ClearPreviews { .. } => (None, None),
        Action::Capture(capture) => (Some((&capture.store, Deed::Adds)), None),
        Action::Copy { from, to, .. } => (Some((from, Deed::Reads)), Some((to, Deed::Adds))),
        Action::Repair { store, from, .. } => (Some((from, Deed::Reads)), Some((store, Deed::Changes))),
        Action::Delete { store, .. }
        | Action::RecordUnreferenced { store, .. }
        | Action::Sweep { store, .. }
        | Action::CleanUp { store, .. }
        | Action::Settle { store, .. } => (Some((store, Deed::Changes)), None),
        Action::Verify { store, .. } => (Some((store, Deed::Reads)), None),
        Action::Restore(restore) => (Some((&restore.store, Deed::Reads)), None),
        Action::Drill(drill) => (Some((&drill.store, Deed::Reads)), None),
        Action::Recover(recover) => (recover.work.reads().map(|restore| (&restore.store, Deed::Reads)), None),
    };
    first.into_iter().chain(second).map(|(store, deed)| (action.backup(), store, deed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        artifact::{ArtifactId, Depth, recovered::RecoverySubject},
        plan::action::{Capture, Recover, Work},
        spec::{RecoveryStage, names::VmName},
    };

    fn capture(backup: &str, store: &str, kind: Kind) -> Action {
        let (backup, store) = (backup.parse().unwrap(), store.parse().unwrap());
        Action::Capture(Capture {
            backup,
            kind,
            slot: None,
            manual: None,
            store,
            base: None,
            continues: None,
        })
    }

    fn id() -> ArtifactId {
        ArtifactId::new(jiff::Timestamp::UNIX_EPOCH, 1)
    }

    fn copy(backup: &str, from: &str, to: &str) -> Action {
        let backup = backup.parse().unwrap();
        Action::Copy { backup, artifact: id(), from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn delete(backup: &str, store: &str) -> Action {
        Action::Delete { backup: backup.parse().unwrap(), artifact: id(), store: store.parse().unwrap() }
    }

    fn verify(backup: &str, store: &str) -> Action {
        let (backup, store) = (backup.parse().unwrap(), store.parse().unwrap());
        Action::Verify { backup, artifact: id(), store, depth: Depth::Data }
    }

    #[test]
    fn what_is_under_way_is_neither_repeated_nor_contradicted() {
        let check = |held: &Action, action: &Action, expect: bool| {
            assert_eq!(Claims::from_iter([held]).allow(action), expect, "{action} beside {held}");
            assert_eq!(Claims::from_iter([action]).allow(held), expect, "{held} beside {action}");
        };
        let copying = copy("agama", "vault", "offsite");
        check(&copying, &copying, false);
        check(&copying, &capture("agama", "vault", Kind::Log), true);
        check(&copying, &capture("agama", "offsite", Kind::Log), false);
        check(&copying, &copy("agama", "vault", "third"), true);
        check(&copying, &copy("agama", "third", "offsite"), false);
        check(&copying, &delete("agama", "vault"), false);
        check(&copying, &delete("agama", "offsite"), false);
        check(&copying, &delete("agama", "third"), true);
        check(&copying, &delete("orders", "vault"), true);
        check(&copying, &verify("agama", "vault"), true);
        check(&verify("agama", "vault"), &delete("agama", "vault"), false);
        let capturing = capture("agama", "vault", Kind::Full);
        check(&capturing, &capture("agama", "offsite", Kind::Incremental), false);
        check(&capturing, &capture("agama", "vault", Kind::Log), true);
        check(&capturing, &capture("orders", "vault", Kind::Full), true);
        check(&capturing, &delete("agama", "vault"), false);
        let machine = |name: &str, run: i64, work: fn(VmName) -> Work| {
            Action::Recover(Box::new(Recover {
                subject: RecoverySubject::Vm(name.parse().unwrap()),
                run: jiff::Timestamp::from_second(run).unwrap(),
                parts: 2,
                attempt: jiff::Timestamp::UNIX_EPOCH,
                left: 2,
                terms: Default::default(),
                step: 1,
                digest: String::new(),
                stage: RecoveryStage::Machines,
                work: work(name.parse().unwrap()),
            }))
        };
        let making = machine("web", 1, Work::Provision);
        check(&making, &machine("web", 2, Work::Provision), false);
        check(&making, &machine("web", 1, Work::Configure), false);
        check(&making, &machine("db", 1, Work::Provision), true);
        let left = |drill: &str, backup: &str| Action::DeleteDrillCopy {
            drill: drill.parse().unwrap(),
            backup: backup.parse().unwrap(),
            store: "vault".parse().unwrap(),
            artifact: id(),
        };
        check(&left("trial", "agama"), &left("trial", "orders"), false);
        check(&left("trial", "agama"), &left("other", "agama"), true);
        check(&left("trial", "agama"), &delete("agama", "vault"), true);
        let push = Action::Push { mirror: "ssh://mirror".to_owned() };
        check(&push, &push, false);
        check(&push, &Action::Push { mirror: "ssh://other".to_owned() }, true);
    }
}
