//! A commit declares a Redis server, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::redis::{PASSWORD, Redis, Sends, USER};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    fn declare(&self, server: &Redis) {
        let secret = self.0.join("secret");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret).unwrap();
        file.write_all(PASSWORD.as_bytes()).unwrap();
        let allowed = format!("secrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}]\n", secret.display());
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[allow]\n", &format!("[allow]\n{allowed}"))).unwrap();
        let backup = format!(
            "[backup.carts]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
             redis = {{ host = \"127.0.0.1\", port = {}, user = \"{USER}\", password = {{ file = \"{}\" }} }}\n",
            server.port(),
            secret.display()
        );
        fs::write(self.0.join("infra/backup/carts.toml"), backup).unwrap();
        self.git(&["add", "--all"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        self.git(&[&author[..], &["commit", "--quiet", "-m", "Back up the carts"]].concat());
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
fn a_commit_backs_up_a_server_that_comes_back_on_the_restored_file() {
    let server = Redis::start(Sends::AsMade);
    server.script(0, "for n = 1, 5000 do redis.call('SET', 'cart:' .. n, string.rep(n, 50)) end");
    let digest = server.digest();
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(&server);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "carts", "--plaintext"], 0);

    server.run(&["FLUSHALL"]);
    let refused = fleet.expect(&["restore", "carts", "--in-place"], 4);
    assert!(refused.contains("appendonly no"), "{refused}");
    // The host lets restores write into its own folder only.
    let file = fleet.0.join("restored/dump.rdb");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fleet.expect(&["restore", "carts", "--to", file.to_str().unwrap()], 0);
    assert_eq!(Redis::start_on(&file).digest(), digest);
}
