//! A commit declares an InfluxDB database, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::influxdb::{ADMIN, Influx, PASSWORD};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    fn declare(&self, server: &Influx) {
        let secret = self.0.join("secret");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret).unwrap();
        file.write_all(PASSWORD.as_bytes()).unwrap();
        let allowed = format!("secrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}]\n", secret.display());
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[allow]\n", &format!("[allow]\n{allowed}"))).unwrap();
        let backup = format!(
            "[backup.tele]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
             influxdb = {{ host = \"127.0.0.1\", port = {}, rpc_port = {}, user = \"{ADMIN}\", \
             password = {{ file = \"{}\" }}, databases = [\"tele\"] }}\n",
            server.http(),
            server.rpc(),
            secret.display()
        );
        fs::write(self.0.join("infra/backup/tele.toml"), backup).unwrap();
        self.git(&["add", "--all"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        self.git(&[&author[..], &["commit", "--quiet", "-m", "Back up telemetry"]].concat());
    }

    fn git(&self, arguments: &[&str]) {
        let run = Command::new("git").arg("-C").arg(self.0.join("infra")).args(arguments).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    }

    fn expect(&self, arguments: &[&str], code: i32) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        let run = command.args(arguments).arg("--config").arg(self.0.join("backstay.toml")).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert_eq!(run.status.code(), Some(code), "backstay {arguments:?}\n{out}\n{err}");
        assert!(!out.contains(PASSWORD) && !err.contains(PASSWORD), "a secret is told by {arguments:?}");
        format!("{out}{err}")
    }
}

#[test]
fn a_commit_backs_up_a_database_that_comes_back_beside_the_original_and_over_it() {
    let server = Influx::start();
    server.query("CREATE DATABASE tele");
    let points: String =
        (0..5000).map(|n| format!("cpu,host=h{} v={n} {}\n", n % 9, 1_700_000_000 + n * 600)).collect();
    server.write("tele", "autogen", &points);
    let before = server.points("tele");
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(&server);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "tele", "--plaintext"], 0);

    fleet.expect(&["restore", "tele", "--to", "database:tele_copy"], 0);
    assert_eq!(server.points("tele_copy"), before);
    server.write("tele", "autogen", "cpu,host=h1 v=1 1700000000\n");
    assert_ne!(server.points("tele"), before, "the original was touched");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), before);

    server.write("tele", "autogen", "cpu,host=h2 v=7 1800000000\n");
    let more = server.points("tele");
    fleet.expect(&["backup", "tele", "--kind", "differential"], 0);
    server.query("DROP DATABASE tele");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), more, "a differential is whole");
}
