//! Judges what the stores hold: nothing that was allowed to stay is gone, and what is there can be restored.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use backstay::{
    apply::restore::{Logs, restore},
    artifact::{
        ArtifactId, Manifest,
        layout::{self, ObjectName},
        manifest::Content,
    },
    clock::{Clock, ManualClock},
    committed::{self, BackupFolder},
    progress::{Progress, Unseen},
    reconcile::Pass,
    sources::Place,
    spec::names::{FolderName, INFRA, StoreName},
    stores::Store,
};
use bytes::Bytes;

use super::{
    BACKUPS, Folder, MINUTE, STORES, Simulation, declaration::data_path, fleet::of_another_fleet,
    source::MemorySource,
};

/// Every artifact with a manifest, by folder; `None` where the manifest proves nothing.
pub type Holdings = BTreeMap<Folder, BTreeMap<ArtifactId, Option<Manifest>>>;

/// What was looked at before and need not be looked at again.
#[derive(Default)]
pub struct Judge {
    /// Manifests, by their bytes and their signature's.
    proved: BTreeMap<(Bytes, Bytes), Option<Manifest>>,
    /// What artifacts were made of when they were restored.
    restored: BTreeMap<(Folder, ArtifactId), Vec<Bytes>>,
    /// Stores that were set back: what is damaged there is not known.
    distrusted: BTreeSet<StoreName>,
}

impl Judge {
    pub fn distrust(&mut self, store: &StoreName) {
        self.distrusted.insert(store.clone());
    }
}

impl Simulation {
    /// What each store really holds.
    pub(super) async fn holdings(&mut self) -> Holdings {
        let mut found = Holdings::new();
        for store in self.fleet.stores.keys() {
            let memory = &self.fleet.stores[store].memory;
            let objects: BTreeMap<ObjectName, Bytes> = memory.objects_now().into_iter().collect();
            for name in objects.keys() {
                let Some((backup, id)) = artifact_of(name) else { continue };
                let folder = self.folder(store, &backup);
                let content = |name: ObjectName| objects.get(&name).cloned().unwrap_or_default();
                let bytes = (content(folder.manifest(id)), content(folder.signature(id)));
                if !self.judge.proved.contains_key(&bytes) {
                    let read = committed::read(&folder, id, &self.fleet.keys).await;
                    self.judge.proved.insert(bytes.clone(), read.ok().map(|read| read.manifest));
                }
                let artifacts = found.entry((store.clone(), backup)).or_default();
                artifacts.insert(id, self.judge.proved[&bytes].clone());
            }
        }
        found
    }

    pub(super) fn folder(&self, store: &StoreName, backup: &FolderName) -> BackupFolder {
        BackupFolder {
            name: store.clone(),
            store: Arc::new(self.fleet.stores[store].memory.clone()) as Arc<dyn Store>,
            fleet: "pavroto".parse().unwrap(),
            backup: backup.clone(),
        }
    }

    /// What may never happen, whatever failed.
    pub(super) async fn assert_safe(&mut self, before: &Holdings, ended: Option<&Pass>) {
        let after = self.holdings().await;
        let none = BTreeMap::new();
        for (folder, artifacts) in before {
            let left = after.get(folder).unwrap_or(&none);
            let gone: Vec<ArtifactId> = artifacts
                .iter()
                .filter(|(id, manifest)| manifest.is_some() && !left.contains_key(id))
                // A repair takes the place of what it repairs.
                .filter(|(id, _)| !left.values().flatten().any(|other| other.supersedes == Some(**id)))
                .map(|(id, _)| *id)
                .collect();
            if !gone.is_empty() {
                self.assert_allowed(folder, artifacts, left, &gone);
            }
        }
        for (folder, artifacts) in &after {
            let known = is_infra(&folder.1) || BACKUPS.contains(&folder.1.as_str());
            assert!(known, "a rename made a folder of its own: {} in {}", folder.1, folder.0);
            self.assert_restorable(folder, artifacts, ended).await;
        }
        for (name, vault) in &self.fleet.stores {
            let rows = vault.memory.get(&of_another_fleet(), None, u64::MAX).await;
            assert_eq!(rows.ok().as_deref(), Some(&b"rows"[..]), "another fleet's object in {name}");
        }
    }

    fn assert_allowed(
        &self,
        folder: &Folder,
        before: &BTreeMap<ArtifactId, Option<Manifest>>,
        left: &BTreeMap<ArtifactId, Option<Manifest>>,
        gone: &[ArtifactId],
    ) {
        let (store, backup) = folder;
        let what = format!("{gone:?} of {:?} of {backup} in {store} went", before.keys());
        assert!(is_infra(backup) || self.is_declared(backup), "{what} with the declaration");
        let apart = |clock: &Arc<ManualClock>| clock.now().duration_since(self.fleet.clock.now()).abs();
        let stores = STORES[..self.declared.stores].iter().map(|name| &self.fleet.stores[*name]);
        assert!(stores.clone().all(|vault| apart(&vault.clock) <= MINUTE * 10), "{what} while clocks differ");
        assert!(gone.len() <= 1.max((before.len() + left.len()) / 2), "{what} at once");
        let is_of = |of: &BTreeMap<Folder, BTreeSet<ArtifactId>>, id: &ArtifactId| {
            of.get(folder).is_some_and(|ids| ids.contains(id))
        };
        let good = |id: &ArtifactId| !is_of(&self.damaged, id);
        let moment = |manifest: &Option<Manifest>| manifest.as_ref().map(|m| m.moment.newest());
        let newest_left =
            left.iter().filter(|(id, _)| good(id)).filter_map(|(_, manifest)| moment(manifest)).max();
        for id in gone {
            assert!(
                !good(id) || moment(&before[id]) <= newest_left,
                "{what}, and it was the newest good one"
            );
            assert!(!is_of(&self.held, id), "{what}, and {id} is held");
            let epoch = before[id].as_ref().map(|manifest| manifest.epoch);
            assert!(!self.is_leased(folder, epoch), "{what}, and somebody writes into its epoch");
        }
        for (id, manifest) in left {
            let mut requires = manifest.iter().flat_map(|manifest| &manifest.requires);
            assert!(!requires.any(|required| gone.contains(required)), "{what}, and {id} requires it");
        }
    }

    fn is_leased(&self, folder: &Folder, epoch: Option<ArtifactId>) -> bool {
        let now = self.fleet.clock.now() + MINUTE * 10;
        let memory = &self.fleet.stores[&folder.0].memory;
        let there = |name| memory.names().contains(name) && !self.is_spoilt(&folder.0, name);
        self.leases.iter().any(|(of, name, leased, until)| {
            of == folder && Some(*leased) == epoch && *until > now && there(name)
        })
    }

    fn is_declared(&self, backup: &FolderName) -> bool {
        self.declared.backups.contains_key(backup.as_str())
    }

    /// The newest artifact that nobody tampered with, and any other one, can be restored, and is what the source had.
    async fn assert_restorable(
        &mut self,
        folder: &Folder,
        artifacts: &BTreeMap<ArtifactId, Option<Manifest>>,
        ended: Option<&Pass>,
    ) {
        let at = self.folder(&folder.0, &folder.1);
        if self.judge.distrusted.contains(&folder.0) {
            return;
        }
        let whole: Vec<&Manifest> =
            artifacts.values().flatten().filter(|manifest| !self.is_tampered(&at, manifest)).collect();
        let newest = whole.iter().max_by_key(|manifest| (manifest.moment.newest(), manifest.artifact));
        let Some(newest) = newest else { return };
        let any = whole[self.random.below(whole.len() as u64) as usize];
        for chosen in BTreeMap::from([(newest.artifact, *newest), (any.artifact, any)]).into_values() {
            let made_of = self.made_of(&at, chosen).await;
            let key = (folder.clone(), chosen.artifact);
            if self.judge.restored.get(&key) != Some(&made_of) {
                self.assert_restores(&at, chosen, ended).await;
                self.judge.restored.insert(key, made_of);
            }
        }
    }

    async fn assert_restores(&self, folder: &BackupFolder, manifest: &Manifest, ended: Option<&Pass>) {
        let what = format!("{} of {} in {}", manifest.artifact, folder.backup, folder.name);
        let source = MemorySource::new(data_path(folder.backup.as_str()), self.fleet.data.clone());
        let progress: Arc<dyn Progress> = Arc::new(Unseen);
        let (chain, place) = (std::slice::from_ref(manifest), Place::Original);
        let restored =
            restore(chain, Logs::default(), folder, &source, &place, &self.fleet.keys, &progress).await;
        assert!(restored.is_ok(), "{what}: {restored:?}; {ended:#?}");
        let bytes = source.restored().unwrap();
        let had = is_infra(&folder.backup) || source.had(manifest.moment.newest(), &bytes);
        assert!(had, "{what} is not what the source had");
    }

    /// The bytes of an artifact's objects.
    async fn made_of(&self, folder: &BackupFolder, manifest: &Manifest) -> Vec<Bytes> {
        let mut contents = Vec::new();
        for name in objects_of(folder, manifest) {
            contents.push(folder.store.get(&name, None, u64::MAX).await.unwrap_or_default());
        }
        contents
    }

    pub(super) fn is_tampered(&self, folder: &BackupFolder, manifest: &Manifest) -> bool {
        objects_of(folder, manifest).iter().any(|name| self.is_spoilt(&folder.name, name))
    }

    fn is_spoilt(&self, store: &StoreName, name: &ObjectName) -> bool {
        self.tampered.contains_key(&(store.clone(), name.clone()))
    }
}

fn objects_of(folder: &BackupFolder, manifest: &Manifest) -> Vec<ObjectName> {
    let Content::Segments(segments) = &manifest.content else { return Vec::new() };
    let id = manifest.artifact;
    let packs = segments.packs.keys().map(|pack| folder.pack(*pack));
    packs.chain([folder.index(id), folder.manifest(id), folder.signature(id)]).collect()
}

/// The artifact whose manifest has this name.
fn artifact_of(name: &ObjectName) -> Option<(FolderName, ArtifactId)> {
    let fleet = "pavroto".parse().unwrap();
    match layout::classify(&fleet, name)? {
        layout::Object::Manifest(backup, id) => Some((backup, id)),
        _ => None,
    }
}

pub fn is_infra(folder: &FolderName) -> bool {
    folder.as_str() == INFRA
}
