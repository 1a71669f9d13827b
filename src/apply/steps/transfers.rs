//! Steps whose work grows with the data: captures, copies, repairs, restores.

use std::iter;

use super::{counted, noted};
use crate::{
    apply::{
        capture::{self, CaptureOrder, Means},
        copy,
        executor::{Done, Failure},
        lease::Reading,
        part, repair,
        restore::{self, Logs},
        rewrite::Audience,
        segment::Recipients,
        stream,
        world::{World, as_stored, stalled},
    },
    artifact::{ArtifactId, Kind, Manifest, manifest::Content, record::Event},
    committed::{self, BackupFolder},
    drivers::Refusal,
    git::Tips,
    inventory::logged_everywhere,
    observe::seen::Change,
    plan::{
        Step,
        action::{Capture, Destination, Existing, Restore, SandboxKind},
    },
    sandboxes::Sandbox,
    sources::{
        GoesOn, Place, Restored, Source,
        selection::{Selection, Selective},
    },
    spec::{
        Part, Spec, Verify,
        names::{BackupName, FolderName, StoreName},
    },
};

/// What a restore is made onto.
#[derive(Clone, Copy)]
pub(super) struct Onto<'a> {
    /// What declares where the original is.
    pub spec: &'a Spec,
    /// What becomes of data that is there.
    pub existing: Existing,
}

impl World {
    pub(in crate::apply) async fn capture(
        &self,
        step: &Step,
        capture: &Capture,
        artifact: ArtifactId,
    ) -> Result<Done, Failure> {
        let (source, capture, tips) = self.source_of(capture).await?;
        let (capture, note) = match self.provides(&capture) {
            true => as_native(capture),
            false => on_firm_ground(source.as_ref(), capture).await?,
        };
        let order = self.order(step, &capture, &note, artifact).await?;
        let name = self.spec.moved.folder(&capture.backup);
        let (folder, progress) = (self.folder(&capture.store, &name)?, self.listener.progress(step));
        let means = Means {
            source: source.as_ref(),
            folder: &folder,
            keys: &self.keys,
            clock: self.clock.as_ref(),
            progress: progress.as_ref(),
        };
        let manifest = match self.provides(&capture) {
            true => capture::provide(&order, &means).await?,
            false => capture::capture(&order, &means).await?,
        };
        if let Some(tips) = tips
            && let Err(error) = self.tips.record(&capture.store, &artifact, &tips)
        {
            // The next bundle is a complete one then.
            tracing::warn!(%error, "what the bundle holds is not noted");
        }
        self.leave_restore_page(&capture.store).await;
        self.deeds.change(&capture.store, &name, Change::Committed(Box::new(as_stored(&manifest))));
        self.bear_witness(&capture.store, &name, artifact);
        let purged = self.log_is_stored(source.as_ref(), &capture).await;
        let note = [captured(&manifest)].into_iter().chain(note).chain(purged).collect::<Vec<_>>().join("; ");
        Ok(Done { artifact: Some(artifact), folder: Some(name), ..noted(note) })
    }

    /// Whether the provider of the source makes this capture.
    fn provides(&self, capture: &Capture) -> bool {
        self.spec.backups.get(&capture.backup).is_some_and(|backup| backup.source.is_native())
    }

    /// Has a store's records tell of an artifact of which no check will, so that its loss shows.
    fn bear_witness(&self, store: &StoreName, backup: &FolderName, artifact: ArtifactId) {
        let declared = self.spec.backups.get(&self.spec.moved.backup(backup));
        if declared.is_some_and(|declared| declared.policy.verify == Verify::default()) {
            self.deeds.tell(store, Event::Committed { backup: backup.clone(), artifact });
        }
    }

    /// The source of a capture. A bundle whose base can't be built upon any more, since this host forgot what it holds, is
    /// a complete one.
    async fn source_of(
        &self,
        capture: &Capture,
    ) -> Result<(Box<dyn Source>, Capture, Option<Tips>), Failure> {
        let mut capture = capture.clone();
        if !capture.backup.is_infra() {
            let backup = self.spec.backups.get(&capture.backup);
            let backup = backup.ok_or_else(|| undeclared(&capture.backup))?;
            return Ok((self.drivers.source(&backup.source).await?, capture, None));
        }
        let tips = self.mirror.tips().await.map_err(stalled)?;
        let mirror = self.mirror.path();
        let prerequisites = capture.base.and_then(|base| self.tips.usable(&capture.store, &base, mirror));
        if prerequisites.is_none() {
            (capture.kind, capture.base) = (Kind::Full, None);
        }
        Ok((self.drivers.infra(&self.mirror, prerequisites), capture, Some(tips)))
    }

    async fn order(
        &self,
        step: &Step,
        capture: &Capture,
        note: &Option<String>,
        artifact: ArtifactId,
    ) -> Result<CaptureOrder, Failure> {
        let recipients = self.spec.recipients_in(&capture.store);
        let declared = self.spec.backups.get(&capture.backup);
        Ok(CaptureOrder {
            capture: capture.clone(),
            artifact,
            revision: self.revision.clone(),
            reason: iter::once(&step.reason).chain(note).map(String::as_str).collect::<Vec<_>>().join("; "),
            requires: self.requires(capture),
            recipients: Recipients::declared(recipients).map_err(stalled)?,
            expected: self.length_before(capture).await,
            now: self.clock.now(),
            stall: capture::STALL,
            spool: Some(self.spools.join(self.spec.moved.folder(&capture.backup).as_str())),
            native_place: declared.and_then(|backup| backup.source.native_place()).map(|(_, place)| place),
        })
    }

    /// How long the stream was when it was last captured. Only an artifact that opens an epoch is cut by it.
    async fn length_before(&self, capture: &Capture) -> Option<u64> {
        let opens = capture.base.is_none() && !capture.backup.is_infra();
        let name = self.spec.moved.folder(&capture.backup);
        let seen = opens.then(|| self.seen(&capture.store, &name))??;
        let newest = seen.newest_good(self.clock.now())?;
        let folder = self.folder(&capture.store, &name).ok()?;
        let manifest = committed::read(&folder, newest.id, &self.keys).await.ok()?.manifest;
        match manifest.content {
            Content::Segments(segments) => Some(segments.length),
            Content::Native { .. } => None,
        }
    }

    /// For whom what `to` gets from `from` is. Where neither has recipients of its own it stays as it is: also what was
    /// captured for recipients that the fleet had then.
    fn audience(&self, from: &StoreName, to: &StoreName) -> Result<Audience, Failure> {
        let has_own = |store| self.spec.stores.get(store).is_some_and(|store| store.recipients.is_some());
        if has_own(from) || has_own(to) {
            Ok(Audience::Only(Recipients::declared(self.spec.recipients_in(to)).map_err(stalled)?))
        } else {
            Ok(Audience::AsRead)
        }
    }

    /// Tells the source up to where every store has its log, as the pass saw them: what was captured since is not among it.
    async fn log_is_stored(&self, source: &dyn Source, capture: &Capture) -> Option<String> {
        let declared = self.spec.backups.get(&capture.backup).filter(|_| capture.kind == Kind::Log)?;
        let folder = self.spec.moved.folder(&capture.backup);
        let stored: Option<Vec<_>> = declared.stores.iter().map(|store| self.seen(store, &folder)).collect();
        let edge = logged_everywhere(&stored?, self.clock.now())?;
        if let Err(error) = source.trim_spool(&self.spools.join(folder.as_str()), &edge).await {
            // It is tried again with every log; what is there too long is told when the spool is full.
            tracing::warn!(backup = %capture.backup, %error, "what every store has is still in the spool");
        }
        match source.log_is_stored(&edge).await {
            Ok(did) => Some(did).filter(|did| !did.is_empty()),
            Err(error) => Some(format!("warning: {error}")),
        }
    }

    /// A bundle, and what holds only what changed, need what they build upon; the other sources' increments share packs and
    /// stand alone.
    fn requires(&self, capture: &Capture) -> Vec<ArtifactId> {
        let holds_changes = capture.kind != Kind::Log && capture.continues.is_some();
        match capture.base {
            Some(base) if capture.backup.is_infra() || holds_changes => {
                let before = self.stored(&capture.store, &self.spec.moved.folder(&capture.backup), base);
                let before = before.map_or(&[][..], |before| before.requires.as_slice());
                before.iter().copied().chain([base]).collect()
            }
            _ => Vec::new(),
        }
    }

    pub(in crate::apply) async fn copy(
        &self,
        step: &Step,
        backup: &FolderName,
        artifact: ArtifactId,
        from: &StoreName,
        to: &StoreName,
    ) -> Result<Done, Failure> {
        let audience = self.audience(from, to)?;
        let (source, place) = (self.folder(from, backup)?, self.folder(to, backup)?);
        let progress = self.listener.progress(step);
        let clock = self.clock.as_ref();
        let copied =
            copy::copy(artifact, &source, &place, &audience, &self.keys, clock, progress.as_ref()).await?;
        self.leave_restore_page(to).await;
        match committed::read(&place, artifact, &self.keys).await {
            Ok(read) => self.deeds.change(to, backup, Change::Committed(Box::new(as_stored(&read.manifest)))),
            Err(_) => self.deeds.change(to, backup, Change::Unclear),
        }
        self.bear_witness(to, backup, artifact);
        let folder = Some(backup.clone());
        Ok(Done {
            artifact: Some(artifact),
            folder,
            ..noted(counted(copied.objects, "object", copied.bytes))
        })
    }

    pub(in crate::apply) async fn repair(
        &self,
        step: &Step,
        backup: &FolderName,
        damaged: ArtifactId,
        (store, from): (&StoreName, &StoreName),
        name: ArtifactId,
    ) -> Result<Done, Failure> {
        let order = repair::Order { damaged, repair: name };
        let (place, source) = (self.folder(store, backup)?, self.folder(from, backup)?);
        let (clock, progress) = (self.clock.as_ref(), self.listener.progress(step));
        let audience = self.audience(from, store)?;
        self.deeds.change(store, backup, Change::Unclear);
        let repaired =
            repair::repair(order, &place, &source, &audience, &self.keys, clock, progress.as_ref()).await?;
        self.leave_restore_page(store).await;
        let event =
            Event::Repaired { backup: backup.clone(), artifact: repaired.artifact, replaces: Some(damaged) };
        self.record_at_once(store, backup, event).await?;
        let note = format!("by {}: {}", repaired.artifact, counted(repaired.packs, "pack", repaired.bytes));
        Ok(Done { artifact: Some(repaired.artifact), ..noted(note) })
    }

    /// Restores, with the artifacts' readers' lease in the store; goes on without it where the store takes none.
    pub(in crate::apply) async fn restore(
        &self,
        step: &Step,
        restore: &Restore,
        reader: ArtifactId,
    ) -> Result<Done, Failure> {
        self.restore_in(step, restore, reader, Onto { spec: &self.spec, existing: Existing::Replaced }).await
    }

    /// The same, onto what is declared elsewhere.
    pub(super) async fn restore_in(
        &self,
        step: &Step,
        restore: &Restore,
        reader: ArtifactId,
        onto: Onto<'_>,
    ) -> Result<Done, Failure> {
        let name = self.spec.moved.folder(&restore.backup);
        let (folder, clock) = (self.folder(&restore.store, &name)?, self.clock.as_ref());
        let read = restore.artifacts.iter().chain(&restore.logs).copied().collect();
        let reading = Reading::begin(&folder, reader, read, &self.keys, clock).await;
        let restored = reading.during(clock, self.restore_from(&folder, step, restore, onto)).await;
        let unseen = reading.end().await.map(|why| {
            format!("; warning: nothing kept others from deleting what was read meanwhile: {why}")
        });
        Ok(noted(format!("restored to {}{}", restored?.place, unseen.unwrap_or_default())))
    }

    async fn restore_from(
        &self,
        folder: &BackupFolder,
        step: &Step,
        restore: &Restore,
        onto: Onto<'_>,
    ) -> Result<Restored, Failure> {
        if let Some(declared) = onto.spec.backups.get(&restore.backup)
            && !restore.paths.is_empty()
            && declared.source.has_databases()
        {
            return self.restore_parts(folder, step, restore, &declared.source).await;
        }
        let manifests = self.manifests(folder, &restore.artifacts).await?;
        if let Some(point) = manifests.last()
            && let Some(restored) = self.restore_native(&restore.backup, point, &restore.to).await?
        {
            return Ok(restored);
        }
        let logs = self.manifests(folder, &restore.logs).await?;
        let mut source = match onto.spec.backups.get(&restore.backup) {
            _ if restore.backup.is_infra() => self.drivers.infra(&self.mirror, None),
            Some(declared) => self.drivers.source(&declared.source).await?,
            None => {
                check_undeclared(restore, manifests.last())?;
                self.drivers.undeclared()
            }
        };
        if onto.existing != Existing::Replaced {
            source.refuse_to_replace();
        }
        let source = match Selection::of(&restore.paths) {
            Some(selection) => Box::new(Selective::new(source, selection)),
            None => source,
        };
        let place = match &restore.to {
            Destination::Folder(path) => Place::Folder(path.clone()),
            Destination::File(path) => Place::File(path.clone()),
            Destination::Database(name) => Place::Database(name.clone()),
            Destination::Bucket { bucket, prefix } => {
                Place::Bucket { bucket: bucket.clone(), prefix: prefix.clone() }
            }
            Destination::InPlace => Place::Original,
        };
        let progress = self.listener.progress(step);
        let logs = Logs { manifests: &logs, until: restore.until.as_ref() };
        Ok(restore::restore(&manifests, logs, folder, source.as_ref(), &place, &self.keys, &progress).await?)
    }

    /// Restores databases or tables by way of a private server.
    async fn restore_parts(
        &self,
        folder: &BackupFolder,
        step: &Step,
        restore: &Restore,
        declared: &crate::spec::Source,
    ) -> Result<Restored, Failure> {
        let manifests = self.manifests(folder, &restore.artifacts).await?;
        let logs = self.manifests(folder, &restore.logs).await?;
        let parts = Part::of(&restore.paths).map_err(|path| stalled(format!("{path:?} names no part")))?;
        let source = self.drivers.source(declared).await?;
        let sandbox = self.sandbox(SandboxKind::of(declared), &manifests, declared).await?;
        let order = part::Order {
            manifests: &manifests,
            logs: Logs { manifests: &logs, until: restore.until.as_ref() },
            parts: &parts,
            to: &restore.to,
        };
        let progress = self.listener.progress(step);
        let (keys, clock) = (&self.keys, self.clock.as_ref());
        let means = part::Means { folder, keys, clock, progress: &progress };
        Ok(part::restore(&order, sandbox, source.as_ref(), &means).await?)
    }

    /// The sandbox for what these artifacts hold.
    pub(super) async fn sandbox(
        &self,
        kind: SandboxKind,
        manifests: &[Manifest],
        declared: &crate::spec::Source,
    ) -> Result<Box<dyn Sandbox>, Refusal> {
        let first = manifests.first();
        // Where it can't be read, nothing can be restored of it either, and that is told then.
        let sealed = first.and_then(|manifest| stream::sealed(manifest, &self.keys).ok().flatten());
        let server = sealed.as_ref().and_then(|sealed| sealed.details.versions.get("server"));
        let kind = server.map_or(kind, |version| kind.for_server(version));
        self.drivers.sandbox(kind, declared).await
    }

    pub(super) async fn manifests(
        &self,
        folder: &BackupFolder,
        artifacts: &[ArtifactId],
    ) -> Result<Vec<Manifest>, Failure> {
        let mut manifests = Vec::new();
        for artifact in artifacts {
            manifests.push(committed::read(folder, *artifact, &self.keys).await?.manifest);
        }
        Ok(manifests)
    }
}

/// A capture by a provider, which makes nothing but fulls.
fn as_native(capture: Capture) -> (Capture, Option<String>) {
    let note = (capture.kind != Kind::Full).then(|| "its provider makes fulls only".to_owned());
    (Capture { kind: Kind::Full, base: None, continues: None, ..capture }, note)
}

/// A capture of changes, where what they are changes of is still there; otherwise a full, and why.
async fn on_firm_ground(source: &dyn Source, capture: Capture) -> Result<(Capture, Option<String>), Failure> {
    let Some(base) = capture.continues.as_ref().filter(|_| capture.kind != Kind::Log) else {
        return Ok((capture, None));
    };
    match source.goes_on_from(base).await? {
        GoesOn::Yes => Ok((capture, None)),
        GoesOn::No(why) => {
            let note = format!("{why}: made as a full");
            Ok((Capture { kind: Kind::Full, base: None, continues: None, ..capture }, Some(note)))
        }
    }
}

pub(super) fn undeclared(backup: &BackupName) -> Failure {
    stalled(format!(
        "failed to open the source of {backup}: the revision in force does not declare it; declare it again"
    ))
}

/// Whether a stream whose source nothing declares any more can be restored there: as a file whatever it holds, and an
/// archive of files into a folder as well.
fn check_undeclared(restore: &Restore, point: Option<&Manifest>) -> Result<(), Failure> {
    let stream = match point.map(|manifest| &manifest.content) {
        Some(Content::Segments(segments)) => segments.stream.as_str(),
        Some(Content::Native { .. }) | None => "",
    };
    let why = match &restore.to {
        Destination::File(_) => return Ok(()),
        Destination::Folder(_) if stream.ends_with(".tar") => return Ok(()),
        Destination::Folder(_) => {
            format!("and its stream `{stream}` is one file; name a file that does not exist yet")
        }
        Destination::Database(_) | Destination::Bucket { .. } | Destination::InPlace => {
            "so that nothing tells where its original is; declare it again, or name a file".to_owned()
        }
    };
    let Restore { backup, to, .. } = restore;
    Err(stalled(format!("failed to restore {backup} to {to}: no revision in force declares it, {why}")))
}

/// `1.2 MiB in 3 packs, 40 MiB in all`
fn captured(manifest: &Manifest) -> String {
    let segments = match &manifest.content {
        Content::Segments(segments) => segments,
        Content::Native { provider, reference, .. } => return format!("{provider} {reference}"),
    };
    let own = segments.packs.iter().filter(|(pack, _)| pack.artifact == manifest.artifact);
    let (packs, bytes) = own.fold((0, 0), |(n, sum), (_, stored)| (n + 1, sum + stored.size));
    format!("{} written for {}", counted(packs, "pack", bytes), bytesize::ByteSize(segments.length))
}
