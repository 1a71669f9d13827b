//! The main job whole: a commit declares a backup of a real MariaDB to a real SFTP server and a real S3 server, and the
//! built program makes it so, keeps it so, and brings the data back.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{
    mariadb::{self, MariaDb},
    s3::{self, Minio},
    schedules,
    sshd::Sshd,
};

/// A host with a controller, and the servers that it works with.
struct Site {
    folder: TempDir,
    database: MariaDb,
    vault: Sshd,
    cloud: Minio,
}

impl Site {
    fn new() -> Self {
        let site = Self {
            folder: tempfile::tempdir().unwrap(),
            database: MariaDb::start(),
            vault: Sshd::start(),
            cloud: Minio::start(),
        };
        site.keep_secrets();
        site.configure();
        site.git(&["init", "--quiet", "--initial-branch=main"]);
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keep_secrets(&self) {
        fs::create_dir(self.path("secrets")).unwrap();
        self.private("secrets/agama", mariadb::PASSWORD.as_bytes());
        self.private("secrets/vault", &fs::read(self.vault.identity()).unwrap());
        self.private("secrets/cloud-id", s3::KEY_ID.as_bytes());
        self.private("secrets/cloud-key", s3::SECRET.as_bytes());
    }

    fn private(&self, name: &str, content: &[u8]) {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(self.path(name)).unwrap();
        file.write_all(content).unwrap();
    }

    fn configure(&self) {
        let dir = self.folder.path().display();
        let recipient = self.recipient();
        let secrets: String = ["agama", "vault", "cloud-id", "cloud-key"]
            .map(|name| format!("{{ path = \"{dir}/secrets/{name}\", hosts = [\"127.0.0.1\"] }}, "))
            .concat();
        fs::create_dir_all(self.path("infra/backup")).unwrap();
        let config = format!(
            "state_dir = \"{dir}/state\"\n\
             [repo]\nurl = \"{dir}/infra\"\nbranch = \"main\"\npath = \"backup\"\n\
             [keys]\ndir = \"{dir}/keys\"\nidentity = \"{dir}/identity.txt\"\nmust_recipients = [\"{recipient}\"]\n\
             [allow]\nsecrets = [{secrets}]\nwrite = [\"{dir}/restored\"]\n"
        );
        fs::write(self.path("backstay.toml"), config).unwrap();
    }

    fn recipient(&self) -> String {
        let identity = self.path("identity.txt");
        if !identity.exists() {
            let made = Command::new(env!("CARGO_BIN_EXE_backstay"))
                .args(["keygen", "--out"])
                .arg(&identity)
                .output()
                .unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let text = fs::read_to_string(identity).unwrap();
        text.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned()
    }

    /// Declares the fleet with `full` as the retention of fulls, and commits.
    fn declare(&self, full: &str) -> String {
        self.commit(&self.declaration(full))
    }

    fn declaration(&self, full: &str) -> String {
        let dir = self.folder.path().display();
        let vault = self.vault.options();
        format!(
            "[fleet]\nname = \"site\"\nrecipients = [\"{recipient}\"]\n\
             [store.vault]\nlocation = \"server-room\"\n\
             sftp = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", path = \"{path}\", \
             host_key = \"{host_key}\", identity = {{ file = \"{dir}/secrets/vault\" }} }}\n\
             [store.cloud]\nlocation = \"eu-north-1\"\n\
             s3 = {{ bucket = \"{bucket}\", endpoint = \"{endpoint}\", \
             access_key_id = {{ file = \"{dir}/secrets/cloud-id\" }}, \
             secret_access_key = {{ file = \"{dir}/secrets/cloud-key\" }} }}\n\
             [policy.nightly]\nrpo = \"24h\"\nfull = \"{nightly}\"\nkeep = {{ full = \"{full}\" }}\n\
             [backup.agama]\npolicy = \"nightly\"\nstores = [\"vault\", \"cloud\"]\n\
             mysql = {{ host = \"127.0.0.1\", port = {mysql}, user = \"{mysql_user}\", \
             password = {{ file = \"{dir}/secrets/agama\" }}, databases = [\"agama\"] }}\n\
             [infra]\nstores = [\"vault\", \"cloud\"]\nkeep = {{ last = 10 }}\n",
            recipient = self.recipient(),
            nightly = schedules::nightly(),
            port = vault.port,
            user = vault.user,
            path = vault.path,
            host_key = vault.host_key.trim().rsplitn(2, ' ').last().unwrap(),
            bucket = s3::BUCKET,
            endpoint = self.cloud.options().endpoint.unwrap(),
            mysql = self.database.port(),
            mysql_user = mariadb::USER,
        )
    }

    fn commit(&self, declaration: &str) -> String {
        fs::write(self.path("infra/backup/fleet.toml"), declaration).unwrap();
        self.git(&["add", "--all"]);
        self.git(&[
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "--message",
            "Change",
        ]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn git(&self, arguments: &[&str]) -> String {
        let run = Command::new("git").arg("-C").arg(self.path("infra")).args(arguments).output().unwrap();
        assert!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap().trim().to_owned()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(arguments).arg("--config").arg(self.path("backstay.toml")).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must end with `code`, and returns what it printed.
    fn expect(&self, arguments: &[&str], code: i32) -> String {
        let run = self.run(arguments);
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert_eq!(run.status.code(), Some(code), "backstay {arguments:?}\n{out}\n{err}");
        for secret in [mariadb::PASSWORD, s3::SECRET] {
            assert!(
                !out.contains(secret) && !err.contains(secret),
                "a secret is in the output of {arguments:?}"
            );
        }
        out.into_owned()
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let text = self.expect(&[arguments, &["--output", "json"]].concat(), code);
        serde_json::from_str(&text).unwrap()
    }

    /// Applies passes until there is nothing left to do.
    fn converge(&self) {
        for _ in 0..5 {
            self.expect(&["apply", "--yes"], 0);
            if self.run(&["plan"]).status.code() == Some(0) {
                return;
            }
        }
        panic!("passes do not come to an end: {}", self.expect(&["plan"], 0));
    }

    /// The stores that hold artifacts of a backup.
    fn stores(&self, backup: &str) -> BTreeSet<String> {
        let listing = self.json(&["list", backup], 0);
        let rows = listing["artifacts"].as_array().unwrap().iter();
        rows.flat_map(|row| row["stores"].as_object().unwrap().keys().cloned()).collect()
    }

    fn count(&self, backup: &str) -> usize {
        self.json(&["list", backup], 0)["artifacts"].as_array().unwrap().len()
    }

    fn fill_database(&self) {
        self.database.sql(
            "CREATE DATABASE agama; USE agama;
             GRANT ALL ON agama.* TO backup@'127.0.0.1';
             GRANT ALL ON agama_copy.* TO backup@'127.0.0.1';
             CREATE TABLE users (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(80), photo BLOB) ENGINE=InnoDB;
             INSERT INTO users (name, photo) SELECT CONCAT('user ', seq), REPEAT(CHAR(seq % 256), 300) FROM seq_1_to_5000;",
        );
    }

    fn checksum(&self, database: &str) -> String {
        let sum = self.database.sql(&format!("CHECKSUM TABLE {database}.users"));
        sum.split_whitespace().last().unwrap().to_owned()
    }
}

#[test]
fn a_commit_becomes_backups_in_both_stores_and_data_comes_back() {
    let site = Site::new();
    site.fill_database();
    site.declare("14d");
    site.converge();

    let both = BTreeSet::from(["cloud", "vault"].map(str::to_owned));
    assert_eq!(site.stores("agama"), both);
    assert_eq!(site.stores("infra"), both);
    let before = site.checksum("agama");

    site.expect(&["backup", "agama", "--reason", "before the migration"], 0);
    site.database.sql("DELETE FROM agama.users WHERE id > 100");
    assert_ne!(site.checksum("agama"), before);

    site.expect(&["restore", "agama", "--to", "database:agama_copy"], 0);
    assert_eq!(site.checksum("agama_copy"), before);
    assert_eq!(site.database.sql("SELECT COUNT(*) FROM agama.users"), "100", "the original was touched");

    let dump = site.path("restored").join("agama.sql");
    fs::create_dir(site.path("restored")).unwrap();
    site.expect(&["restore", "agama", "--from", "cloud", "--to", dump.to_str().unwrap()], 0);
    assert!(fs::read_to_string(&dump).unwrap().contains("-- Dump completed"));
    site.expect(&["restore", "agama", "--to", dump.to_str().unwrap()], 4);

    site.expect(&["restore", "agama", "--in-place"], 0);
    assert_eq!(site.checksum("agama"), before);
    site.expect(&["verify", "--plaintext"], 0);
}

/// Passes until `reached` holds, each of which may leave something to do: a log is due every other second.
fn pass_until(site: &Site, what: &str, reached: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}: {}", site.expect(&["plan"], 10));
        site.run(&["apply", "--yes"]);
    }
}

#[test]
fn a_database_comes_back_to_a_second_and_a_gap_in_its_log_begins_anew() {
    let site = Site::new();
    site.fill_database();
    site.database.sql("GRANT ALL ON *.* TO backup@'127.0.0.1'");
    let text =
        site.declaration("14d").replacen("keep = {", "log = { every = \"2s\" }\nkeep = { log = \"7d\",", 1);
    site.commit(&text.replace(", databases = [\"agama\"]", ""));
    let fulls = || {
        let listing = site.json(&["list", "agama"], 0);
        listing["artifacts"].as_array().unwrap().iter().filter(|row| row["kind"] == "full").count()
    };
    pass_until(&site, "a full is made", || fulls() == 1);
    site.database
        .sql("INSERT INTO agama.users (name) VALUES ('the last one'); CREATE TABLE agama.fresh (a INT)");
    let before = site.checksum("agama");
    let disaster = site.database.next_second();
    site.database.sql("DELETE FROM agama.users; DROP TABLE agama.fresh");
    let reaches = || {
        let out = site.run(&["status", "agama", "--output", "json"]).stdout;
        let status: Value = serde_json::from_slice(&out).unwrap();
        let end = status["backups"]["agama"]["windows"][0]["end"].as_str().map(str::to_owned);
        end.is_some_and(|end| end.parse::<jiff::Timestamp>().unwrap() > disaster)
    };
    pass_until(&site, "the log reaches the disaster", reaches);

    let too_late = jiff::Timestamp::now().to_string();
    assert_eq!(site.run(&["restore", "agama", "--at", &too_late, "--in-place"]).status.code(), Some(1));
    assert_eq!(site.database.sql("SELECT COUNT(*) FROM agama.users"), "0", "a refusal changes nothing");
    let told = site.expect(&["restore", "agama", "--at", &disaster.to_string(), "--in-place"], 0);
    assert!(told.contains("the databases of the dump as of"), "{told}");
    assert_eq!(site.checksum("agama"), before);
    assert_eq!(site.database.sql("SELECT COUNT(*) FROM agama.fresh"), "0");

    site.database.purge_all_binary_logs();
    pass_until(&site, "a full begins anew", || fulls() == 2);
}

#[test]
fn a_server_that_is_gone_yields_a_failure_and_never_an_artifact() {
    let mut site = Site::new();
    site.fill_database();
    site.declare("14d");
    site.converge();
    let whole = site.count("agama");

    site.database.kill();
    let pass = site.json(&["backup", "agama"], 4);
    assert_eq!(pass["outcomes"][0]["outcome"], "failed");
    assert_eq!(site.count("agama"), whole);

    site.cloud.kill();
    let status = site.json(&["status"], 4);
    let told = status["conditions"].as_array().unwrap().iter();
    assert!(
        told.clone().any(|c| c["concern"] == "store-unknown" && c["subject"] == "store.cloud"),
        "{status:#}"
    );

    site.cloud.restart();
    site.converge();
    assert_eq!(site.count("agama"), whole);
}

#[test]
fn the_loop_backs_up_every_commit_and_keeps_the_last_good_revision_in_force() {
    let site = Site::new();
    site.fill_database();
    let good = site.declare("14d");
    let running = Running::start(&site);
    running.wait_for(|pass| {
        pass["revision"] == good.as_str()
            && ["agama", "infra"].iter().all(|backup| site.stores(backup).len() == 2)
    });

    let bad = site.commit("[fleet]\nname = \"site\"\nrecipient = []\n");
    running.wait_for(|pass| pass["newest"] == bad.as_str());
    let status = site.json(&["status"], 6);
    assert_eq!(status["revisions"]["in_force"], good.as_str());
    assert_eq!(status["revisions"]["newest"], bad.as_str());

    let bundle = site.path("bundle");
    site.expect(&["restore", "infra", "--to", bundle.to_str().unwrap()], 0);
    let log = Command::new("git").arg("-C").arg(&bundle).args(["rev-parse", "main"]).output().unwrap();
    assert_eq!(String::from_utf8(log.stdout).unwrap().trim(), bad, "the bad commit was not backed up");
    assert_eq!(running.terminate(), Some(143));
}

/// How long the loop may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// `backstay run`, and what it tells of its passes.
struct Running {
    child: Child,
    passes: mpsc::Receiver<Value>,
}

impl Running {
    fn start(site: &Site) -> Self {
        let log = fs::File::create(site.path("log")).unwrap();
        let mut command = site.command(&["run", "--output", "json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, passes) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Nobody listens once the test has ended.
                let _ = told.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { child, passes }
    }

    /// Waits for a pass that satisfies `condition`; the loop's end is a failure.
    fn wait_for(&self, mut condition: impl FnMut(&Value) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while let Ok(pass) = self.passes.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if condition(&pass) {
                return;
            }
            last = pass;
        }
        panic!("what was waited for did not come; the last pass was {last:#}");
    }

    fn terminate(mut self) -> Option<i32> {
        signal(&self.child);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        signal(&self.child);
        let _ = self.child.wait();
    }
}

fn signal(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // One that ended needs no signal.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
}
