//! A private folder that `init` and `demo` fill.

use std::{
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

/// A folder that was made for the purpose: absolute, private, its path safe inside a TOML string.
#[derive(Debug)]
pub(super) struct Folder {
    root: String,
}

impl Folder {
    /// Makes the folder, which must not exist or be empty.
    pub(super) fn make(path: &Path) -> anyhow::Result<Self> {
        let occupied = fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
        if occupied {
            bail!("{} exists and is not empty; name a new folder", path.display());
        }
        make_private(path)?;
        let root = path.canonicalize()?.into_os_string().into_string().ok();
        match root.filter(|root| !root.chars().any(|c| c.is_control() || matches!(c, '"' | '\\' | '{'))) {
            Some(root) => Ok(Self { root }),
            None => bail!("{} can't be written into a configuration; name a plainer folder", path.display()),
        }
    }

    /// Its absolute path.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// A path inside it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        Path::new(&self.root).join(name)
    }

    /// Makes a folder inside it.
    pub(super) fn folder(&self, name: &str) -> anyhow::Result<()> {
        make_private(&self.path(name))
    }

    /// Writes a new file inside it, and the folders that it needs.
    pub(super) fn write(&self, name: &str, content: &str) -> anyhow::Result<()> {
        let path = self.path(name);
        if let Some((folder, _)) = name.rsplit_once('/') {
            self.folder(folder)?;
        }
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .with_context(|| format!("failed to write {}", path.display()))
    }
}

fn make_private(path: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("failed to make {}", path.display()))
}
