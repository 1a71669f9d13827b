//! A commit declares a etcd cluster, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::etcd::{Etcd, PASSWORD};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    fn declare(&self, server: &Etcd) {
        let secret = self.0.join("secret");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret).unwrap();
        file.write_all(PASSWORD.as_bytes()).unwrap();
        let allowed = format!("secrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}]\n", secret.display());
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[allow]\n", &format!("[allow]\n{allowed}"))).unwrap();
        let backup = format!(
            "[backup.settings]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
             etcd = {{ endpoints = [\"{}\"], user = \"root\", password = {{ file = \"{}\" }} }}\n",
            server.url(),
            secret.display()
        );
        fs::write(self.0.join("infra/backup/settings.toml"), backup).unwrap();
        self.git(&["add", "--all"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        self.git(&[&author[..], &["commit", "--quiet", "-m", "Back up the settings"]].concat());
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
fn a_commit_backs_up_a_cluster_that_comes_back_as_a_new_one() {
    let mut server = Etcd::start();
    server.fill("app/setting", 20, 2000);
    let everything = server.everything(0);
    server.enable_authentication();
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(&server);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "settings", "--plaintext"], 0);

    let refused = fleet.expect(&["restore", "settings", "--in-place"], 4);
    assert!(refused.contains("etcdctl snapshot restore"), "{refused}");
    // The host lets restores write into its own folder only.
    let file = fleet.0.join("restored/snapshot.db");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fleet.expect(&["restore", "settings", "--to", file.to_str().unwrap()], 0);
    // The users are in the snapshot as well.
    assert_eq!(Etcd::start_secured_on(&file).everything(0), everything);
}
