//! Folders for the time of one piece of work, which only their owner may look into: what lies there may be plaintext.

use std::{fs::Permissions, io, os::unix::fs::PermissionsExt, path::Path};

use tempfile::{Builder, TempDir};

/// A folder where the system keeps such, removed with what it holds when it is dropped.
///
/// # Errors
/// As the file system's.
pub fn folder() -> io::Result<TempDir> {
    private("backstay-").tempdir()
}

/// The same in `place`; its name begins with `prefix`.
///
/// # Errors
/// As the file system's.
pub fn folder_in(place: &Path, prefix: &str) -> io::Result<TempDir> {
    private(prefix).tempdir_in(place)
}

fn private(prefix: &str) -> Builder<'_, 'static> {
    let mut builder = Builder::new();
    builder.prefix(prefix).permissions(Permissions::from_mode(0o700));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_look_into_them() {
        let outer = folder().unwrap();
        let inner = folder_in(outer.path(), "inner-").unwrap();
        for folder in [&outer, &inner] {
            assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
