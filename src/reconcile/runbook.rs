//! Runbooks of what is declared, as things stand.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, PassError, Survey, Terms, desired::Desired, lock};
use crate::{
    apply::drill,
    artifact::{
        ArtifactId,
        recovered::{self, RecoverySubject},
    },
    committed,
    inventory::{Inventory, Machine, Observed},
    plan::{
        Action, Plan,
        by_hand::{MadeByHand, Stored, reach::Folders},
        recovery::{self, Begin, Request},
    },
    provisioners::Provisioner,
    render::runbook::{Runbook, Sources},
    spec::names::{RecoveryName, VmName},
    templates::Templates,
};

/// The most text of all files of machines in all runbooks, bytes: each is bounded by itself, and every recovery has its own.
const MOST_FILES: usize = 64 << 20;

impl Controller {
    /// The runbooks of these recoveries, or of all where none is named, with the templates of the revision in force.
    pub async fn runbooks(
        &self,
        names: &[RecoveryName],
        terms: &Terms,
    ) -> Result<(Vec<Runbook>, Result<Templates, String>), PassError> {
        let survey = self.survey(terms).await?;
        let desired = self.desired().await?;
        Ok((self.runbooks_of(&survey, &desired, names).await, self.templates(&desired).await))
    }

    /// The runbooks of these recoveries, or of all where none is named, as a survey shows things.
    pub(super) async fn runbooks_of(
        &self,
        survey: &Survey,
        desired: &Desired,
        names: &[RecoveryName],
    ) -> Vec<Runbook> {
        if survey.spec.recoveries.is_empty() {
            return Vec::new();
        }
        let provisioners = self.machines(desired).await;
        let wanted =
            survey.spec.recoveries.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        let (mut runbooks, mut told, mut room) = (Vec::new(), Vec::new(), MOST_FILES);
        for (name, declared) in wanted {
            let plan = when_all_is_lost(survey, name);
            let stored = match &plan {
                Ok(plan) => self.stored(survey, plan).await,
                Err(_) => BTreeMap::new(),
            };
            told.extend(stored.keys().copied());
            let machines = by_hand(&provisioners, &Folders::of(name), &mut room).await;
            let history = survey.inventory.recovery_history(&RecoverySubject::Recovery(name.clone()));
            let sources = Sources {
                spec: &survey.spec,
                revision: &survey.limits.revision,
                status: &survey.pass.status,
                plan: plan.as_ref().map_err(Clone::clone),
                machines: &machines,
                stored: &stored,
                measured: history.last_whole().map(|(_, run)| run),
            };
            runbooks.push(Runbook::of(name, declared, &sources));
        }
        let told: BTreeSet<ArtifactId> = told.into_iter().collect();
        lock(&self.stored).retain(|id, _| told.contains(id));
        runbooks
    }

    /// What is stored as the artifacts that a plan restores, as far as that can be read.
    async fn stored(&self, survey: &Survey, plan: &Plan) -> BTreeMap<ArtifactId, Stored> {
        let mut stored = BTreeMap::new();
        let looks = self.looks(&survey.spec).await;
        for step in &plan.steps {
            let Action::Recover(recover) = &step.action else { continue };
            let Some(restore) = recover.work.reads() else { continue };
            let Some(Ok(look)) = looks.get(&restore.store) else { continue };
            let folder = look.folder(&survey.spec.moved.folder(&restore.backup));
            for id in restore.artifacts.iter().chain(&restore.logs) {
                let known = lock(&self.stored).get(id).cloned();
                let known = match known {
                    Some(known) => known,
                    None => match committed::read(&folder, *id, &self.keys).await {
                        Ok(read) => drill::stored(&read.manifest, &self.keys),
                        Err(_) => continue,
                    },
                };
                lock(&self.stored).insert(*id, known.clone());
                stored.insert(*id, known);
            }
        }
        stored
    }
}

/// How each machine is made by hand, as far as there is `room` for the files that it needs.
async fn by_hand(
    provisioners: &BTreeMap<VmName, Result<Box<dyn Provisioner>, String>>,
    folders: &Folders,
    room: &mut usize,
) -> BTreeMap<VmName, Result<MadeByHand, String>> {
    let mut machines = BTreeMap::new();
    for (name, provisioner) in provisioners {
        let made = match provisioner {
            Ok(_) if *room == 0 => Err(NO_ROOM.to_owned()),
            Ok(made) => made.by_hand(&folders.machine(name)).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        let made = made.and_then(|made| within(room, made));
        machines.insert(name.clone(), made);
    }
    machines
}

const NO_ROOM: &str = "the files of machines in all runbooks together are longer than 64 MiB; have the templates of machines write less";

/// The same, where there is room for its files, which is taken then; where there is not, nothing else has room afterwards either.
fn within(room: &mut usize, made: MadeByHand) -> Result<MadeByHand, String> {
    let length: usize = made.files.iter().map(|file| file.content.len()).sum();
    let left = room.checked_sub(length);
    *room = left.unwrap_or(0);
    left.map(|_| made).ok_or_else(|| NO_ROOM.to_owned())
}

/// What a recovery would do were every machine gone.
fn when_all_is_lost(survey: &Survey, name: &RecoveryName) -> Result<Plan, String> {
    let gone = survey.spec.vms.keys().map(|vm| (vm.clone(), Observed::Known(Machine::Gone))).collect();
    let inventory = Inventory { machines: gone, ..survey.inventory.clone() };
    let request = Request {
        subject: RecoverySubject::Recovery(name.clone()),
        terms: recovered::Terms::default(),
        begin: Begin::Anew,
    };
    let (limits, now) = (&survey.limits, survey.pass.plan.at);
    recovery::recover(&survey.spec, &inventory, limits, &request, now).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::by_hand::Prepared;

    #[test]
    fn files_of_machines_have_room_until_one_has_none() {
        let made = |length: usize| {
            let file = Prepared { path: "web/domain.xml".to_owned(), content: "x".repeat(length) };
            MadeByHand { files: vec![file], hands: Vec::new() }
        };
        let mut room = 8;
        assert_eq!(within(&mut room, made(5)), Ok(made(5)));
        assert_eq!(within(&mut room, made(4)), Err(NO_ROOM.to_owned()));
        assert_eq!(room, 0);
    }
}
