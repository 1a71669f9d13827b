//! A folder of the controller's host.
//!
//! A put is written aside in `.backstay-tmp` of the root, synced, and linked into place without overwriting; then its
//! folder is synced. The root is never made silently: a mount point may just not be mounted. Folders below the root are
//! opened one by one without following symbolic links, so nothing in the store can lead out of it.

mod aside;
mod fault;
mod tree;
mod walk;

use std::{
    fs::{DirBuilder, File},
    io,
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use rustix::io::Errno;
use tokio::sync::OnceCell;

use self::{fault::Fault, tree::Root};
use super::{Capabilities, ErrorKind, Held, Listed, Put, Stat, Store, StoreError, extent::extent, probe};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// A folder of the controller's host.
#[derive(Clone)]
pub struct LocalStore {
    place: Arc<Place>,
}

struct Place {
    path: PathBuf,
    /// Whether the root was seen with the marks of a store: from then on a root without them is another file system.
    known: AtomicBool,
    /// Files of writers that died are removed once a process.
    swept: Once,
    capabilities: OnceCell<Capabilities>,
}

/// Makes the root of a store, for its owner only, with what it takes to tell it from an empty mount point. A root that
/// exists is left as it is.
pub fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let root = Root::open(path).map_err(io::Error::other)?;
    aside::folder(&root)?;
    Ok(())
}

impl LocalStore {
    /// The store in the folder `path`. Touches nothing before it is used.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let place = Place {
            path: path.into(),
            known: AtomicBool::new(false),
            swept: Once::new(),
            capabilities: OnceCell::new(),
        };
        Self { place: Arc::new(place) }
    }

    /// Runs `effect` on the store's root, away from the threads that must not block.
    async fn on_root<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: Option<&ObjectName>,
        effect: impl FnOnce(&Place, &Root) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.place.clone();
        let done = tokio::task::spawn_blocking(move || effect(&place, &place.root()?)).await;
        let subject = match subject {
            Some(name) => format!("{name} in {}", self.place.path.display()),
            None => self.place.path.display().to_string(),
        };
        match done {
            Ok(done) => done.map_err(|fault| fault.into_error(operation, subject)),
            Err(gone) => Err(StoreError::new(operation, subject, ErrorKind::Transient, gone.to_string())),
        }
    }
}

impl Place {
    fn root(&self) -> Result<Root, Fault> {
        let root = Root::open(&self.path)?;
        if aside::exists(&root)? {
            self.set_known();
        } else if self.known.load(Ordering::Relaxed) {
            return Err(Fault::RootChanged);
        }
        Ok(root)
    }

    fn put(&self, root: &Root, name: &ObjectName, content: &[u8]) -> Result<Put, Fault> {
        self.swept.call_once(|| aside::remove_stale(root));
        let put = aside::put(root, name, content)?;
        self.set_known();
        Ok(put)
    }

    fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        let object = name.clone();
        self.on_root("put", Some(name), move |place, root| place.put(root, &object, &content)).await
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        let object = name.clone();
        self.on_root("read", Some(name), move |_, root| read(root, &object, range, limit)).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        let object = name.clone();
        self.on_root("look at", Some(name), move |_, root| match tree::open_object(root, &object) {
            Ok((_, stat)) => Ok(Some(stat)),
            Err(Fault::NoObject) => Ok(None),
            Err(fault) => Err(fault),
        })
        .await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        let folder = under.clone();
        self.on_root("list", Some(under), move |_, root| walk::list(root, &folder)).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let object = name.clone();
        self.on_root("delete", Some(name), move |_, root| tree::remove(root, &object)).await
    }

    /// By the file system, which may be another host's; by this host where nothing can be written.
    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.on_root("ask for the time of", None, |_, root| match aside::now(root) {
            Err(Fault::Os(Errno::ROFS | Errno::ACCESS | Errno::PERM)) => Ok(Timestamp::now()),
            now => now,
        })
        .await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        let probe = async || {
            Ok(Capabilities {
                conditional_put: probe::conditional_put(self).await?,
                checksums: Held::Untried,
                object_lock: Held::Untried,
            })
        };
        self.place.capabilities.get_or_try_init(probe).await.copied()
    }

    async fn rules(&self, _under: &ObjectName) -> Result<StoreRules, StoreError> {
        Ok(StoreRules::default())
    }
}

fn read(root: &Root, name: &ObjectName, range: Option<Range<u64>>, limit: u64) -> Result<Bytes, Fault> {
    let (file, stat) = tree::open_object(root, name)?;
    let bytes = extent(stat.size, range, limit)?;
    let mut content = vec![0; (bytes.end - bytes.start) as usize];
    File::from(file).read_exact_at(&mut content, bytes.start).map_err(|e| match e.raw_os_error() {
        Some(code) => Fault::Os(Errno::from_raw_os_error(code)),
        None => Fault::Shrank,
    })?;
    Ok(content.into())
}
