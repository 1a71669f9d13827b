//! Runbooks of what is declared, as things stand.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, PassError, Survey, Terms, desired::Desired, lock};
use crate::{
    artifact::{
        ArtifactId,
        manifest::Content,
        recovered::{self, RecoverySubject},
    },
    committed,
    inventory::{Inventory, Machine, Observed},
    plan::{
        Action, Plan,
        action::Work,
        by_hand::{MadeByHand, reach::Folders},
        recovery::{self, Begin, Request},
    },
    provisioners::Provisioner,
    render::runbook::{Runbook, Sources},
    spec::names::{RecoveryName, VmName},
    templates::Templates,
};

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
        let (mut runbooks, mut told) = (Vec::new(), Vec::new());
        for (name, declared) in wanted {
            let plan = when_all_is_lost(survey, name);
            let streams = match &plan {
                Ok(plan) => self.streams(survey, plan).await,
                Err(_) => BTreeMap::new(),
            };
            told.extend(streams.keys().copied());
            let machines = by_hand(&provisioners, &Folders::of(name)).await;
            let history = survey.inventory.recovery_history(&RecoverySubject::Recovery(name.clone()));
            let sources = Sources {
                spec: &survey.spec,
                revision: &survey.limits.revision,
                status: &survey.pass.status,
                plan: plan.as_ref().map_err(Clone::clone),
                machines: &machines,
                streams: &streams,
                measured: history.last_whole().map(|(_, run)| run),
            };
            runbooks.push(Runbook::of(name, declared, &sources));
        }
        let told: BTreeSet<ArtifactId> = told.into_iter().collect();
        lock(&self.streams).retain(|id, _| told.contains(id));
        runbooks
    }

    /// The names of the streams of what a plan restores, as far as they can be read.
    async fn streams(&self, survey: &Survey, plan: &Plan) -> BTreeMap<ArtifactId, String> {
        let mut streams = BTreeMap::new();
        let looks = self.looks(&survey.spec).await;
        for step in &plan.steps {
            let Action::Recover(recover) = &step.action else { continue };
            let Work::Restore { restore, .. } = &recover.work else { continue };
            let Some(Ok(look)) = looks.get(&restore.store) else { continue };
            let folder = look.folder(&survey.spec.moved.folder(&restore.backup));
            for id in &restore.artifacts {
                if let Some(stream) = lock(&self.streams).get(id) {
                    streams.insert(*id, stream.clone());
                    continue;
                }
                if let Ok(read) = committed::read(&folder, *id, &self.keys).await
                    && let Content::Segments(segments) = read.manifest.content
                {
                    lock(&self.streams).insert(*id, segments.stream.clone());
                    streams.insert(*id, segments.stream);
                }
            }
        }
        streams
    }
}

/// How each machine is made by hand.
async fn by_hand(
    provisioners: &BTreeMap<VmName, Result<Box<dyn Provisioner>, String>>,
    folders: &Folders,
) -> BTreeMap<VmName, Result<MadeByHand, String>> {
    let mut machines = BTreeMap::new();
    for (name, provisioner) in provisioners {
        let made = match provisioner {
            Ok(made) => made.by_hand(&folders.machine(name)).await.map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        };
        machines.insert(name.clone(), made);
    }
    machines
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
