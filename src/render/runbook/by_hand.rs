//! What a person does by hand for each part of a recovery.

use super::Sources;
use crate::{
    plan::{
        action::{KeptBy, Renew, Restore, Work},
        by_hand::{
            self, Hand, Line, MadeByHand, Place, Stored,
            reach::{self, Folders},
            renewal,
            replay::{self, Restored},
            switch,
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
        Work::Restore { restore, .. } => return restored(restore, sources, folders),
        Work::Renew(renew) => renewal::by_hand(spec, renew, reference(renew, sources)),
    };
    MadeByHand { files: Vec::new(), hands }
}

/// The provider's own name of what is restored.
fn reference<'s>(renew: &Renew, sources: &Sources<'s>) -> Option<&'s str> {
    match &renew.from {
        KeptBy::Artifact(restore) => {
            let stored = restore.artifacts.last().and_then(|id| sources.stored.get(id));
            stored.map(|stored| stored.stream.as_str())
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

fn restored(restore: &Restore, sources: &Sources<'_>, folders: &Folders) -> MadeByHand {
    let spec = sources.spec;
    let (Some(backup), Some(store)) = (spec.backups.get(&restore.backup), spec.stores.get(&restore.store))
    else {
        return MadeByHand::default();
    };
    let Some(point) = restore.artifacts.last() else { return MadeByHand::default() };
    let (fleet, folder) = (&spec.fleet.name, spec.moved.folder(&restore.backup));
    let out = format!("out-{folder}");
    let place = Place {
        script: "restore.sh".to_owned(),
        signers: "allowed_signers".to_owned(),
        identity: "identity.txt".to_owned(),
        store: "STORE".to_owned(),
        out: out.clone(),
    };
    let mut hands = by_hand::fetch(&store.place, fleet, &folder, "STORE");
    hands.push(Hand::Type(by_hand::bring(&place, fleet, &folder, *point, &restore.logs)));
    let all = restore.artifacts.iter().chain(&restore.logs);
    let stored: Option<Vec<Stored>> = all.map(|id| sources.stored.get(id).cloned()).collect();
    let Some(stored) = stored else {
        let why = "what these artifacts hold could not be read when this was written: see the page of the engine for what loads it";
        hands.push(Hand::Know(why.to_owned()));
        return MadeByHand { files: Vec::new(), hands };
    };
    let mut data = by_hand::brought(&out, stored);
    let logs = data.split_off(restore.artifacts.len());
    let restored = Restored { data: &data, logs: &logs, until: restore.until.as_ref() };
    let places = by_hand::Folders {
        data: format!("{out}-restored"),
        log: format!("{out}-log"),
        prepared: folders.restore(&folder),
        login: format!("login-of-{folder}"),
    };
    let made = replay::restored(&backup.source, &restored, &places);
    hands.extend(made.hands);
    MadeByHand { files: made.files, hands }
}
