//! The private files of a connection: the pinned key, and the identity where it is not a file of its own.

use std::{
    fs::{OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::{Identity, KEY_ALIAS, Login};

/// Files that only this user can read; removed when dropped.
#[derive(Debug)]
pub struct Files {
    known_hosts: PathBuf,
    identity: PathBuf,
    _folder: TempDir,
}

impl Files {
    /// Writes what a login needs.
    ///
    /// # Errors
    /// The folder of temporary files is missing or full.
    pub fn write(login: &Login) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("backstay-ssh-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let pinned = format!("{KEY_ALIAS} {}\n", login.host_key());
        let known_hosts = write_private(folder.path(), "known_hosts", &pinned)?;
        let identity = match login.identity() {
            Identity::File(path) => path.clone(),
            // `ssh` takes a key only with the end of its last line.
            Identity::Key(key) => write_private(folder.path(), "identity", &format!("{}\n", key.trim_end()))?,
        };
        Ok(Self { known_hosts, identity, _folder: folder })
    }

    pub(super) fn known_hosts_word(&self) -> String {
        unexpanded(&self.known_hosts)
    }

    pub(super) fn identity_word(&self) -> String {
        unexpanded(&self.identity)
    }
}

/// A path in which `ssh` expands nothing.
fn unexpanded(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%%")
}

fn write_private(folder: &Path, name: &str, content: &str) -> io::Result<PathBuf> {
    let path = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    Ok(path)
}
