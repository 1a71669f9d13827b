//! Rules for packs without a manifest, and for what else work left that was cut off: what no look has confirmed stays.

use jiff::Timestamp;

use super::{Broken, DAY, Reach, World};
use crate::{
    artifact::{ArtifactId, layout::Holder},
    inventory::{StoredBackup, Work},
    plan::{Action, Plan},
    spec::names::{BackupName, DrillName, StoreName},
};

pub(super) fn broken(plan: &Plan, world: &World<'_>) -> Vec<Broken> {
    let mut broken = Vec::new();
    for step in &plan.steps {
        let (found, backup, store) = match &step.action {
            Action::Sweep { backup, store, captures } => {
                (sweep(world, backup, store, captures), backup, store)
            }
            Action::CleanUp { backup, store, artifact } => {
                (clean_up(world, backup, store, *artifact), backup, store)
            }
            Action::DeleteDrillCopy { drill, backup, store, artifact } => {
                (not_a_copy(world, drill, (backup, store, *artifact)), backup, store)
            }
            Action::Settle { backup, store, artifact } => {
                (not_ours(world, backup, store, *artifact), backup, store)
            }
            _ => continue,
        };
        if let Some((rule, reason)) = found {
            let reach = Reach::Step(step.id);
            broken.push(Broken { backup: backup.clone(), store: Some(store.clone()), rule, reason, reach });
        }
    }
    broken
}

type Fault = Option<(&'static str, String)>;

fn sweep(world: &World<'_>, backup: &BackupName, store: &StoreName, captures: &[ArtifactId]) -> Fault {
    let inventory = match world.store(store) {
        Ok(inventory) => inventory,
        Err(why) => return Some(("unknown", why)),
    };
    let Some(stored) = world.stored(inventory, backup) else {
        return Some(("unknown", format!("nothing of {backup} was found in {store}")));
    };
    if let Some(why) = world.clocks_apart() {
        return Some(("clock", why));
    }
    let now = world.now.min(inventory.clock);
    if let Some((capture, _)) = world.leased(backup, store, stored, now).first() {
        return Some(("leased", format!("capture {capture} is under way")));
    }
    if let Some((reader, _)) = world.read(backup, store, stored, now).first() {
        return Some(("read", format!("{} is under way", Holder::Reader(*reader))));
    }
    captures.iter().find_map(|id| unconfirmed(stored, *id, now))
}

fn unconfirmed(stored: &StoredBackup, id: ArtifactId, now: Timestamp) -> Fault {
    if let Some(fault) = committed(stored, id) {
        return Some(fault);
    }
    if stored.lost.contains_key(&id) {
        return Some(("lost", format!("somebody else deleted the manifest of {id}")));
    }
    if !stored.unreadable.is_empty() {
        return Some(("unreadable", "a manifest that can't be read may name these packs".to_owned()));
    }
    let ripe =
        stored.candidates.get(&id).is_some_and(|since| since.checked_add(DAY).is_ok_and(|end| end <= now));
    if !ripe || !stored.unreferenced.contains_key(&id) {
        return Some((
            "sweep-too-early",
            format!("packs of {id} were not found unreferenced twice, a day apart"),
        ));
    }
    None
}

fn clean_up(world: &World<'_>, backup: &BackupName, store: &StoreName, id: ArtifactId) -> Fault {
    if let Some(fault) = not_ours(world, backup, store, id) {
        return Some(fault);
    }
    match world.store(store) {
        Err(why) => Some(("unknown", why)),
        Ok(inventory) => committed(world.stored(inventory, backup)?, id),
    }
}

/// What a provider made lies in no store, and needs none to be known: only that it was this controller's drill that had it made.
fn not_a_copy(
    world: &World<'_>,
    drill: &DrillName,
    (backup, store, reader): (&BackupName, &StoreName, ArtifactId),
) -> Fault {
    let folder = world.spec.moved.folder(backup);
    let mut left = world.inventory.interrupted.iter().filter(|left| left.is(&folder, store, reader));
    let is_one = left.any(|left| {
        left.work == Work::Reading && left.copy.as_ref().is_some_and(|copy| copy.drill == *drill)
    });
    let why = || format!("{reader} is no drill {drill} of this controller that was cut off");
    (!is_one).then(|| ("not-ours", why()))
}

fn not_ours(world: &World<'_>, backup: &BackupName, store: &StoreName, id: ArtifactId) -> Fault {
    let ours = world.is_interrupted(backup, store, id);
    (!ours).then(|| ("not-ours", format!("{id} is nothing that this controller left behind")))
}

fn committed(stored: &StoredBackup, id: ArtifactId) -> Fault {
    let has_manifest = stored.artifact(id).is_some() || stored.unreadable.contains_key(&id);
    has_manifest.then(|| ("committed", format!("{id} has a manifest")))
}
