//! OpenPGP signatures by the real `gpg`, each test with a home of its own.

use std::{fs, path::PathBuf, process::Command};

use backstay::git::Mode;

use super::Scene;

/// A private `GNUPGHOME`; its agent ends with it.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Self {
        // Sockets of the agent need a short path.
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        Self { home }
    }

    fn run(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("gpg")
            .args(["--batch", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""])
            .args(arguments)
            .env("GNUPGHOME", self.home.path())
            .output()
            .expect("gpg is installed");
        assert!(output.status.success(), "gpg {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// Makes a key as if at `when`, for as long as `lasts`.
    fn key(&self, who: &str, algorithm: &str, when: &str, lasts: &str) {
        let at = format!("{when}!");
        self.run(&["--faked-system-time", &at, "--quick-gen-key", who, algorithm, "sign", lasts]);
    }

    /// Writes the public keys where the host looks.
    fn export(&self, scene: &Scene, arguments: &[&str]) {
        fs::write(scene.path("keyring"), self.run(&[&["--export"], arguments].concat())).unwrap();
    }

    /// A program that signs as if at `when`.
    fn program(&self, when: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.home.path().join(format!("gpg-{when}"));
        let script = format!(
            "#!/bin/sh\nGNUPGHOME='{}' exec gpg --batch --no-tty --pinentry-mode loopback --passphrase '' \
             --faked-system-time '{when}!' \"$@\"\n",
            self.home.path().display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        path
    }

    fn commit(&self, scene: &Scene, who: &str, when: &str, file: &str) -> String {
        fs::write(scene.repo.path.join(file), file).unwrap();
        scene.repo.git(&["add", "--all"]);
        let program = format!("gpg.program={}", self.program(when).display());
        let key = format!("user.signingkey={who}");
        scene.repo.git(&["-c", &program, "-c", &key, "commit", "-q", "-S", "-m", &format!("Change {file}")]);
        scene.repo.id("HEAD")
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let home = self.home.path();
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", home).status();
    }
}

const BEFORE: &str = "20260101T000000";
const THEN: &str = "20261120T010000";

#[tokio::test]
async fn a_commit_by_any_type_of_key_in_the_keyring_is_trusted_armored_or_not() {
    let (scene, gpg) = (Scene::new(Mode::Head), Gpg::new());
    for algorithm in ["ed25519", "rsa2048", "nistp256"] {
        let who = format!("{algorithm}@example.org");
        gpg.key(&format!("Kai <{who}>"), algorithm, BEFORE, "never");
        gpg.commit(&scene, &who, THEN, algorithm);
        gpg.export(&scene, &["--armor"]);
        let choice = scene.choose(None).await.unwrap();
        assert_eq!(choice.signer.principal, format!("Kai <{who}>"));
        let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys", &who])).unwrap();
        assert!(listed.contains(&format!("fpr:::::::::{}:", choice.signer.fingerprint)), "{listed}");
        gpg.export(&scene, &[]);
        assert!(scene.choose(None).await.is_ok());
    }
}

#[tokio::test]
async fn a_commit_by_a_subkey_is_its_owners() {
    let (scene, gpg) = (Scene::new(Mode::Head), Gpg::new());
    gpg.run(&[
        "--faked-system-time",
        "20260101T000000!",
        "--quick-gen-key",
        "Ops <ops@example.org>",
        "ed25519",
        "cert",
    ]);
    let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys", "ops@example.org"])).unwrap();
    let primary = listed.lines().find_map(|line| line.strip_prefix("fpr:::::::::")).unwrap();
    let primary = primary.trim_end_matches(':');
    gpg.run(&[
        "--faked-system-time",
        "20260102T000000!",
        "--quick-add-key",
        primary,
        "ed25519",
        "sign",
        "never",
    ]);
    gpg.commit(&scene, "ops@example.org", THEN, "a");
    gpg.export(&scene, &["--armor"]);
    let choice = scene.choose(None).await.unwrap();
    assert_eq!(
        (choice.signer.principal.as_str(), choice.signer.fingerprint.as_str()),
        ("Ops <ops@example.org>", primary)
    );
}

#[tokio::test]
async fn a_key_that_is_unknown_or_a_commit_that_was_changed_is_not_trusted() {
    let (scene, gpg) = (Scene::new(Mode::Head), Gpg::new());
    gpg.key("Kai <kai@example.org>", "ed25519", BEFORE, "never");
    gpg.key("Mallory <mallory@example.org>", "ed25519", BEFORE, "never");
    gpg.export(&scene, &["kai@example.org"]);
    gpg.commit(&scene, "mallory@example.org", THEN, "a");
    let why = scene.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("which the host's files do not name"), "{why}");
    gpg.commit(&scene, "kai@example.org", THEN, "b");
    assert!(scene.choose(None).await.is_ok());
    scene.tamper(|raw| raw.replace("Change b", "Change c"));
    let why = scene.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("does not fit"), "{why}");
}

#[tokio::test]
async fn an_expired_key_vouches_for_what_it_signed_while_it_lived_and_a_revoked_one_for_nothing() {
    let (scene, gpg) = (Scene::new(Mode::Head), Gpg::new());
    // It expires on 2026-03-02.
    gpg.key("Kai <kai@example.org>", "ed25519", BEFORE, "60d");
    gpg.export(&scene, &["--armor"]);
    gpg.commit(&scene, "kai@example.org", "20260201T000000", "a");
    assert!(scene.choose(None).await.is_ok());

    let other = Scene::new(Mode::Head);
    gpg.export(&other, &["--armor"]);
    // gpg itself refuses to sign with an expired key: it is given a longer life, which the host does not know of.
    let listed = String::from_utf8(gpg.run(&["--with-colons", "--list-keys"])).unwrap();
    let key = listed
        .lines()
        .find_map(|line| line.strip_prefix("fpr:::::::::"))
        .unwrap()
        .trim_end_matches(':')
        .to_owned();
    gpg.run(&["--faked-system-time", "20260202T000000!", "--quick-set-expire", &key, "0"]);
    gpg.commit(&other, "kai@example.org", THEN, "b");
    let why = other.choose(None).await.unwrap_err().to_string();
    assert!(why.contains("expired at 2026-03-02"), "{why}");
    gpg.export(&other, &["--armor"]);
    assert!(other.choose(None).await.is_ok(), "the longer life is known now");

    let certificate = gpg.home.path().join(format!("openpgp-revocs.d/{key}.rev"));
    let text = fs::read_to_string(&certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    fs::write(&certificate, text).unwrap();
    gpg.run(&["--import", certificate.to_str().unwrap()]);
    for scene in [&scene, &other] {
        gpg.export(scene, &["--armor"]);
        let why = scene.choose(None).await.unwrap_err().to_string();
        assert!(why.contains("revoked"), "{why}");
    }
}

#[tokio::test]
async fn a_private_key_does_not_belong_on_the_host() {
    let (scene, gpg) = (Scene::new(Mode::Head), Gpg::new());
    gpg.key("Kai <kai@example.org>", "ed25519", BEFORE, "never");
    fs::write(scene.path("keyring"), gpg.run(&["--armor", "--export-secret-keys"])).unwrap();
    assert!(scene.trust().unwrap_err().to_string().contains("private key"));
}
