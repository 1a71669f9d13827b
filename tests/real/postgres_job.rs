//! A commit declares a PostgreSQL database, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    lab::postgres::{PASSWORD, Postgres, USER},
    postgres_wal::ready,
};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    /// Declares what `backup` is, a backup of `server` but for how it is reached.
    fn declare(&self, server: &Postgres, backup: &str) {
        let secret = self.0.join("secret");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret).unwrap();
        file.write_all(PASSWORD.as_bytes()).unwrap();
        let allowed = format!("secrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}]\n", secret.display());
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[allow]\n", &format!("[allow]\n{allowed}"))).unwrap();
        let reached = format!(
            "host = \"127.0.0.1\", port = {}, user = \"{USER}\", password = {{ file = \"{}\" }}",
            server.port(),
            secret.display()
        );
        let backup = backup.replace("REACHED", &reached);
        fs::write(self.0.join("infra/backup/shop.toml"), backup).unwrap();
        self.git(&["add", "--all"]);
        self.git(&[
            "-c",
            "user.name=A",
            "-c",
            "user.email=a@example.org",
            "commit",
            "--quiet",
            "-m",
            "Back up the shop",
        ]);
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
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE sale AS SELECT n AS id, md5(n::text) AS what FROM generate_series(1, 5000) n",
    );
    server.sql("postgres", &format!("ALTER ROLE {USER} SUPERUSER"));
    let sum =
        |database: &str| server.sql(database, "SELECT md5(string_agg(what, ',' ORDER BY id)) FROM sale");
    let before = sum("shop");
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(
        &server,
        "[backup.shop]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
         postgres = { REACHED, databases = [\"shop\"] }\n",
    );
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "shop", "--plaintext"], 0);

    server.sql("shop", "DELETE FROM sale WHERE id > 10");
    fleet.expect(&["restore", "shop", "--to", "database:shop_copy"], 0);
    assert_eq!(sum("shop_copy"), before);
    assert_ne!(sum("shop"), before, "the original was touched");
    fleet.expect(&["restore", "shop", "--in-place"], 0);
    assert_eq!(sum("shop"), before);
}

#[test]
fn a_cluster_with_a_log_comes_back_to_any_second_in_a_folder() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (what TEXT); INSERT INTO sale VALUES ('before the full')");
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(
        &server,
        "[policy.transactional]\nrpo = \"1h\"\nfull = \"0 1 * * *\"\nlog = { every = \"15m\" }\n\
         [backup.cluster]\npolicy = \"transactional\"\nstores = [\"primary\", \"second\"]\n\
         postgres = { REACHED, method = \"physical\" }\n",
    );
    fleet.expect(&["apply", "--yes"], 0);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the log')");
    let disaster = server.next_second();
    server.sql("postgres", "DROP TABLE sale");
    let too_early = fleet.expect(&["restore", "cluster", "--at", "2026-01-01", "--to", "/nowhere/"], 1);
    assert!(too_early.contains("2026-01-01"), "{too_early}");
    fleet.expect(&["backup", "cluster", "--kind", "log", "--reason", "before the way back"], 0);
    let status = fleet.expect(&["status", "cluster"], 0);
    assert!(status.contains("any second of"), "{status}");

    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let at = disaster.to_string();
    let allow = format!("write = [\"{}\", ", folder.path().display());
    let config = fs::read_to_string(fleet.0.join("backstay.toml")).unwrap();
    fs::write(fleet.0.join("backstay.toml"), config.replace("write = [", &allow)).unwrap();
    let running = fleet.expect(&["restore", "cluster", "--at", &at, "--in-place"], 4);
    assert!(running.contains("stop the server"), "{running}");
    fleet.expect(&["restore", "cluster", "--at", &at, "--to", &format!("{}/", data.display())], 0);
    let copy = Postgres::start_on(folder, &data);
    copy.wait_for("SELECT pg_is_in_recovery()", "f");
    assert_eq!(
        copy.sql("postgres", "SELECT string_agg(what, ', ') FROM sale"),
        "before the full, in the log"
    );
}
