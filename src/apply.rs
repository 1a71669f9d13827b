//! Takes the steps of a plan: the one place that matches on [`Action`], and hands each to its family's module.

pub mod capture;
pub mod cleanup;
pub mod compare;
pub mod copy;
pub mod delete;
pub mod drill;
pub mod executor;
mod failures;
mod garbage;
pub mod journal;
pub mod lease;
pub mod ledger;
pub mod part;
pub mod remover;
pub mod repair;
pub mod restore;
pub mod rewrite;
mod room;
pub mod segment;
mod steps;
pub mod stream;
pub mod sweep;
pub mod transfer;
pub mod verify;
pub mod watchdog;
pub mod world;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    artifact::{ArtifactId, Depth},
    inventory::{Interrupted, Work},
    plan::{Action, Step},
    spec::names::{BackupName, FolderName, VmName},
};
use executor::{Done, Effects, Failure};
use world::World;

#[async_trait]
impl Effects for World {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn folder(&self, backup: &BackupName) -> FolderName {
        self.spec.moved.folder(backup)
    }

    fn writes(&self, action: &Action) -> Option<Interrupted> {
        let new = || ArtifactId::new(self.clock.now(), self.chance.draw());
        let (backup, store, artifact, work) = match action {
            Action::Capture(capture) => (&capture.backup, &capture.store, new(), Work::Capture),
            Action::Repair { backup, store, .. } => (backup, store, new(), Work::Capture),
            Action::Copy { backup, to, artifact, .. } => (backup, to, *artifact, Work::Copy),
            Action::Restore(restore) => (&restore.backup, &restore.store, new(), Work::Reading),
            Action::Drill(drill) => (&drill.backup, &drill.store, new(), Work::Reading),
            Action::Recover(recover) => {
                let restore = recover.work.reads()?;
                (&restore.backup, &restore.store, new(), Work::Reading)
            }
            Action::Verify { backup, store, depth: Depth::Data | Depth::Plaintext, .. } => {
                (backup, store, new(), Work::Reading)
            }
            _ => return None,
        };
        let copy = match action {
            Action::Drill(drill) => self.copy_of(drill, artifact).map(Box::new),
            _ => None,
        };
        let backup = Effects::folder(self, backup);
        Some(Interrupted { backup, store: store.clone(), artifact, work, copy })
    }

    async fn apply(&self, step: &Step, writes: Option<&Interrupted>) -> Result<Done, Failure> {
        let name = || writes.map(|writes| writes.artifact).ok_or_else(|| world::stalled("no name was given"));
        let of = |backup| Effects::folder(self, backup);
        match &step.action {
            Action::Arm(schedule) => self.arm(schedule).await,
            Action::Disarm(schedule) => self.disarm(schedule).await,
            Action::Capture(capture) => self.capture(step, capture, name()?).await,
            Action::Copy { backup, artifact, from, to } => {
                self.copy(step, &of(backup), *artifact, from, to).await
            }
            Action::Delete { backup, artifact, store } => self.delete(&of(backup), *artifact, store).await,
            Action::Verify { backup, artifact, store, depth } => {
                let reader = writes.map(|writes| writes.artifact);
                self.verify(step, &of(backup), *artifact, store, *depth, reader).await
            }
            Action::Repair { backup, artifact, store, from } => {
                self.repair(step, &of(backup), *artifact, (store, from), name()?).await
            }
            Action::RecordUnreferenced { backup, store, captures } => {
                self.record_unreferenced(&of(backup), store, captures)
            }
            Action::Sweep { backup, store, captures } => self.sweep(&of(backup), store, captures).await,
            Action::CleanUp { backup, store, artifact } => {
                self.clean_up_after(&self.interrupted(&of(backup), store, *artifact)).await
            }
            Action::DeleteDrillCopy { backup, store, artifact, .. } => {
                self.delete_drill_copy(&self.interrupted(&of(backup), store, *artifact)).await
            }
            Action::Settle { backup, store, artifact } => self.settle(&of(backup), store, *artifact).await,
            Action::Push { mirror } => self.push(mirror).await,
            Action::Protect(protect) => self.protect(protect).await,
            Action::Rewind { backup, at, to } => self.rewind(backup, *at, to).await,
            Action::Restore(restore) => self.restore(step, restore, name()?).await,
            Action::Drill(drill) => self.drill(step, drill, name()?).await,
            Action::Rehearse(rehearse) => self.rehearse(step, rehearse).await,
            Action::ClearAway { drill, vms, revision } => {
                self.clear_away(step, drill, vms, revision.as_deref()).await
            }
            Action::ClearPreviews { mark, .. } => self.clear_previews(step, mark).await,
            Action::Recover(recover) => {
                self.recover(step, recover, writes.map(|writes| writes.artifact)).await
            }
        }
    }

    async fn clean_up(&self, left: &Interrupted) -> Result<(), Failure> {
        self.clean_up_after(left).await.map(drop)
    }

    async fn throw_away(&self, step: &Step) -> Result<(), Failure> {
        let Action::Rehearse(rehearse) = &step.action else { return Ok(()) };
        let vms: Vec<VmName> = rehearse.machines().cloned().collect();
        self.clear_away(step, &rehearse.drill, &vms, None).await.map(drop)
    }
}
