//! Machines by hand: how they are logged in to, how playbooks and programs run on them, and how what must be there is waited for.

use std::path::Path;

use super::{
    Hand, Line, Prepared,
    connection::{mysql_connection, postgres_connection},
};
use crate::spec::{
    Ansible, Etcd, Ready, SecretRef, Source, Spec, Ssh, Tls, Vm,
    names::{BackupName, FolderName, RecoveryName, TrafficName, VmName},
    traffic::Side,
};

/// Stands for the checkout of the infra repo.
pub const INFRA: &str = "INFRA";

/// The files and folders that the lines of one recovery name, from the folder in which is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    recovery: RecoveryName,
}

impl Folders {
    /// Those of a recovery.
    pub fn of(recovery: &RecoveryName) -> Self {
        // No recovery's documents and no other's files are called so: what follows the last dot tells them apart.
        Self { recovery: recovery.clone() }
    }

    /// What tells `ssh` of the machines.
    pub fn ssh_config(&self) -> String {
        format!("{}.ssh_config", self.recovery)
    }

    /// What a machine is made of.
    pub fn machine(&self, vm: &VmName) -> String {
        format!("{}.files/{vm}", self.recovery)
    }

    /// What leads traffic to a side, `by` a program.
    pub fn switch(&self, by: &str, traffic: &TrafficName, to: Side) -> String {
        format!("{}.{by}/{traffic}-{to}", self.recovery)
    }

    /// What a backup is restored with.
    pub fn restore(&self, backup: &FolderName) -> String {
        format!("{}.restore/{backup}", self.recovery)
    }

    /// The key that a machine must prove itself with.
    pub fn known_hosts(&self, vm: &VmName) -> String {
        known_hosts(&self.machine(vm))
    }
}

/// Within a machine's folder, the key that it must prove itself with.
pub fn known_hosts(folder: &str) -> String {
    format!("{folder}/known_hosts")
}

/// How the declared machines are reached: what `ssh` is told of them, and the keys that are declared.
pub fn files(spec: &Spec, folders: &Folders) -> Vec<Prepared> {
    let reached: Vec<(&Vm, &Ssh)> = spec.vms.values().filter_map(|vm| Some((vm, vm.ssh.as_ref()?))).collect();
    if reached.is_empty() {
        return Vec::new();
    }
    let config = reached.iter().map(|(vm, ssh)| section(&vm.name, ssh, folders)).collect();
    let pinned = reached.iter().filter_map(|(vm, ssh)| {
        let (path, key) = (folders.known_hosts(&vm.name), word(ssh.host_key.as_deref()?, " ")?);
        Some(Prepared { path, content: format!("{} {key}\n", vm.name) })
    });
    [Prepared { path: folders.ssh_config(), content: config }].into_iter().chain(pinned).collect()
}

/// A section of ssh_config(5).
fn section(name: &VmName, ssh: &Ssh, folders: &Folders) -> String {
    let host = ssh.host.as_deref().and_then(|host| word(host, ""));
    let lines = [
        format!("Host {name}"),
        format!("HostName {}", host.unwrap_or(&address_of(name))),
        format!("Port {}", ssh.port.unwrap_or(22)),
        format!("User {}", word(&ssh.user, "").unwrap_or("USER")),
        format!("IdentityFile \"{}\"", identity(name, ssh)),
        "IdentitiesOnly yes".to_owned(),
        format!("HostKeyAlias {name}"),
        format!("UserKnownHostsFile \"{}\"", folders.known_hosts(name)),
        "GlobalKnownHostsFile /dev/null".to_owned(),
        "StrictHostKeyChecking yes".to_owned(),
        "BatchMode yes".to_owned(),
        // A machine that is coming up takes connections before it answers on them.
        "ConnectTimeout 20".to_owned(),
        "ServerAliveInterval 15".to_owned(),
    ];
    lines.join("\n  ") + "\n"
}

fn address_of(name: &VmName) -> String {
    format!("ADDRESS-OF-{name}")
}

/// The file of the private key: as declared, or one to be put there.
fn identity(name: &VmName, ssh: &Ssh) -> String {
    let declared = match &ssh.identity {
        SecretRef::File(path) => path.to_str().and_then(|path| word(path, " ")),
        _ => None,
    };
    // A `%` begins something that ssh expands.
    declared.map_or_else(|| format!("identity-of-{name}"), |path| path.replace('%', "%%"))
}

/// A declared text that can be nothing but one word of a configuration of ssh, with what of `also` it may hold besides.
fn word<'a>(text: &'a str, also: &str) -> Option<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%~[]".contains(c) || also.contains(c);
    (!text.is_empty() && text.chars().all(is_plain)).then_some(text)
}

/// What sees to it that a machine is reached, and runs its playbook.
pub fn configure(spec: &Spec, vm: &VmName, folders: &Folders) -> Vec<Hand> {
    let Some(declared) = spec.vms.get(vm) else { return Vec::new() };
    let Some(ssh) = &declared.ssh else {
        return vec![Hand::Know(format!("nothing says how {vm} is logged in to: see that it runs"))];
    };
    let mut hands = Vec::new();
    if !matches!(ssh.identity, SecretRef::File(_)) {
        let identity = identity(vm, ssh);
        hands
            .push(Hand::Know(format!("put the private key that logs in to {vm} into {identity}, mode 0600")));
    }
    if ssh.host.is_none() {
        let (address, config) = (address_of(vm), folders.ssh_config());
        hands.push(Hand::Know(format!("put the address of {vm} in the place of {address} in {config}")));
    }
    hands.push(Hand::Await(ssh_to(vm, ["true"], folders)));
    hands.extend(declared.ansible.as_ref().map(|ansible| Hand::Type(playbook(spec, ansible, folders))));
    hands
}

/// What runs a program on a machine.
pub fn program(vm: &VmName, command: &[String], folders: &Folders) -> Line {
    // ssh hands the words on to a shell there: what is typed is quoted once more.
    ssh_to(vm, [Line::of(command.iter().cloned()).to_string()], folders)
}

fn ssh_to<const N: usize>(vm: &VmName, command: [impl Into<String>; N], folders: &Folders) -> Line {
    let words = ["ssh".to_owned(), "-F".to_owned(), folders.ssh_config(), vm.to_string()];
    Line::of(words.into_iter().chain(command.map(Into::into)))
}

/// What runs a playbook of the infra repo.
pub fn playbook(spec: &Spec, ansible: &Ansible, folders: &Folders) -> Line {
    let inventory = match &ansible.inventory {
        Some(path) => format!("{INFRA}/{path}"),
        // Ansible takes a list for hosts, not for a file, by its comma.
        None => spec.vms.keys().map(|name| format!("{name},")).collect(),
    };
    // Backstay has roles and collections found in the infra repo's root; Ansible by itself only beside the playbook.
    let search = ansible.playbook.contains('/').then(|| {
        let (roles, collections) = (format!("{INFRA}/roles"), format!("{INFRA}/collections"));
        [
            "env".to_owned(),
            format!("ANSIBLE_ROLES_PATH={roles}:/usr/share/ansible/roles"),
            format!("ANSIBLE_COLLECTIONS_PATH={collections}:/usr/share/ansible/collections"),
        ]
    });
    let mut words: Vec<String> = search.into_iter().flatten().collect();
    words.extend(["ansible-playbook", "--inventory"].map(str::to_owned));
    words.extend([inventory, format!("--ssh-common-args=-F {}", folders.ssh_config())]);
    words.extend(ansible.limit.iter().map(|limit| format!("--limit={limit}")));
    words.push(format!("{INFRA}/{}", ansible.playbook));
    Line::of(words)
}

/// What waits until something is there.
pub fn wait(spec: &Spec, until: &Ready) -> Vec<Hand> {
    match until {
        Ready::Http(url) => answers(url, []).map(Hand::Await).into_iter().collect(),
        Ready::Tcp(place) => match place.rsplit_once(':') {
            Some((host, port)) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let connect = r#": < "/dev/tcp/$0/$1""#;
                vec![Hand::Await(Line::of(["timeout", "20", "bash", "-c", connect, host, port]))]
            }
            None => vec![Hand::Know(format!("see that {until}"))],
        },
        Ready::Source(backup) => match asks(spec, backup) {
            Some(line) => vec![Hand::Await(line)],
            None => vec![Hand::Know(format!("see that {until}"))],
        },
    }
}

fn answers<const N: usize>(url: &str, with: [Option<(&str, &Path)>; N]) -> Option<Line> {
    let mut line = Line::of(["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null"]);
    for (option, file) in with.into_iter().flatten() {
        line.program.extend([option.to_owned(), file.to_str()?.to_owned()]);
    }
    line.program.push(url.to_owned());
    Some(line)
}

/// The authority that must have signed what a server shows, as `curl` takes it.
fn authority(tls: &Tls) -> Option<(&'static str, &Path)> {
    match tls {
        Tls::Default => None,
        Tls::Verified { ca } => Some(("--cacert", ca)),
    }
}

/// What asks a backup's source whether it is there; `None` where its engine has no program for that, or where that would need a
/// secret that lies in no file.
fn asks(spec: &Spec, backup: &BackupName) -> Option<Line> {
    let asked = |program: &[&str], connection: Vec<String>| {
        Line::of(program.iter().map(ToString::to_string).chain(connection))
    };
    match &spec.backups.get(backup)?.source {
        Source::Mysql(mysql) => {
            // It answers also to who may not log in: no password is needed.
            let connection = mysql_connection(&mysql.server).into_iter();
            Some(asked(&["mariadb-admin", "ping"], connection.filter(|word| word != "--password").collect()))
        }
        Source::Postgres(postgres) => Some(asked(&["pg_isready"], postgres_connection(&postgres.server))),
        Source::Influxdb(influxdb) => {
            let (server, authority) = (&influxdb.server, authority(&influxdb.server.tls));
            let scheme = if authority.is_some() { "https" } else { "http" };
            let url = format!("{scheme}://{}:{}/ping", server.host, server.port.unwrap_or(8086));
            answers(&url, [authority])
        }
        Source::Influxdb2(influxdb) => {
            answers(&format!("{}/health", influxdb.url), [authority(&influxdb.tls)])
        }
        Source::Etcd(etcd) => health_of(etcd),
        Source::Sqlite { path } => Some(Line::of(["test", "-e", path.to_str()?])),
        Source::Files(files) => Some(Line::of(["test", "-e", files.paths.first()?.to_str()?])),
        _ => None,
    }
}

fn health_of(etcd: &Etcd) -> Option<Line> {
    let url = format!("{}/health", etcd.endpoints.first()?);
    let ca = etcd.ca.as_deref().map(|ca| ("--cacert", ca));
    let Some(certificate) = &etcd.certificate else { return answers(&url, [ca]) };
    let SecretRef::File(key) = &certificate.key else { return None };
    answers(&url, [ca, Some(("--cert", &certificate.path)), Some(("--key", key))])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::spec::{Fleet, OnLoss, Provision, Terraform, TerraformProgram, TerraformState};

    fn spec(ssh: Ssh) -> Spec {
        let fleet =
            Fleet { name: "f".parse().unwrap(), time_zone: jiff::tz::TimeZone::UTC, recipients: Vec::new() };
        let vm = Vm {
            name: "web".parse().unwrap(),
            template: "t".to_owned(),
            vars: BTreeMap::new(),
            provision: Provision::Terraform(Terraform {
                program: TerraformProgram::Terraform,
                variables: BTreeMap::new(),
                state: TerraformState::Backend,
            }),
            ssh: Some(ssh),
            ansible: Some(Ansible {
                playbook: "plays/web.yml".to_owned(),
                limit: Some("web".to_owned()),
                inventory: None,
            }),
            on_loss: OnLoss::Report,
            stands_for: None,
        };
        let mut spec = Spec::of(fleet);
        spec.vms.insert(vm.name.clone(), vm);
        spec
    }

    fn ssh(host: &str) -> Ssh {
        Ssh {
            user: "root".to_owned(),
            host: Some(host.to_owned()),
            port: Some(2222),
            identity: SecretRef::File("/etc/backstay/100% key".into()),
            host_key: Some("ssh-ed25519 AAAA".to_owned()),
        }
    }

    fn folders() -> Folders {
        Folders::of(&"site".parse().unwrap())
    }

    #[test]
    fn a_machine_is_reached_by_its_pinned_key_and_its_playbook_finds_the_roles_of_the_repo() {
        let spec = spec(ssh("192.0.2.1"));
        let files = files(&spec, &folders());
        assert_eq!(files[0].path, "site.ssh_config");
        for line in ["Host web\n", "HostName 192.0.2.1\n", "IdentityFile \"/etc/backstay/100%% key\"\n"] {
            assert!(files[0].content.contains(line), "{}", files[0].content);
        }
        let pinned = Prepared {
            path: "site.files/web/known_hosts".to_owned(),
            content: "web ssh-ed25519 AAAA\n".to_owned(),
        };
        assert_eq!(files[1], pinned);
        let typed: Vec<String> =
            configure(&spec, &"web".parse().unwrap(), &folders()).iter().map(ToString::to_string).collect();
        assert_eq!(
            typed,
            [
                "until ssh -F site.ssh_config web true; do sleep 5; done",
                "env ANSIBLE_ROLES_PATH=INFRA/roles:/usr/share/ansible/roles \
                 ANSIBLE_COLLECTIONS_PATH=INFRA/collections:/usr/share/ansible/collections \
                 ansible-playbook --inventory web, '--ssh-common-args=-F site.ssh_config' --limit=web INFRA/plays/web.yml",
            ]
        );
    }

    #[test]
    fn what_is_declared_cannot_add_to_the_configuration_of_ssh() {
        let hostile = ssh("x\n  ProxyCommand evil");
        let files = files(&spec(Ssh { host_key: Some("k\nother evil".to_owned()), ..hostile }), &folders());
        assert!(files.len() == 1 && !files[0].content.contains("evil"), "{files:?}");
        assert!(files[0].content.contains("HostName ADDRESS-OF-web\n"), "{}", files[0].content);
    }

    #[test]
    fn a_connection_is_waited_for_at_any_address() {
        let hands = wait(&spec(ssh("h")), &Ready::Tcp("[2001:db8::1]:443".to_owned()));
        let typed = r#"until timeout 20 bash -c ': < "/dev/tcp/$0/$1"' 2001:db8::1 443; do sleep 5; done"#;
        assert_eq!(hands[0].to_string(), typed);
    }

    #[test]
    fn words_for_a_machine_are_quoted_twice() {
        let line = program(&"web".parse().unwrap(), &["printf".to_owned(), "it's".to_owned()], &folders());
        assert_eq!(line.to_string(), r#"ssh -F site.ssh_config web 'printf '\''it'\''\'\'''\''s'\'''"#);
    }
}
