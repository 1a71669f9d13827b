//! Files that only their owner may open, made so that of several makers one wins and all use its work.

use std::{
    fs, io,
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use super::KeysError;

/// The largest key file that is read, bytes.
const LARGEST: u64 = 1 << 20;

/// Makes a folder for its owner only, unless it exists; an existing one that others may write to is refused.
pub fn create_private_folder(dir: &Path) -> Result<(), KeysError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|reason| KeysError::Create { path: dir.to_owned(), reason })?;
    let found = fs::metadata(dir).map_err(|reason| KeysError::Read { path: dir.to_owned(), reason })?;
    refuse_exposed(dir, &found, 0o022)
}

/// Reads a file that only its owner may open, or makes it with what `content` returns.
pub fn read_or_create_secret(
    path: &Path,
    content: impl FnOnce() -> Result<Zeroizing<String>, KeysError>,
) -> Result<Zeroizing<String>, KeysError> {
    match read_secret(path) {
        Err(KeysError::Read { reason, .. }) if reason.kind() == io::ErrorKind::NotFound => {
            create(path, content()?.as_bytes(), 0o600)?;
            // Whoever came first, its content counts.
            read_secret(path)
        }
        read => read,
    }
}

/// Reads a file that only its owner may open.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeysError> {
    let failed = |reason| KeysError::Read { path: path.to_owned(), reason };
    let file = fs::File::open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    refuse_exposed(path, &found, 0o077)?;
    if !found.is_file() || found.len() > LARGEST {
        let reason = format!("it is not a file of at most {LARGEST} bytes");
        return Err(KeysError::Malformed { path: path.to_owned(), reason });
    }
    let mut text = Zeroizing::new(String::with_capacity(found.len() as usize + 1));
    file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

/// Makes a file that anybody may read, unless it exists.
pub fn create_public(path: &Path, content: &str) -> Result<(), KeysError> {
    if path.exists() { Ok(()) } else { create(path, content.as_bytes(), 0o644) }
}

/// Writes aside, syncs, and links into place without overwriting: a reader sees the whole file or none.
fn create(path: &Path, content: &[u8], mode: u32) -> Result<(), KeysError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut aside = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(dir)?;
        aside.write_all(content)?;
        aside.as_file().sync_all()?;
        match aside.persist_noclobber(path) {
            Err(lost) if lost.error.kind() != io::ErrorKind::AlreadyExists => return Err(lost.error),
            _ => {}
        }
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|reason| KeysError::Create { path: path.to_owned(), reason })
}

/// Refuses what grants others any of the `forbidden` permissions.
fn refuse_exposed(path: &Path, found: &fs::Metadata, forbidden: u32) -> Result<(), KeysError> {
    match found.mode() & 0o7777 {
        mode if mode & forbidden != 0 => Err(KeysError::Exposed { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}
