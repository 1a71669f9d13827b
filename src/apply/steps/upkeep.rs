//! Steps that keep stores in order: deletions, checks, sweeps, clean-ups.

use std::collections::BTreeSet;

use super::noted;
use crate::{
    apply::{
        cleanup::{self, Cleaned},
        delete,
        executor::{Done, Failure},
        lease::Reading,
        stream::Damage,
        sweep, verify,
        world::World,
    },
    artifact::{
        ArtifactId, Depth,
        layout::PackName,
        record::{Event, Record},
    },
    inventory::{Interrupted, Work},
    observe::seen::Change,
    plan::Step,
    records::AppendError,
    spec::names::{FolderName, StoreName},
};

impl World {
    pub(in crate::apply) async fn delete(
        &self,
        backup: &FolderName,
        artifact: ArtifactId,
        store: &StoreName,
    ) -> Result<Done, Failure> {
        let look = self.look(store)?;
        let kept = self.keeper_of(backup, store, artifact).await?;
        self.deletions
            .tell(store, |events| async {
                let told = look.records().append(&self.keys, self.clock.now(), events).await?;
                self.let_go(store, &told);
                Ok::<(), AppendError>(())
            })
            .await?;
        let deleted =
            delete::delete(look, backup, artifact, &self.inventory.interrupted, self.clock.as_ref()).await?;
        self.deeds.change(store, backup, Change::Deleted(artifact));
        let left = deleted.left.map(|why| format!("; packs are left to a sweep: {why}")).unwrap_or_default();
        if let Some(kept) = kept {
            return Ok(noted(match self.let_native_go(backup, kept).await? {
                None => "its provider deleted it".to_owned(),
                Some(why) => format!("its provider keeps it: {why}"),
            }));
        }
        Ok(noted(format!("{} freed{left}", bytesize::ByteSize(deleted.bytes))))
    }

    /// What was begun by an approval is covered by it from now on, whatever else the store gets meanwhile.
    fn let_go(&self, store: &StoreName, told: &Record) {
        for event in &told.events {
            if let Event::Deleted { backup, artifact, warrant: Some(warrant), .. } = event {
                let change = Change::LetGo { plan: warrant.plan, artifacts: vec![*artifact] };
                self.deeds.change(store, backup, change);
            }
        }
    }

    pub(in crate::apply) async fn verify(
        &self,
        step: &Step,
        backup: &FolderName,
        artifact: ArtifactId,
        store: &StoreName,
        depth: Depth,
        reader: Option<ArtifactId>,
    ) -> Result<Done, Failure> {
        let (folder, clock) = (self.folder(store, backup)?, self.clock.as_ref());
        let progress = self.listener.progress(step);
        let checking = verify::verify(&folder, artifact, depth, &self.keys, progress.as_ref());
        let found = match reader {
            None => checking.await?,
            Some(reader) => {
                let read = BTreeSet::from([artifact]);
                let reading = Reading::begin(&folder, reader, read, &self.keys, clock).await;
                let found = reading.during(clock, checking).await;
                // What was deleted in the middle all the same is found missing, and would be gone from the next listing.
                reading.end().await;
                found?
            }
        };
        let native = self.stored(store, backup, artifact).and_then(|stored| stored.native.as_deref());
        let found = match native {
            Some(native) if found.is_empty() => {
                let fault = self.native_damage(backup, native).await?;
                fault.map(|fault| Damage::new(folder.manifest(artifact), fault)).into_iter().collect()
            }
            _ => found,
        };
        let damage: Vec<String> = found.iter().map(ToString::to_string).collect();
        let packs: Vec<PackName> = found.iter().filter_map(|damage| damage.pack).collect();
        let is_shared = !packs.is_empty();
        let change = Change::Checked { artifact, depth, damage: damage.clone() };
        self.deeds.change(store, backup, change);
        let event =
            Event::Verified { backup: backup.clone(), artifact, depth, damage: damage.clone(), packs };
        match is_shared {
            true => self.record_at_once(store, backup, event).await?,
            false => self.deeds.tell(store, event),
        }
        Ok(Done { damage, ..Done::default() })
    }

    /// Records now what the very next look, which lists the store again, has to know: damaged packs are damage of every
    /// artifact that names them, unless it is a repair that compared them.
    pub(super) async fn record_at_once(
        &self,
        store: &StoreName,
        backup: &FolderName,
        event: Event,
    ) -> Result<(), Failure> {
        let records = self.look(store)?.records();
        match records.append(&self.keys, self.clock.now(), vec![event.clone()]).await {
            Ok(_) => self.deeds.change(store, backup, Change::Unclear),
            Err(error) => {
                tracing::warn!(%store, %error, "it is recorded at the end of the pass");
                self.deeds.tell(store, event);
            }
        }
        Ok(())
    }

    pub(in crate::apply) fn record_unreferenced(
        &self,
        backup: &FolderName,
        store: &StoreName,
        captures: &[ArtifactId],
    ) -> Result<Done, Failure> {
        self.look(store)?;
        self.deeds.tell(store, Event::Unreferenced { backup: backup.clone(), captures: captures.to_vec() });
        self.deeds.change(store, backup, Change::Unclear);
        Ok(Done::default())
    }

    pub(in crate::apply) async fn sweep(
        &self,
        backup: &FolderName,
        store: &StoreName,
        captures: &[ArtifactId],
    ) -> Result<Done, Failure> {
        self.deeds.change(store, backup, Change::Unclear);
        let swept = sweep::sweep(self.look(store)?, backup, captures, self.clock.as_ref()).await?;
        self.deeds.tell(store, Event::Swept { backup: backup.clone(), captures: swept.captures });
        Ok(noted(format!("{} freed", bytesize::ByteSize(swept.bytes))))
    }

    pub(in crate::apply) async fn clean_up_after(&self, left: &Interrupted) -> Result<Done, Failure> {
        if left.work != Work::Reading {
            self.deeds.change(&left.store, &left.backup, Change::Unclear);
        }
        if let Some(copy) = &left.copy {
            // First, for what is left is known by what is cleaned up.
            self.delete_copy_left(left, copy).await?;
        }
        let cleaned = cleanup::clean_up(self.look(&left.store)?, left, self.clock.as_ref()).await?;
        let is_nobodys = matches!(cleaned, Cleaned::Removed(_));
        if left.work == Work::Capture
            && is_nobodys
            && self.forget_natives(&left.backup, left.artifact).await? > 0
        {
            return Ok(noted("its provider deleted what it had made".to_owned()));
        }
        Ok(match cleaned {
            Cleaned::Committed => noted("it had been committed".to_owned()),
            Cleaned::Removed(bytes) => noted(format!("{} freed", bytesize::ByteSize(bytes))),
            Cleaned::Kept(bytes) => noted(format!("{} kept for the next attempt", bytesize::ByteSize(bytes))),
            Cleaned::Left(why) => noted(format!("left to a sweep: {why}")),
        })
    }

    pub(in crate::apply) async fn settle(
        &self,
        backup: &FolderName,
        store: &StoreName,
        artifact: ArtifactId,
    ) -> Result<Done, Failure> {
        self.deeds.change(store, backup, Change::Unclear);
        cleanup::settle(self.look(store)?, backup, artifact).await?;
        Ok(Done::default())
    }
}
