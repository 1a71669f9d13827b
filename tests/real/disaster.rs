//! The whole disaster, for real: two machines that the infra repo's templates made and its playbook set up, a database and a time series
//! database on one of them; both machines lost, the controller with its keys, the Git server, and one store. What is left: a mirror of
//! the infra repo, the other store, the recovery kit, and what an organization keeps in its safe (the age identity, the secrets).

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
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

const PASSWORD: &str = "correct horse battery staple";

/// Machines with QEMU's own network: each port of `vars.forward` leads from this host to the machine.
const DOMAIN: &str = r#"{% extends "built-in/libvirt-domain.xml.tera" %}
{% block namespaces %} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'{% endblock %}
{% block network %}{% endblock %}
{% block end %}
  <qemu:commandline>
    <qemu:arg value='-netdev'/>
    <qemu:arg value='user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{{ ssh.port | xml }}-:22
{%- for ports in vars.forward %},hostfwd=tcp:127.0.0.1:{{ ports.host | xml }}-:{{ ports.guest | xml }}{% endfor %}'/>
    <qemu:arg value='-device'/>
    <qemu:arg value='virtio-net-pci,netdev=n0,addr=0x10'/>
  </qemu:commandline>
{% endblock %}
"#;

/// What the machines become: the packages are in their image, for they have no way out.
const PLAYBOOK: &str = r#"
- hosts: pavroto-2
  gather_facts: false
  tasks:
    - name: Install MariaDB and InfluxDB
      # The first time some come before what they need to be unpacked.
      shell: dpkg -i --skip-same-version /srv/packages/*.deb || dpkg -i --skip-same-version /srv/packages/*.deb
      args: { creates: /usr/sbin/mariadbd }
      environment: { DEBIAN_FRONTEND: noninteractive }
    - name: Let the backup server reach MariaDB
      copy:
        dest: /etc/mysql/mariadb.conf.d/99-site.cnf
        content: "[mariadbd]\nbind-address = 0.0.0.0\nskip-name-resolve\n"
      register: mariadb
    - name: Let the backup server reach InfluxDB
      copy:
        dest: /etc/influxdb/influxdb.conf
        content: |
          reporting-disabled = true
          bind-address = "0.0.0.0:8088"
          [meta]
            dir = "/var/lib/influxdb/meta"
          [data]
            dir = "/var/lib/influxdb/data"
            wal-dir = "/var/lib/influxdb/wal"
          [http]
            bind-address = ":8086"
      register: influxdb
    - name: Start both
      service: { name: "{{ item.name }}", state: "{{ 'restarted' if item.changed else 'started' }}" }
      loop:
        - { name: mariadb, changed: "{{ mariadb.changed }}" }
        - { name: influxdb, changed: "{{ influxdb.changed }}" }
    - name: Let the backup user in
      command:
        argv:
          - mariadb
          - --execute
          - >-
            CREATE USER IF NOT EXISTS 'backup'@'%' IDENTIFIED BY PASSWORD '@HASH@';
            GRANT ALL PRIVILEGES ON *.* TO 'backup'@'%' WITH GRANT OPTION
      changed_when: false
- hosts: pavroto-1
  gather_facts: false
  tasks:
    - name: Deploy Agama
      copy: { dest: /etc/agama.conf, content: "database = pavroto-2\n" }
"#;

struct Site {
    root: TempDir,
    hypervisor: Hypervisor,
    mysql: u16,
    influx: u16,
    declaration: String,
}

impl Site {
    fn new() -> Self {
        let (root, hypervisor) = (tempfile::tempdir().unwrap(), Hypervisor::start());
        for folder in ["safe", "controller", "offsite", "backup-server"] {
            fs::create_dir(root.path().join(folder)).unwrap();
        }
        let [ssh1, ssh2, mysql, influx, rpc] = std::array::from_fn(|_| free_port());
        let drilled = std::array::from_fn(|_| free_port());
        let mut site = Self { root, hypervisor, mysql, influx, declaration: String::new() };
        site.fill_the_safe();
        site.declaration = site.declared([ssh1, ssh2], rpc) + &site.drilled(rpc, drilled);
        site.commit();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn show(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What outlives a disaster anywhere: the identity, the database's password and the machines' key.
    fn fill_the_safe(&self) {
        let made = backstay::keys::identity::generate(jiff::Timestamp::now());
        secret(&self.path("safe/identity.txt"), &made.file);
        fs::write(self.path("safe/recipient"), &made.recipient).unwrap();
        secret(&self.path("safe/password"), PASSWORD);
        run(Command::new("ssh-keygen").args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &self.show("safe/machines"),
        ]));
    }

    fn declared(&self, ssh: [u16; 2], rpc: u16) -> String {
        let recipient = fs::read_to_string(self.path("safe/recipient")).unwrap();
        let (key, uri) = (self.show("safe/machines"), self.hypervisor.uri());
        let (image, disks) =
            (base_image().display().to_string(), self.hypervisor.disks().display().to_string());
        let machine = |name: &str, ssh: u16, memory: &str, forward: &str| {
            format!(
                r#"
                [vm.{name}]
                template = "cloud-init.yaml.tera"
                vars = {{ virt_type = "qemu", forward = [{forward}] }}
                ssh = {{ host = "127.0.0.1", port = {ssh}, identity = {{ file = "{key}" }} }}
                configure.ansible = {{ playbook = "site.yml", limit = "{name}" }}
                libvirt = {{ uri = "{uri}", image = "{image}", disks = "{disks}", memory = "{memory}", cpus = 2 }}
                "#
            )
        };
        let (mysql, influx) = (self.mysql, self.influx);
        let forward = format!(
            "{{ host = {mysql}, guest = 3306 }}, {{ host = {influx}, guest = 8086 }}, {{ host = {rpc}, guest = 8088 }}"
        );
        format!(
            r#"
            [fleet]
            name = "pavroto"
            recipients = ["{recipient}"]
            [store.backup-server]
            location = "server-room"
            local = {{ path = "{root}/backup-server" }}
            [store.offsite]
            location = "elsewhere"
            local = {{ path = "{root}/offsite" }}
            [policy.nightly]
            rpo = "26h"
            rto = "1h"
            full = "{nightly}"
            keep = {{ full = "14d" }}
            [backup.agama]
            policy = "nightly"
            stores = ["backup-server", "offsite"]
            mysql = {{ host = "127.0.0.1", port = {mysql}, user = "backup", password = {{ file = "{root}/safe/password" }}, databases = ["agama"] }}
            [backup.logs]
            policy = "nightly"
            stores = ["backup-server", "offsite"]
            influxdb = {{ host = "127.0.0.1", port = {influx}, rpc_port = {rpc}, databases = ["latency"] }}
            [infra]
            stores = ["backup-server", "offsite"]
            mirrors = ["{root}/mirror.git"]
            [recovery.site]
            description = "The server room is lost"
            rto = "1h"
            steps = [
              {{ rebuild = "pavroto-1" }},
              {{ rebuild = "pavroto-2" }},
              {{ restore = "agama", after = ["pavroto-2"] }},
              {{ restore = "logs", after = ["pavroto-2"] }},
              {{ wait = {{ source = "agama" }} }},
              {{ run = ["grep", "-q", "pavroto-2", "/etc/agama.conf"], on = "pavroto-1" }},
            ]
            {one}{two}
            "#,
            root = self.root.path().display(),
            nightly = schedules::nightly(),
            one = machine("pavroto-1", ssh[0], "640MiB", ""),
            two = machine("pavroto-2", ssh[1], "1GiB", &forward),
        )
    }

    /// The drill of the whole site, on machines that are reached by other ports.
    fn drilled(&self, rpc: u16, [ssh1, ssh2, mysql, influx, rpc2]: [u16; 5]) -> String {
        format!(
            r#"
            [drill.site]
            recovery = "site"
            schedule = "{yearly}"
            check = [
              {{ counts = "captured", backup = "agama" }},
              {{ sql = "select count(*) from users", equals = "20000", backup = "agama" }},
            ]
            [drill.site.stand_in.pavroto-1]
            network = "drills"
            ssh = {{ host = "127.0.0.1", port = {ssh1} }}
            [drill.site.stand_in.pavroto-2]
            network = "drills"
            ssh = {{ host = "127.0.0.1", port = {ssh2} }}
            vars.forward = [{{ host = {mysql}, guest = 3306 }}, {{ host = {influx}, guest = 8086 }}, {{ host = {rpc2}, guest = 8088 }}]
            [drill.site.stand_in.pavroto-2.reach]
            "127.0.0.1:{}" = "127.0.0.1:{mysql}"
            "127.0.0.1:{}" = "127.0.0.1:{influx}"
            "127.0.0.1:{rpc}" = "127.0.0.1:{rpc2}"
            "#,
            self.mysql,
            self.influx,
            yearly = schedules::yearly(),
        )
    }

    /// The infra repo, with its Git server.
    fn commit(&self) {
        let (work, origin) = (self.path("work"), self.show("origin.git"));
        run(Command::new("git").args(["init", "-q", "--bare", "-b", "main", &origin]));
        run(Command::new("git").args(["clone", "-q", &origin, &work.display().to_string()]));
        let hash = mysql_hash(PASSWORD);
        for (name, content) in [
            ("backup/fleet.toml", self.declaration.as_str()),
            ("templates/libvirt-domain.xml.tera", DOMAIN),
            ("site.yml", &PLAYBOOK.replace("@HASH@", &hash)),
        ] {
            let path = work.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let git = |arguments: &[&str]| {
            let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
            run(Command::new("git").arg("-C").arg(&work).args(author).args(arguments));
        };
        git(&["checkout", "-q", "-b", "main"]);
        git(&["add", "--all"]);
        git(&["commit", "-q", "-m", "Declare the site"]);
        git(&["push", "-q", "origin", "main"]);
    }

    /// The configuration of a controller in the folder `name`.
    fn configure(&self, name: &str, repo: &str, trusted: &[String]) {
        let root = self.root.path().display();
        let trusted: Vec<String> = trusted.iter().map(|key| format!("{key:?}")).collect();
        let config = format!(
            r#"
            state_dir = "{root}/{name}/state"
            [repo]
            url = "{root}/{repo}"
            path = "backup"
            [http]
            listen = "127.0.0.1:0"
            [keys]
            dir = "{root}/{name}/keys"
            identity = "{root}/safe/identity.txt"
            trusted = [{trusted}]
            [allow]
            read = ["{image}"]
            write = ["{root}/backup-server", "{root}/offsite", "{disks}"]
            secrets = [
              {{ path = "{root}/safe/password", hosts = ["127.0.0.1"] }},
              {{ path = "{root}/safe/machines", hosts = ["pavroto-1", "pavroto-2"] }},
            ]
            mirrors = ["{root}/mirror.git"]
            machines = ["{uri}"]
            run = ["ansible-playbook"]
            "#,
            image = base_image().parent().unwrap().display(),
            disks = self.hypervisor.disks().display(),
            uri = self.hypervisor.uri(),
            trusted = trusted.join(", "),
        );
        fs::create_dir_all(self.path(name)).unwrap();
        fs::write(self.path(name).join("backstay.toml"), config).unwrap();
    }

    fn backstay(&self, controller: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(arguments).arg("--config").arg(self.path(controller).join("backstay.toml"));
        command.output().unwrap()
    }

    /// Runs it to this exit code; what it printed.
    fn expect(&self, controller: &str, arguments: &[&str], code: i32) -> String {
        let output = self.backstay(controller, arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.code() != Some(code) {
            let status = self.backstay(controller, &["status"]);
            let (told, consoles) = (String::from_utf8_lossy(&status.stdout), self.consoles());
            panic!("{arguments:?}: {}\n{out}\n{err}\n{told}\n{consoles}", output.status);
        }
        assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "a secret is told");
        out.into_owned()
    }

    /// What the machines last said, for whoever reads a failure.
    fn consoles(&self) -> String {
        self.hypervisor.files().join(", ")
    }

    fn sql(&self, sql: &str) -> String {
        let mut client = Command::new("mariadb");
        client.args(["--no-defaults", "-h127.0.0.1", "-ubackup", "-N", "-B", "--execute", sql]);
        client.arg(format!("-P{}", self.mysql)).env("MYSQL_PWD", PASSWORD);
        let output = client.output().unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn influx(&self, path: &str, body: &str) -> String {
        let url = format!("http://127.0.0.1:{}/{path}", self.influx);
        let mut curl = Command::new("curl");
        curl.args(["--noproxy", "*", "-sS", "--fail", "-X", "POST", "--data-binary", "@-", &url]);
        curl.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = curl.stderr(std::process::Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn fill(&self) {
        self.sql("CREATE DATABASE agama; CREATE TABLE agama.users (id INT PRIMARY KEY, name TEXT)");
        self.sql("USE agama; INSERT INTO users SELECT seq, MD5(seq) FROM seq_1_to_20000");
        self.influx("query?q=CREATE+DATABASE+latency", "");
        let points: String =
            (0..5000).map(|n| format!("ping,host=h{} ms={n}i {n}000000000\n", n % 7)).collect();
        self.influx("write?db=latency", &points);
    }

    /// What is in both databases.
    fn content(&self) -> (String, String, String) {
        let rows = self.sql("SELECT COUNT(*) FROM agama.users");
        let sum = self.sql("CHECKSUM TABLE agama.users");
        let points = self.influx("query?db=latency&q=SELECT+count(ms)+FROM+ping", "");
        (rows, sum, points)
    }

    /// The drill passed, left nothing behind, and told how long it took.
    fn was_drilled(&self) {
        let told = self.expect("controller", &["status", "-o", "json"], 0);
        let status: Value = serde_json::from_str(&told).unwrap();
        let drill = &status["drills"]["site"];
        assert_eq!(drill["last"]["outcome"], "passed", "{drill:#}");
        assert_eq!(drill["last"]["left_out"], 0, "{drill:#}");
        assert!(drill["last"]["rto_seconds"].as_u64().unwrap() <= 3600, "{drill:#}");
        assert!(status["recoveries"]["site"]["estimate"]["seconds"].is_u64(), "{:#}", status["recoveries"]);
        let domains = self.hypervisor.virsh(&["list", "--all", "--name"]);
        assert!(!domains.contains("drill-"), "{domains}");
        assert!(!self.consoles().contains("drill-"), "{}", self.consoles());
        println!("{:#}", drill["last"]);
    }

    /// Everything goes but the mirror, one store, the kit and the safe.
    fn lose_it_all(&self) {
        for vm in ["pavroto-1", "pavroto-2"] {
            self.hypervisor.virsh(&["destroy", vm]);
            self.hypervisor.virsh(&["undefine", vm]);
        }
        for file in self.hypervisor.files() {
            fs::remove_file(self.hypervisor.disks().join(file)).unwrap();
        }
        for lost in ["controller", "origin.git", "work", "backup-server"] {
            fs::remove_dir_all(self.path(lost)).unwrap();
        }
    }
}

fn secret(path: &Path, content: &str) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(content.as_bytes()).unwrap();
}

/// `*` and twice SHA-1: how MariaDB keeps a password (mysql_native_password).
fn mysql_hash(password: &str) -> String {
    let sha1 = |input: &[u8]| {
        let mut child = Command::new("openssl");
        child.args(["dgst", "-sha1", "-binary"]);
        child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = child.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    let twice = sha1(&sha1(password.as_bytes()));
    format!("*{}", twice.iter().map(|byte| format!("{byte:02X}")).collect::<String>())
}

/// The keys that the kit says are to be trusted.
fn signers(kit: &Path) -> Vec<String> {
    let text = fs::read_to_string(kit.join("allowed_signers")).unwrap();
    text.lines().map(|line| line[line.find("ssh-ed25519").unwrap()..].to_owned()).collect()
}

#[test]
fn a_site_that_is_lost_with_its_controller_comes_back_from_a_mirror_one_store_and_the_kit() {
    let site = Site::new();
    site.configure("controller", "origin.git", &[]);
    for vm in ["pavroto-1", "pavroto-2"] {
        site.expect("controller", &["rebuild", vm], 0);
    }
    site.fill();
    let before = site.content();
    // Once there is something to restore the drill of this year is due: the whole site again, beside the one that runs.
    site.expect("controller", &["apply", "--yes"], 0);
    site.was_drilled();
    site.expect("controller", &["kit", "--out", &site.show("kit")], 0);
    let runbook = site.expect("controller", &["runbook", "site"], 0);
    assert!(runbook.contains("restore.sh") && runbook.contains("ansible-playbook"), "{runbook}");

    site.lose_it_all();
    // Self-recovery: a new host, the mirror in the Git server's place, the kit's keys.
    site.configure("second", "mirror.git", &signers(&site.path("kit")));
    let planned = site.expect("second", &["rebuild", "--recovery", "site", "--dry-run"], 0);
    assert!(planned.contains("make machine pavroto-2") && planned.contains("from offsite"), "{planned}");
    let told = site.expect("second", &["rebuild", "--recovery", "site", "-o", "json"], 0);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(report["format"], "backstay.rebuild/1");
    let took = report["milliseconds"].as_u64().unwrap();
    assert!(took <= report["rto_seconds"].as_u64().unwrap() * 1000, "{report:#}");
    for part in ["provision", "configure", "restore", "start", "verify"] {
        assert!(report["worked"][part].is_u64(), "{part}: {report:#}");
    }
    assert_eq!(site.content(), before);
    let status = site.expect("second", &["status"], 4);
    assert!(status.contains("site"), "{status}");
    println!("{report:#}");
}
