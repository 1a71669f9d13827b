//! Runbooks of what is declared, as things stand.

use std::collections::BTreeMap;

use super::{Controller, PassError, Survey, Terms};
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
        recovery::{self, Begin, Request},
    },
    render::runbook::{Runbook, Sources},
    spec::names::RecoveryName,
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
        let templates = self.templates(&*self.desired().await?).await;
        let wanted =
            survey.spec.recoveries.iter().filter(|(name, _)| names.is_empty() || names.contains(name));
        let mut runbooks = Vec::new();
        for (name, declared) in wanted {
            let plan = when_all_is_lost(&survey, name);
            let (previews, streams) = match &plan {
                Ok(plan) => (self.previews(plan).await?, self.streams(&survey, plan).await),
                Err(_) => Default::default(),
            };
            let history = survey.inventory.recovery_history(&RecoverySubject::Recovery(name.clone()));
            let sources = Sources {
                spec: &survey.spec,
                revision: &survey.limits.revision,
                status: &survey.pass.status,
                plan: plan.as_ref().map_err(Clone::clone),
                previews: &previews,
                streams: &streams,
                measured: history.last_whole().map(|(_, run)| run),
            };
            runbooks.push(Runbook::of(name, declared, &sources));
        }
        Ok((runbooks, templates))
    }

    /// The names of the streams of what a plan restores, as far as they can be read.
    async fn streams(&self, survey: &Survey, plan: &Plan) -> BTreeMap<ArtifactId, String> {
        let looks = self.looks(&survey.spec).await;
        let mut streams = BTreeMap::new();
        for step in &plan.steps {
            let Action::Recover(recover) = &step.action else { continue };
            let Work::Restore { restore, .. } = &recover.work else { continue };
            let Some(Ok(look)) = looks.get(&restore.store) else { continue };
            let folder = look.folder(&survey.spec.moved.folder(&restore.backup));
            for id in &restore.artifacts {
                if let Ok(read) = committed::read(&folder, *id, &self.keys).await
                    && let Content::Segments(segments) = read.manifest.content
                {
                    streams.insert(*id, segments.stream);
                }
            }
        }
        streams
    }
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
