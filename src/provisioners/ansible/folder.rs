//! The private folder of one run: everything that Ansible would otherwise look for in whoever's home it runs in.

use std::{
    fs::{self, DirBuilder, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;

use super::{super::Play, Logins};
use crate::{process::Program, spec::names::DrillName, ssh};

/// How long a connection stays open that nothing uses, seconds.
const IDLE: u32 = 30;

/// How long ending one may take.
const END: Duration = Duration::from_secs(10);

/// The file of what a drill sets.
const VARIABLES: &str = "variables.json";

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
    hosts: Vec<String>,
    is_drill: bool,
    roles: PathBuf,
    collections: PathBuf,
}

impl Folder {
    pub(super) fn make(logins: &Logins, play: &Play<'_>) -> io::Result<Self> {
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("backstay-ansible-").permissions(private).tempdir()?;
        for inner in ["home", "plugins", "temporary"] {
            DirBuilder::new().mode(0o700).create(folder.path().join(inner))?;
        }
        let hosts: serde_json::Map<String, _> = logins.keys().map(|name| (name.clone(), json!({}))).collect();
        let inventory = json!({ "all": { "hosts": hosts } }).to_string();
        let hosts_of_ssh: Vec<String> = logins.keys().cloned().collect();
        let mut connections = String::new();
        for (number, (name, login)) in logins.iter().enumerate() {
            let Ok((login, files)) = login else {
                connections += &format!("Host {name}\n  ProxyCommand false\n");
                continue;
            };
            // Of several values ssh takes the first: the tasks of a run share one connection to each machine.
            let socket = folder.path().join(format!("s{number}"));
            connections += &format!(
                "Host {name}\n  ControlMaster auto\n  ControlPath \"{}\"\n  ControlPersist {IDLE}\n",
                socket.display()
            );
            connections += &ssh::config(name, login, files);
        }
        connections += OTHERS;
        write(folder.path(), "inventory.json", &inventory)?;
        write(folder.path(), "ssh_config", &connections)?;
        write(folder.path(), "plugins/backstay.py", CALLBACK)?;
        write(folder.path(), "ansible.cfg", &configuration(folder.path()))?;
        if let Some(drill) = play.drill {
            write(folder.path(), VARIABLES, &variables(drill, folder.path()))?;
        }
        let (roles, collections) = (play.tree.join("roles"), play.tree.join("collections"));
        Ok(Self { folder, hosts: hosts_of_ssh, is_drill: play.drill.is_some(), roles, collections })
    }

    /// Ends the connections that are shared. Those of a run that was cut off end by themselves, [`IDLE`] later.
    pub(super) async fn disconnect(&self) {
        for host in &self.hosts {
            let ssh = Program::new("ssh").argument("-F").argument(self.folder.path().join("ssh_config"));
            let ssh = ssh.arguments(["-O", "exit", "--", host]).discard_output().timeout(END);
            // Where there is no connection it fails, and that is well.
            if let Ok(process) = ssh.start() {
                let _ = process.finish().await;
            }
        }
    }

    pub(super) fn inventory(&self) -> PathBuf {
        self.folder.path().join("inventory.json")
    }

    /// What goes before all other variables, where anything does.
    pub(super) fn variables(&self) -> Option<PathBuf> {
        self.is_drill.then(|| self.folder.path().join(VARIABLES))
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

/// What a drill sets whatever a playbook says: every task goes by our own configuration of ssh, which leads to the machines of the drill
/// and nowhere else.
fn variables(drill: &DrillName, folder: &Path) -> String {
    let variables = json!({
        "backstay_drill": drill,
        "ansible_connection": "ssh",
        "ansible_ssh_executable": "ssh",
        "ansible_ssh_args": format!("-F {}", folder.join("ssh_config").display()),
        "ansible_ssh_common_args": "",
        "ansible_ssh_extra_args": "",
    });
    variables.to_string()
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
