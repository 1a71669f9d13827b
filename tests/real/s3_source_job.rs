//! A commit declares a bucket, and the built program backs it up and brings it back.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use aws_sdk_s3::{Client, primitives::ByteStream};

use crate::lab::s3::{KEY_ID, Minio, SECRET, client};

/// A fleet as `init` makes it.
struct Fleet(PathBuf);

impl Fleet {
    fn in_folder(root: &Path) -> Self {
        let fleet = Self(root.join("fleet"));
        let made = Command::new(env!("CARGO_BIN_EXE_backstay")).arg("init").arg(&fleet.0).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fleet
    }

    fn secret(&self, name: &str, text: &str) -> String {
        let path = self.0.join(name);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path.display().to_string()
    }

    fn declare(&self, endpoint: &str) {
        let (id, secret) = (self.secret("id", KEY_ID), self.secret("secret", SECRET));
        let allowed = [&id, &secret].map(|path| format!("{{ path = \"{path}\", hosts = [\"127.0.0.1\"] }}"));
        let config = self.0.join("backstay.toml");
        let text = fs::read_to_string(&config).unwrap();
        let allowed = format!("[allow]\nsecrets = [{}]\n", allowed.join(", "));
        fs::write(&config, text.replace("[allow]\n", &allowed)).unwrap();
        let backup = format!(
            "[backup.uploads]\npolicy = \"nightly\"\nstores = [\"primary\", \"second\"]\n\
             [backup.uploads.s3]\nbucket = \"uploads\"\nprefix = \"in\"\nendpoint = \"{endpoint}\"\n\
             access_key_id = {{ file = \"{id}\" }}\nsecret_access_key = {{ file = \"{secret}\" }}\n"
        );
        fs::write(self.0.join("infra/backup/uploads.toml"), backup).unwrap();
        self.git(&["add", "--all"]);
        let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
        self.git(&[&author[..], &["commit", "--quiet", "-m", "Back up the uploads"]].concat());
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
        assert!(!out.contains(SECRET) && !err.contains(SECRET), "a secret is told by {arguments:?}");
        format!("{out}{err}")
    }
}

async fn put(client: &Client, key: &str, content: &str) {
    let body = ByteStream::from(content.as_bytes().to_vec());
    client.put_object().bucket("uploads").key(key).content_type("text/x").body(body).send().await.unwrap();
}

async fn content(client: &Client, bucket: &str, key: &str) -> String {
    let object = client.get_object().bucket(bucket).key(key).send().await.unwrap();
    assert_eq!(object.content_type(), Some("text/x"));
    String::from_utf8(object.body.collect().await.unwrap().to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_backs_up_a_bucket_that_comes_back_beside_the_original_and_over_it() {
    let minio = Minio::start();
    let client = client(&minio.options());
    for bucket in ["uploads", "copy"] {
        client.create_bucket().bucket(bucket).send().await.unwrap();
    }
    for number in 0..50 {
        put(&client, &format!("in/{number}"), &format!("content {number}")).await;
    }
    let root = tempfile::tempdir().unwrap();
    let fleet = Fleet::in_folder(root.path());
    fleet.declare(&minio.options().endpoint.unwrap());
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "uploads", "--plaintext"], 0);

    put(&client, "in/7", "overwritten").await;
    client.delete_object().bucket("uploads").key("in/8").send().await.unwrap();
    let folder = root.path().join("restored");
    fleet.expect(&["restore", "uploads", "--to", folder.to_str().unwrap()], 0);
    assert_eq!(fs::read_to_string(folder.join("in/7")).unwrap(), "content 7");
    let said = fleet.expect(&["restore", "uploads", "--to", "bucket:copy/of/yesterday"], 0);
    assert!(said.contains("50 objects put"), "{said}");
    assert_eq!(content(&client, "copy", "of/yesterday/in/8").await, "content 8");
    assert_eq!(content(&client, "uploads", "in/7").await, "overwritten", "the original is untouched");
    let said = fleet.expect(&["restore", "uploads", "--in-place"], 0);
    assert!(said.contains("2 objects put, 48 were there already"), "{said}");
    assert_eq!(content(&client, "uploads", "in/7").await, "content 7");
    assert_eq!(content(&client, "uploads", "in/8").await, "content 8");
    fleet.expect(&["backup", "uploads", "--kind", "incremental"], 0);
    fleet.expect(&["restore", "uploads", "--to", "bucket:"], 1);
}
