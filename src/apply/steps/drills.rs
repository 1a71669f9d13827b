//! Steps that restore into a sandbox, and what the records are to tell of them.

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::noted;
use crate::{
    apply::{
        drill::{self, Ended, Means, Order},
        executor::{Done, Failure},
        lease::Reading,
        segment::Recipients,
        world::{World, stalled},
    },
    artifact::{
        ArtifactId,
        drill::{DrillOutcome, DrillReport, Drilled, Finding},
        record::Event,
    },
    committed::BackupFolder,
    inventory::{Observed, Standing},
    observe::seen::Change,
    plan::{Step, action::Drill},
    spec::{DrillCheck, Recipient, names::StoreName},
};

impl World {
    /// Restores into a sandbox, with the artifacts' readers' lease in the store. Whatever comes of it is recorded in every store
    /// that is ours: what is in one may be lost with it.
    pub(in crate::apply) async fn drill(
        &self,
        step: &Step,
        drill: &Drill,
        reader: ArtifactId,
    ) -> Result<Done, Failure> {
        let began = self.clock.now();
        let name = self.spec.moved.folder(&drill.backup);
        let (folder, clock) = (self.folder(&drill.store, &name)?, self.clock.as_ref());
        let read = drill.artifacts.iter().chain(&drill.logs).copied().collect();
        let reading = Reading::begin(&folder, reader, read, &self.keys, clock).await;
        let ended = reading.during(clock, self.drill_from(&folder, step, drill)).await;
        reading.end().await;
        let ended = ended?;
        let artifact = *drill.artifacts.last().ok_or_else(|| stalled("no artifact was named"))?;
        let age = began.duration_since(drill.point).as_secs();
        let drilled = Drilled {
            drill: drill.drill.clone(),
            slot: drill.slot,
            began,
            backup: name.clone(),
            artifact,
            logs: drill.logs.len(),
            store: drill.store.clone(),
            point: drill.point,
            outcome: ended.outcome.clone(),
            stages: ended.stages.clone(),
            checks: ended.findings.iter().map(|finding| finding.verdict).collect(),
            rpo_seconds: drill.is_newest.then(|| u64::try_from(age).unwrap_or(0)),
            rto_seconds: ended.usable_after.map(|length| length.as_secs()),
            bytes: ended.bytes,
            isolation: ended.isolation,
            sealed: seal(self.spec.recipients_in(&drill.store), &ended.findings)?,
        };
        for store in self.stores_of_ours() {
            self.deeds.tell(store, Event::Drilled(Box::new(drilled.clone())));
            self.deeds.change(store, &name, Change::Drilled(Box::new(drilled.clone())));
        }
        Ok(told(drilled, ended))
    }

    async fn drill_from(&self, folder: &BackupFolder, step: &Step, drill: &Drill) -> Result<Ended, Failure> {
        let manifests = self.manifests(folder, &drill.artifacts).await?;
        let logs = self.manifests(folder, &drill.logs).await?;
        let declared = self.spec.backups.get(&drill.backup);
        let declared = declared.ok_or_else(|| super::transfers::undeclared(&drill.backup))?;
        // A plan may have been saved before the host forbade it.
        let programs = drill.checks.iter().filter_map(DrillCheck::program);
        if let Some(refusal) = programs.filter_map(|program| self.drivers.may_run(program).err()).next() {
            return Ok(could_not_run(refusal.to_string()));
        }
        let sandbox = match self.sandbox(drill.sandbox, &manifests, &declared.source).await {
            Ok(sandbox) => sandbox,
            Err(refusal) => return Ok(could_not_run(refusal.to_string())),
        };
        let order = Order {
            manifests: &manifests,
            logs: &logs,
            until: drill.until.as_ref(),
            how: drill.how,
            checks: &drill.checks,
        };
        let progress = self.listener.progress(step);
        let means = Means { folder, keys: &self.keys, progress: &progress };
        Ok(drill::drill(&order, sandbox, &means).await?)
    }

    pub(super) fn stores_of_ours(&self) -> impl Iterator<Item = &StoreName> {
        let known = |store: &Observed<_>| -> bool {
            matches!(
                store,
                Observed::Known(crate::inventory::StoreInventory { standing: Standing::Ours, .. })
            )
        };
        self.inventory.stores.iter().filter(move |(_, store)| known(store)).map(|(name, _)| name)
    }
}

/// What was asked and answered is for those only who may read the data itself.
pub(super) fn seal(readers: &[Recipient], findings: &[Finding]) -> Result<Option<String>, Failure> {
    if findings.is_empty() {
        return Ok(None);
    }
    let recipients = Recipients::declared(readers).map_err(stalled)?;
    let plaintext = serde_json::to_vec(findings).map_err(stalled)?;
    let mut encrypted = Vec::new();
    recipients.encrypt(&plaintext, &mut encrypted).map_err(stalled)?;
    Ok(Some(BASE64_STANDARD.encode(encrypted)))
}

fn could_not_run(why: String) -> Ended {
    Ended {
        outcome: DrillOutcome::CouldNotRun(why.clone()),
        why: Some(why),
        stages: Vec::new(),
        findings: Vec::new(),
        usable_after: None,
        bytes: 0,
        isolation: None,
    }
}

/// A drill that did not pass is a step that was taken: it found something.
fn told(drilled: Drilled, ended: Ended) -> Done {
    let damage = match &drilled.outcome {
        DrillOutcome::Passed => Vec::new(),
        outcome => {
            let why = ended.why.iter().map(|why| format!("{}: {why}", outcome.as_str()));
            why.chain(drill::bad(&ended.findings)).collect()
        }
    };
    let note = format!("{} checks hold", ended.findings.len());
    let drilled = DrillReport { drilled, findings: ended.findings, why: ended.why };
    Done { damage, drilled: Some(Box::new(drilled)), ..noted(note) }
}
