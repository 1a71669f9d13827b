//! Machines by hand: what a runbook prints, typed into a shell by somebody who has no Backstay. Taken out of the document itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{
    free_port,
    libvirt::{Hypervisor, base_image},
    run, schedules,
};

/// A domain whose network is QEMU's own.
const DOMAIN: &str = r#"{% extends "built-in/libvirt-domain.xml.tera" %}
{% block namespaces %} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'{% endblock %}
{% block network %}{% endblock %}
{% block end %}
  <qemu:commandline>
    <qemu:arg value='-netdev'/>
    <qemu:arg value='user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{{ ssh.port | xml }}-:22'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='virtio-net-pci,netdev=n0,addr=0x10'/>
  </qemu:commandline>
{% endblock %}
"#;

const PLAYBOOK: &str = "- hosts: all\n  gather_facts: false\n  roles: [motd]\n";
const ROLE: &str =
    "- name: say hello\n  copy: { dest: /etc/motd, content: \"hello {{ inventory_hostname }}\\n\" }\n";

struct Site {
    root: TempDir,
    hypervisor: Hypervisor,
}

impl Site {
    fn new() -> Self {
        let site = Self { root: tempfile::tempdir().unwrap(), hypervisor: Hypervisor::start() };
        let key = site.show("machines-key");
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]));
        for (name, content) in [
            ("infra/backup/fleet.toml", site.declared().as_str()),
            ("infra/templates/libvirt-domain.xml.tera", DOMAIN),
            ("infra/plays/site.yml", PLAYBOOK),
            ("infra/roles/motd/tasks/main.yml", ROLE),
            ("backstay.toml", &site.configured()),
        ] {
            let path = site.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let git = |arguments: &[&str]| {
            let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
            run(Command::new("git").arg("-C").arg(site.path("infra")).args(author).args(arguments));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "--all"]);
        git(&["commit", "-q", "-m", "Declare a machine"]);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn declared(&self) -> String {
        let recipient = backstay::keys::identity::generate(jiff::Timestamp::now()).recipient;
        let (root, uri, port) = (self.root.path().display(), self.hypervisor.uri(), free_port());
        let (image, disks, nightly) = (base_image(), self.hypervisor.disks(), schedules::nightly());
        format!(
            r#"
            [fleet]
            name = "pavroto"
            recipients = ["{recipient}"]
            [store.here.local]
            path = "{root}/store"
            [policy.nightly]
            full = "{nightly}"
            [backup.data]
            policy = "nightly"
            stores = ["here"]
            files = {{ paths = ["{root}/infra"] }}
            [vm.web]
            template = "cloud-init.yaml.tera"
            vars = {{ virt_type = "qemu" }}
            ssh = {{ host = "127.0.0.1", port = {port}, identity = {{ file = "{root}/machines-key" }} }}
            configure.ansible = {{ playbook = "plays/site.yml", limit = "web" }}
            libvirt = {{ uri = "{uri}", image = "{image}", disks = "{disks}", memory = "640MiB", cpus = 2 }}
            [recovery.site]
            steps = [
              {{ rebuild = "web" }},
              {{ run = ["sh", "-c", "echo \"it's back\" > /root/proof"], on = "web" }},
              {{ wait = {{ tcp = "127.0.0.1:{port}" }} }},
            ]
            "#,
            image = image.display(),
            disks = disks.display(),
        )
    }

    fn configured(&self) -> String {
        format!(
            r#"
            state_dir = "{root}/state"
            [repo]
            url = "{root}/infra"
            path = "backup"
            [keys]
            dir = "{root}/keys"
            [allow]
            read = ["{image}", "{root}/infra"]
            write = ["{disks}", "{root}/store"]
            secrets = [{{ path = "{root}/machines-key", hosts = ["web"] }}]
            machines = ["{uri}"]
            run = ["ansible-playbook"]
            "#,
            root = self.root.path().display(),
            image = base_image().parent().unwrap().display(),
            disks = self.hypervisor.disks().display(),
            uri = self.hypervisor.uri(),
        )
    }

    fn backstay(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(arguments).arg("--config").arg(self.path("backstay.toml")).output().unwrap()
    }

    /// Types these lines into one shell, in `folder`.
    fn typed(&self, folder: &Path, lines: &[String]) -> String {
        let mut shell = Command::new("timeout");
        shell.args(["900", "sh", "-euc", &lines.join("\n")]).current_dir(folder);
        // What whoever runs the tests has set up for Ansible must not matter.
        let output = shell.env("HOME", self.path("home")).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}\n{out}\n{err}", lines.join("\n"));
        out.into_owned()
    }
}

/// The lines that are typed, out of a runbook in Markdown: what is indented and in no fence, below "By hand".
pub fn lines_of(document: &str) -> Vec<String> {
    let (_, by_hand) = document.split_once("\n## By hand\n").expect("it has that part");
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for line in by_hand.lines() {
        match fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if line.starts_with("```") => fence = Some(line.trim_end_matches("text")),
            None => lines.extend(line.strip_prefix("    ").map(str::to_owned)),
        }
    }
    lines
}

#[test]
fn a_machine_is_made_and_configured_by_what_the_runbook_prints_and_is_backstays_own_afterwards() {
    let site = Site::new();
    let out = site.path("papers");
    let made = site.backstay(&["runbook", "--out", &out.display().to_string()]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let document = fs::read_to_string(out.join("site.md")).unwrap();
    let files = ["site.ssh_config", "site.files/web/user-data.form", "site.files/web/domain.xml.form"];
    for file in files {
        assert!(document.contains(file) && out.join(file).exists(), "{file}\n{document}");
    }
    assert!(!document.contains("PRIVATE KEY"), "{document}");

    std::os::unix::fs::symlink(site.path("infra"), out.join("INFRA")).unwrap();
    fs::create_dir(site.path("home")).unwrap();
    site.typed(&out, &lines_of(&document));

    let proofs = "ssh -F site.ssh_config web 'cat /root/proof /etc/motd; hostname'".to_owned();
    assert_eq!(site.typed(&out, &[proofs]), "it's back\nhello web\nweb\n");
    for file in site.hypervisor.files() {
        let path = site.hypervisor.disks().join(file);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{}", path.display());
    }

    // Backstay finds the machine that it would have made itself, and has nothing to say against it.
    let status = site.backstay(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    let found = &status["machines"]["web"]["machine"]["known"];
    assert_eq!((&found["state"], &found["drift"]), (&"running".into(), &serde_json::json!([])), "{found:#}");
    // Whoever types it once more destroys nothing.
    let lines = lines_of(&document);
    let guards: Vec<String> = lines.iter().filter(|line| line.starts_with("test '!' -e ")).cloned().collect();
    assert_eq!(guards.len(), 2, "{lines:?}");
    let again = Command::new("sh").args(["-euc", &guards.join("\n")]).status().unwrap();
    assert!(!again.success());
}
