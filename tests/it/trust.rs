//! Which revision may come into force: real commits and tags, signed by the real `ssh-keygen` and `gpg` through `git`, and
//! `git verify-commit` as the referee.

mod gpg;
mod passes;
mod ssh;
mod tags;
mod web_flow;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use backstay::git::{
    Mirror, Mode, Policy, Trust,
    verify::{Choice, Distrust, Files, TrustError},
};

use crate::git::Repo;

/// A repository, keys beside it, and what the host asks for.
pub struct Scene {
    pub repo: Repo,
    pub mode: Mode,
}

impl Scene {
    pub fn new(mode: Mode) -> Self {
        let repo = Repo::empty();
        let scene = Self { repo, mode };
        scene.allow("");
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.repo.root.path().join(name)
    }

    /// Makes an SSH key; its public half.
    pub fn key(&self, name: &str, kind: &[&str]) -> String {
        let path = self.path(name);
        let made = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", name, "-t"])
            .args(kind)
            .arg("-f")
            .arg(&path)
            .status()
            .expect("ssh-keygen is installed");
        assert!(made.success());
        let public = fs::read_to_string(path.with_extension("pub")).unwrap();
        public.rsplit_once(' ').unwrap().0.to_owned()
    }

    /// Writes `allowed_signers`.
    pub fn allow(&self, lines: &str) {
        fs::write(self.path("allowed"), lines).unwrap();
    }

    /// Makes a commit signed with the SSH key `key`.
    pub fn commit_by(&self, key: &str, file: &str) -> String {
        fs::write(self.repo.path.join(file), file).unwrap();
        self.repo.git(&["add", "--all"]);
        self.signed(key, &["commit", "-q", "-S", "-m", &format!("Change {file}")]);
        self.repo.id("HEAD")
    }

    /// Runs `git` so that what it signs is signed with an SSH key.
    pub fn signed(&self, key: &str, arguments: &[&str]) -> String {
        let key = format!("user.signingkey={}", self.path(key).display());
        let settings = ["-c", "gpg.format=ssh", "-c", &key];
        self.repo.git(&[&settings[..], arguments].concat())
    }

    /// Makes a commit that nobody signed.
    pub fn unsigned(&self, file: &str) -> String {
        self.repo.commit(file, file)
    }

    pub fn policy(&self) -> Policy {
        let there = |name: &str| Some(self.path(name)).filter(|path| path.exists());
        Policy {
            mode: self.mode.clone(),
            signers: there("allowed"),
            keyring: there("keyring"),
            web_flow: there("web-flow"),
        }
    }

    pub fn trust(&self) -> Result<Arc<Trust>, TrustError> {
        Files::read(&self.policy())?.trust().map(Arc::new)
    }

    /// What the branch proposes after `base`.
    pub async fn choose(&self, base: Option<&str>) -> Result<Choice, Distrust> {
        let mirror = self.mirror().await;
        let tip = mirror.desired().await.unwrap();
        self.trust().unwrap().choose(&mirror, &tip, base).await
    }

    pub async fn mirror(&self) -> Mirror {
        let mirror = self.repo.mirror();
        mirror.fetch().await.unwrap();
        mirror
    }

    /// Whether the branch's tip is trusted, by us and by the referee, who must agree. Why not, where it is not.
    pub async fn verdict(&self) -> Result<String, String> {
        let ours = self.choose(None).await;
        let allowed = format!("gpg.ssh.allowedSignersFile={}", self.path("allowed").display());
        let arguments = ["-c", &allowed, "verify-commit", "HEAD"];
        let referee = crate::git::try_git(&self.repo.path, &arguments, b"");
        let said = String::from_utf8_lossy(&referee.stderr).into_owned();
        assert_eq!(ours.is_ok(), referee.status.success(), "{ours:?}, and git says: {said}");
        ours.map(|choice| choice.signer.principal).map_err(|distrust| distrust.to_string())
    }

    /// Replaces the branch's tip by a commit with the same bytes but for what `change` makes of them.
    pub fn tamper(&self, change: impl Fn(String) -> String) -> String {
        let raw = self.repo.git(&["cat-file", "commit", "HEAD"]);
        let changed = change(format!("{raw}\n"));
        assert_ne!(changed, format!("{raw}\n"));
        let arguments = ["hash-object", "-t", "commit", "-w", "--stdin"];
        let id = crate::git::fed_git(&self.repo.path, &arguments, changed.as_bytes());
        self.repo.git(&["reset", "-q", "--hard", &id]);
        id
    }
}

pub fn fingerprint(key: &Path) -> String {
    let shown = Command::new("ssh-keygen").arg("-lf").arg(key).output().unwrap();
    String::from_utf8(shown.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
}
