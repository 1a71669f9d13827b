//! What a capture that failed may have left in a store, and its removal.

use crate::{
    artifact::{
        ArtifactId,
        layout::{ObjectName, PackName},
    },
    committed::BackupFolder,
};

/// What a capture began to write: each object may be there whole, in part or not at all.
#[derive(Debug, Default)]
pub struct Trail {
    /// The turns of the lease.
    pub lease: Vec<ObjectName>,
    /// The number of packs.
    pub packs: u32,
    /// The index.
    pub index: bool,
    /// The manifest's signature.
    pub signature: bool,
    /// The manifest.
    pub manifest: bool,
    /// The manifest may be there, whole: nothing may be removed.
    pub keep: bool,
}

impl Trail {
    /// Removes all of it, manifest first and lease last, and returns what could not be removed. The first object that
    /// cannot be removed ends it, for a store that is away would keep us waiting for each.
    pub async fn remove(&self, folder: &BackupFolder, id: ArtifactId) -> Vec<ObjectName> {
        let names = self.names(folder, id);
        if self.keep {
            return names;
        }
        for (at, name) in names.iter().enumerate() {
            if let Err(error) = folder.store.delete(name).await {
                tracing::warn!(object = %name, %error, "left behind by a capture that failed");
                return names[at..].to_vec();
            }
        }
        Vec::new()
    }

    fn names(&self, folder: &BackupFolder, id: ArtifactId) -> Vec<ObjectName> {
        let when = |written: bool, name: ObjectName| written.then_some(name);
        let packs = (0..self.packs).map(|number| PackName { artifact: id, number });
        when(self.manifest, folder.manifest(id))
            .into_iter()
            .chain(when(self.signature, folder.signature(id)))
            .chain(when(self.index, folder.index(id)))
            .chain(packs.map(|pack| folder.pack(pack)))
            .chain(self.lease.iter().cloned())
            .collect()
    }
}
