//! Steps of recoveries: machines, what runs on them, and what is waited for. What came of each is recorded at once, so that a
//! recovery that is cut off can go on.

use std::time::Instant;

use super::{noted, site::Site};
use crate::{
    apply::{
        executor::{Done, Failure},
        world::World,
    },
    artifact::{
        ArtifactId,
        record::Event,
        recovered::{Part, Recovered, RecoveredOutcome},
    },
    plan::{
        Step,
        action::{Recover, Work},
    },
};

impl World {
    /// Does a part of a recovery, and records what came of it in every store that is ours and can be reached.
    pub(in crate::apply) async fn recover(
        &self,
        step: &Step,
        recover: &Recover,
        reader: Option<ArtifactId>,
    ) -> Result<Done, Failure> {
        let site = Site { world: self, spec: &self.spec, drill: None };
        let kept = site.data_that_stays(&recover.work).await?;
        let mut recovered = Recovered {
            subject: recover.subject.clone(),
            run: recover.run,
            parts: recover.parts,
            attempt: recover.attempt,
            left: recover.left,
            id: recover.id(),
            step: recover.digest.clone(),
            place: recover
                .work
                .made()
                .and_then(|vm| Some((vm.clone(), self.spec.vms.get(vm)?.provision.place()))),
            of: match &recover.work {
                Work::Renew(renew) => renew.from.made_of(),
                _ => None,
            },
            terms: recover.terms.clone(),
            began: self.clock.now(),
            milliseconds: 0,
            outcome: RecoveredOutcome::Begun,
        };
        let clock = Instant::now();
        let mut is_recorded = true;
        if matches!(recover.work.part(), Part::Remove | Part::Provision | Part::Restore) {
            is_recorded = self.record_now(&Event::Recovered(Box::new(recovered.clone()))).await;
        }
        let done = match kept {
            Some(note) => Ok(noted(note)),
            None => site.work(step, &recover.work, reader).await,
        };
        recovered.milliseconds = u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX);
        recovered.outcome = if done.is_ok() { RecoveredOutcome::Done } else { RecoveredOutcome::Failed };
        is_recorded &= self.record_now(&Event::Recovered(Box::new(recovered.clone()))).await;
        self.deeds.touch_machines();
        let unknown = (!is_recorded)
            .then_some("; warning: no store has a record of it, so that `--resume` will not know of it");
        done.map(|done| Done {
            note: done.note.map(|note| format!("{note}{}", unknown.unwrap_or_default())),
            recovered: Some(Box::new(recovered)),
            ..done
        })
    }

    /// Writes it into every store that can be reached now, and has it written later where it can't. Whether any store has it now.
    pub(super) async fn record_now(&self, event: &Event) -> bool {
        let mut is_recorded = false;
        for store in self.stores_of_ours() {
            let Ok(look) = self.look(store) else { continue };
            match look.records().append(&self.keys, self.clock.now(), vec![event.clone()]).await {
                Ok(record) => {
                    self.deeds.record(store, record);
                    is_recorded = true;
                }
                Err(error) => {
                    tracing::warn!(%store, %error, "what was done is recorded at the end of the pass");
                    self.deeds.tell(store, event.clone());
                }
            }
        }
        is_recorded
    }
}
