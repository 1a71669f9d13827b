//! Several fleets on one host: a folder with the configuration of each.

mod commands;

use std::{fs, path::PathBuf};

use crate::passes::Fleet;

/// A folder of configurations.
pub struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder().join(format!("{name}.toml"))
    }

    /// Has the controller of this host run `fleet`; `more` is added to its configuration.
    pub fn add(&self, name: &str, fleet: &Fleet, more: &str) {
        let root = fleet.path("");
        let root = root.to_str().unwrap().trim_end_matches('/');
        let text = format!(
            r#"
            state_dir = "{root}/state"
            repo = {{ url = "{}", path = "backup" }}
            keys.dir = "{root}/keys"
            [allow]
            read = ["{root}/data"]
            write = ["{root}/stores"]
            {more}
            "#,
            fleet.repo.path.display()
        );
        self.write(name, &text);
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }
}
