//! Committed artifacts as they stand in a store: manifests whose signature is trusted, read strictly.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    artifact::{
        ArtifactId,
        layout::{self, Holder, ObjectName, PackName},
        manifest::{Content, FORMAT, Manifest, SIGNATURE_NAMESPACE},
    },
    keys::Keys,
    spec::names::{FleetName, FolderName, StoreName},
    stores::{ErrorKind, Store, StoreError},
};

/// A manifest is never longer, bytes: it grows with the packs, some 120 bytes each.
pub const LONGEST_MANIFEST: u64 = 64 << 20;

/// A signature is never longer, bytes.
pub const LONGEST_SIGNATURE: u64 = 16 << 10;

/// The folder of one backup in one store.
#[derive(Clone)]
pub struct BackupFolder {
    /// The store's name, for people.
    pub name: StoreName,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whose backup it is.
    pub fleet: FleetName,
    /// Its name.
    pub backup: FolderName,
}

impl BackupFolder {
    /// The folder itself.
    pub fn folder(&self) -> ObjectName {
        layout::backup(&self.fleet, &self.backup)
    }

    /// An artifact's manifest.
    pub fn manifest(&self, id: ArtifactId) -> ObjectName {
        layout::manifest(&self.fleet, &self.backup, &id)
    }

    /// The signature of an artifact's manifest.
    pub fn signature(&self, id: ArtifactId) -> ObjectName {
        layout::manifest_signature(&self.fleet, &self.backup, &id)
    }

    /// A pack.
    pub fn pack(&self, pack: PackName) -> ObjectName {
        layout::pack(&self.fleet, &self.backup, &pack)
    }

    /// The folder of what one artifact wrote.
    pub fn packs_of(&self, id: ArtifactId) -> ObjectName {
        layout::packs_of(&self.fleet, &self.backup, &id)
    }

    /// An artifact's index.
    pub fn index(&self, id: ArtifactId) -> ObjectName {
        layout::index(&self.fleet, &self.backup, &id)
    }

    /// The folder of the leases.
    pub fn open(&self) -> ObjectName {
        layout::open(&self.fleet, &self.backup)
    }

    /// A turn of a lease.
    pub fn lease(&self, holder: Holder, turn: u32) -> ObjectName {
        layout::lease(&self.fleet, &self.backup, &holder, turn)
    }
}

/// A manifest with a trusted signature, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// What it says.
    pub manifest: Manifest,
    /// Its exact bytes, which are signed.
    pub bytes: Bytes,
    /// The armored signature.
    pub signature: Bytes,
}

/// Why a manifest could not be read or believed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The store did not answer: nothing is known of the manifest.
    #[error(transparent)]
    Store(StoreError),
    /// The manifest or its signature is not there.
    #[error("failed to read {object} in {store}: it is missing; see backstay list for what the stores hold")]
    Missing {
        /// The manifest or the signature.
        object: ObjectName,
        /// Where.
        store: StoreName,
    },
    /// No trusted key signed these bytes.
    #[error(
        "failed to trust {object} in {store}: {reason}; list the earlier controller's key in keys.trusted, or verify with --repair"
    )]
    Untrusted {
        /// The manifest.
        object: ObjectName,
        /// Where.
        store: StoreName,
        /// Why.
        reason: String,
    },
    /// Signed, and still not what belongs there: of another format, or another artifact's.
    #[error(
        "failed to understand {object} in {store}: {reason}; read it with the version of Backstay that wrote it"
    )]
    Malformed {
        /// The manifest.
        object: ObjectName,
        /// Where.
        store: StoreName,
        /// Why.
        reason: String,
    },
}

impl ReadError {
    /// Whether the manifest or its signature was seen to be gone or altered, rather than not seen.
    pub fn is_damage(&self) -> bool {
        match self {
            ReadError::Missing { .. } | ReadError::Untrusted { .. } => true,
            // A store refuses to read what is larger than a manifest can be.
            ReadError::Store(error) => error.kind == ErrorKind::Protocol,
            ReadError::Malformed { .. } => false,
        }
    }
}

/// Reads an artifact's manifest and checks its signature.
pub async fn read(folder: &BackupFolder, id: ArtifactId, keys: &Keys) -> Result<Committed, ReadError> {
    let object = folder.manifest(id);
    let bytes = read_object(folder, &object, LONGEST_MANIFEST).await?;
    let signature = read_object(folder, &folder.signature(id), LONGEST_SIGNATURE).await?;
    keys.verify(SIGNATURE_NAMESPACE, &bytes, &signature).map_err(|untrusted| ReadError::Untrusted {
        object: object.clone(),
        store: folder.name.clone(),
        reason: untrusted.to_string(),
    })?;
    let manifest = parse(folder, id, &bytes).map_err(|reason| ReadError::Malformed {
        object,
        store: folder.name.clone(),
        reason,
    })?;
    Ok(Committed { manifest, bytes, signature })
}

async fn read_object(folder: &BackupFolder, object: &ObjectName, limit: u64) -> Result<Bytes, ReadError> {
    folder.store.get(object, None, limit).await.map_err(|error| match error.kind {
        ErrorKind::NotFound => ReadError::Missing { object: object.clone(), store: folder.name.clone() },
        _ => ReadError::Store(error),
    })
}

/// Reads a manifest that must be the one of artifact `id` in `folder`.
fn parse(folder: &BackupFolder, id: ArtifactId, bytes: &[u8]) -> Result<Manifest, String> {
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let told = (&manifest.fleet, &manifest.backup, manifest.artifact);
    if manifest.format != FORMAT {
        Err(format!("it is of the format {}, not {FORMAT}", manifest.format.escape_debug()))
    } else if told != (&folder.fleet, &folder.backup, id) {
        Err(format!("it is the manifest of {}/{}/{}", told.0, told.1, told.2))
    } else {
        Ok(manifest)
    }
}

/// Whether two manifests, perhaps of different names, commit what one and the same capture read. Copies and repairs keep
/// all of this, also those that are encrypted anew.
pub fn same_capture(a: &Manifest, b: &Manifest) -> bool {
    let read = |m: &Manifest| (m.content_name(), m.kind, m.started, m.moment.clone(), m.revision.clone());
    let same_content = match (&a.content, &b.content) {
        (Content::Segments(a), Content::Segments(b)) => {
            (&a.stream, a.count, a.length) == (&b.stream, b.count, b.length)
        }
        (Content::Native { .. }, Content::Native { .. }) => a.content == b.content,
        _ => false,
    };
    same_content && read(a) == read(b)
}
