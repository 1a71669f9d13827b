//! The private folder of one run: everything that Ansible would otherwise look for in whoever's home it runs in.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde_json::json;
use tempfile::TempDir;

use crate::ssh::{self, Files, Login};

const CALLBACK: &str = include_str!("backstay.py");

/// A host that is no declared machine has no pinned key.
const OTHERS: &str = "Host *
  BatchMode yes
  StrictHostKeyChecking yes
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  IdentitiesOnly yes
  IdentityAgent none
";

/// The folder; removed when dropped.
pub(super) struct Folder {
    folder: TempDir,
    roles: PathBuf,
    collections: PathBuf,
}

impl Folder {
    pub(super) fn make(logins: &BTreeMap<String, (Login, Files)>, tree: &Path) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("backstay-ansible-").permissions(private).tempdir()?;
        for inner in ["home", "plugins", "temporary"] {
            DirBuilder::new().mode(0o700).create(folder.path().join(inner))?;
        }
        let hosts: serde_json::Map<String, _> = logins.keys().map(|name| (name.clone(), json!({}))).collect();
        let inventory = json!({ "all": { "hosts": hosts } }).to_string();
        let connections: String = logins
            .iter()
            .map(|(name, (login, files))| ssh::config(name, login, files))
            .chain([OTHERS.to_owned()])
            .collect();
        write(folder.path(), "inventory.json", &inventory)?;
        write(folder.path(), "ssh_config", &connections)?;
        write(folder.path(), "plugins/backstay.py", CALLBACK)?;
        write(folder.path(), "ansible.cfg", &configuration(folder.path()))?;
        Ok(Self { folder, roles: tree.join("roles"), collections: tree.join("collections") })
    }

    pub(super) fn inventory(&self) -> PathBuf {
        self.folder.path().join("inventory.json")
    }

    pub(super) fn environment(&self) -> Vec<(&'static str, std::ffi::OsString)> {
        let here = |name: &str| self.folder.path().join(name).into_os_string();
        let beside = |own: &Path, shared: &str| {
            let mut paths = own.as_os_str().to_owned();
            paths.push(":");
            paths.push(shared);
            paths
        };
        vec![
            ("ANSIBLE_CONFIG", here("ansible.cfg")),
            ("ANSIBLE_HOME", here("home")),
            ("ANSIBLE_ROLES_PATH", beside(&self.roles, "/usr/share/ansible/roles")),
            ("ANSIBLE_COLLECTIONS_PATH", beside(&self.collections, "/usr/share/ansible/collections")),
            ("HOME", here("home")),
            // Ansible refuses to start where texts aren't UTF-8.
            ("LC_ALL", "C.UTF-8".into()),
        ]
    }
}

fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "[defaults]
stdout_callback = backstay
callback_plugins = {folder}/plugins
local_tmp = {folder}/temporary
retry_files_enabled = False
host_key_checking = True
interpreter_python = auto_silent
nocows = True
nocolor = True
timeout = 30

[ssh_connection]
pipelining = True
ssh_args = -F {folder}/ssh_config
"
    )
}

fn write(folder: &Path, name: &str, content: &str) -> io::Result<()> {
    let path = folder.join(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(content.as_bytes())?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))
}
