//! Configuration files for `git`, in the state directory.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use crate::durable;

/// A configuration file in the state directory. Named after its content, so that it is never changed under a running program.
#[derive(Clone)]
pub(super) struct Configuration {
    path: PathBuf,
    text: Arc<str>,
}

/// Its text may name a token.
impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Configuration").field(&self.path).finish()
    }
}

/// What names of such files begin with.
const CONFIGURATION: &str = "gitconfig-";

/// How long such a file that names a user stays after its last use: far longer than any run of `git` takes.
const UNUSED: Duration = Duration::from_secs(7 * 24 * 3600);

impl Configuration {
    /// The file of that text in `state_dir`, which is there now.
    pub(super) fn of(state_dir: &Path, text: String) -> io::Result<Self> {
        let name = format!("{CONFIGURATION}{}", &hex::encode(Sha256::digest(&text))[..16]);
        let configuration = Self { path: state_dir.join(name), text: text.into() };
        configuration.use_now()?;
        Ok(configuration)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it where it is not there, and notes when it was used.
    pub(super) fn use_now(&self) -> io::Result<()> {
        match fs::File::open(&self.path) {
            Ok(file) => {
                // Where that can't be noted, it may be removed once, and is made again.
                let _ = file.set_modified(SystemTime::now());
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                durable::replace(&self.path, self.text.as_bytes())
            }
            Err(error) => Err(error),
        }
    }
}

/// Removes configuration files that name a user, who may be a token, and that nobody has used for long: of URLs that were changed.
pub(super) fn forget_unused(state_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(CONFIGURATION) {
            continue;
        }
        let age = entry.metadata()?.modified()?.elapsed();
        if age.is_ok_and(|age| age > UNUSED) && fs::read_to_string(entry.path())?.contains("[credential ") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_names_a_user_is_removed_once_nobody_uses_it() {
        let state = tempfile::tempdir().unwrap();
        let used = |text: &str| {
            let configuration = Configuration::of(state.path(), text.to_owned()).unwrap();
            forget_unused(state.path()).unwrap();
            configuration
        };
        let of = |user: &str| used(&format!("[credential \"https://example.org\"]\n\tusername = {user}\n"));
        let (old, local, new) = (of("old"), used("[core]\n"), of("new"));
        assert!(old.path.exists());
        for known in [&old, &local, &new] {
            let file = fs::File::open(&known.path).unwrap();
            file.set_modified(SystemTime::now() - UNUSED - Duration::from_secs(60)).unwrap();
        }
        of("new");
        assert_eq!([&old, &local, &new].map(|known| known.path.exists()), [false, true, true]);
        // Whoever does use it has it again.
        old.use_now().unwrap();
        of("new");
        assert!(old.path.exists());
    }
}
