//! What a person does by hand for each part of a recovery.

use super::Sources;
use crate::{
    artifact::ArtifactId,
    plan::{
        action::{KeptBy, Renew, Restore, Work},
        by_hand::{
            self, Hand, Line, MadeByHand, Place,
            reach::{self, Folders},
            renewal, switch,
        },
    },
    spec::names::VmName,
};

/// The lines for a part, with the files that they name.
pub(super) fn of(work: &Work, sources: &Sources<'_>, folders: &Folders) -> MadeByHand {
    let spec = sources.spec;
    let hands = match work {
        Work::Provision(vm) => return machine(vm, sources),
        Work::Remove { vm, .. } => vec![Hand::Know(format!("remove machine {vm} with its disks"))],
        Work::Configure(vm) => reach::configure(spec, vm, folders),
        Work::Deploy(ansible) => vec![Hand::Type(reach::playbook(spec, ansible, folders))],
        Work::Run { command, on: None, .. } => vec![Hand::Type(Line::of(command.iter().cloned()))],
        Work::Run { command, on: Some(vm), .. } => vec![Hand::Type(reach::program(vm, command, folders))],
        Work::Wait { until, .. } => reach::wait(spec, until),
        Work::Switch { traffic, to, .. } => return switch::by_hand(spec, traffic, *to, folders),
        Work::Restore { restore, .. } => restored(restore, sources),
        Work::Renew(renew) => renewal::by_hand(spec, renew, reference(renew, sources)),
    };
    MadeByHand { files: Vec::new(), hands }
}

/// The provider's own name of what is restored.
fn reference<'s>(renew: &Renew, sources: &Sources<'s>) -> Option<&'s str> {
    match &renew.from {
        KeptBy::Artifact(restore) => {
            restore.artifacts.last().and_then(|id| sources.streams.get(id)).map(String::as_str)
        }
        KeptBy::Moment(_) => None,
    }
}

fn machine(vm: &VmName, sources: &Sources<'_>) -> MadeByHand {
    match sources.machines.get(vm) {
        Some(Ok(made)) => made.clone(),
        Some(Err(why)) => untold(vm, why),
        None => untold(vm, "nothing declares it"),
    }
}

fn untold(vm: &VmName, why: &str) -> MadeByHand {
    let hands = vec![Hand::Know(format!("make machine {vm} from its template; how is not known: {why}"))];
    MadeByHand { files: Vec::new(), hands }
}

fn restored(restore: &Restore, sources: &Sources<'_>) -> Vec<Hand> {
    let spec = sources.spec;
    let (Some(backup), Some(store)) = (spec.backups.get(&restore.backup), spec.stores.get(&restore.store))
    else {
        return Vec::new();
    };
    let Some(point) = restore.artifacts.last() else { return Vec::new() };
    let (fleet, folder) = (&spec.fleet.name, spec.moved.folder(&restore.backup));
    let out = format!("out-{folder}");
    let place = Place {
        script: "restore.sh".to_owned(),
        signers: "allowed_signers".to_owned(),
        identity: "identity.txt".to_owned(),
        store: "STORE".to_owned(),
        out: out.clone(),
    };
    let named = |(number, id): (usize, &ArtifactId)| {
        let stream = sources.streams.get(id).map_or("FILE", String::as_str);
        format!("{out}/{:02}-{stream}", number + 1)
    };
    let files: Vec<String> = restore.artifacts.iter().enumerate().map(named).collect();
    let mut hands = by_hand::fetch(&store.place, fleet, &folder, "STORE");
    hands.push(Hand::Type(by_hand::bring(&place, fleet, &folder, *point)));
    if !restore.logs.is_empty() {
        hands.push(Hand::Know(format!(
            "this brings back the data of {point}; its {} logs are brought out by the same command, and replayed as \
             docs/any-second.md says",
            restore.logs.len()
        )));
    }
    hands.extend(by_hand::load(&backup.source, &files, &format!("{out}-restored")));
    hands
}
