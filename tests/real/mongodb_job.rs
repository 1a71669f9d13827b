//! A commit declares a MongoDB database, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use bson::{RawDocumentBuf, doc};

use crate::lab::mongodb::{Mongodb, PASSWORD, USER};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    fn declare(&self, server: &Mongodb) {
        let secret = self.0.join("secret");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&secret).unwrap();
        file.write_all(PASSWORD.as_bytes()).unwrap();
        let allowed = format!("secrets = [{{ path = \"{}\", hosts = [\"127.0.0.1\"] }}]\n", secret.display());
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        fs::write(&config, text.replace("[allow]\n", &format!("[allow]\n{allowed}"))).unwrap();
        let backup = format!(
            "[backup.shop]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
             mongodb = {{ host = \"127.0.0.1\", port = {}, user = \"{USER}\", password = {{ file = \"{}\" }}, \
             databases = [\"shop\"] }}\n",
            server.port(),
            secret.display()
        );
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

#[tokio::test]
async fn a_commit_backs_up_a_database_that_comes_back_beside_the_original_and_over_it() {
    let server = Mongodb::start().await;
    let sale = |n: i32| RawDocumentBuf::try_from(&doc! { "_id": n, "what": format!("sale {n}") }).unwrap();
    server.collection("shop", "sale").insert_many((0..5000).map(sale)).await.unwrap();
    let before = server.everything("shop").await;
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(&server);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "shop", "--plaintext"], 0);

    server.collection("shop", "sale").delete_many(doc! { "_id": { "$gt": 10 } }).await.unwrap();
    fleet.expect(&["restore", "shop", "--to", "database:shop_copy"], 0);
    assert!(server.everything("shop_copy").await == before);
    assert!(server.everything("shop").await != before, "the original was touched");
    fleet.expect(&["restore", "shop", "--in-place"], 0);
    assert!(server.everything("shop").await == before);
}
