//! Files that only this user can read, which vanish with their owner: how secrets reach a program.

use std::{io, io::Write, path::Path};

use tempfile::NamedTempFile;

/// A file of mode 0600 with a random name; removed when it is dropped.
#[derive(Debug)]
pub struct PrivateFile(NamedTempFile);

impl PrivateFile {
    /// Writes `content` into a new private file.
    ///
    /// # Errors
    /// The folder of temporary files is missing or full.
    pub fn new(content: &str) -> io::Result<Self> {
        let mut file = tempfile::Builder::new().prefix(".backstay-").tempfile()?;
        file.write_all(content.as_bytes())?;
        Ok(Self(file))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}
