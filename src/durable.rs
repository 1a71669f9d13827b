//! Small files of the state directory, replaced as a whole and durably.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

/// Such a file is never larger than this, bytes.
const LARGEST: u64 = 16 << 20;

/// Reads a JSON file; `None` where it is missing or nothing that we wrote: what stands in it can be had again.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let file = File::open(path).ok()?;
    serde_json::from_reader(io::BufReader::new(file.take(LARGEST))).ok()
}

/// Replaces a JSON file.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?)
}

/// Replaces a file's content: a reader sees the old or the new one, whenever the power fails. Only its user may read it.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, 0o600)
}

/// The same, of a file that everybody may read. A link in its place is replaced, not followed.
pub fn replace_public(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, 0o644)
}

fn replace_with(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // The parent of a bare name is empty.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    aside.write_all(content)?;
    aside.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    aside.as_file().sync_all()?;
    aside.persist(path).map_err(|e| e.error)?;
    File::open(folder)?.sync_all()
}
