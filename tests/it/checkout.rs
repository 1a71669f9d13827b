//! A checkout of an infra repo with a history, as a merge request's CI has it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A work tree whose declaration is in `backup/fleet.toml`, and its `origin`, both private to a test.
pub struct Checkout {
    dir: tempfile::TempDir,
}

impl Checkout {
    /// `main` declares one backup, pushed to `origin`.
    pub fn new() -> Self {
        let checkout = Self { dir: tempfile::tempdir().unwrap() };
        git(checkout.dir.path(), &["init", "--quiet", "--bare", "--initial-branch=main", "origin.git"]);
        git(checkout.dir.path(), &["clone", "--quiet", "origin.git", "work"]);
        checkout.write(&declaration("30d"));
        checkout.git(&["checkout", "--quiet", "-B", "main"]);
        checkout.commit("Declare the first backup");
        checkout.git(&["push", "--quiet", "--set-upstream", "origin", "main"]);
        checkout
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// A path beside the work tree.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the declaration, without a commit.
    pub fn write(&self, text: &str) {
        let file = self.root().join("backup/fleet.toml");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Commits everything. The commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the work tree.
    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.root(), arguments)
    }

    /// Runs `backstay` in the work tree.
    pub fn backstay(&self, arguments: &[&str]) -> Output {
        backstay_in(&self.root(), arguments, &[])
    }

    /// Runs `backstay` in the work tree and returns stdout, or else stderr, after a look at the exit code.
    #[track_caller]
    pub fn run(&self, arguments: &[&str], code: i32) -> String {
        let run = self.backstay(arguments);
        let (out, err) = (String::from_utf8(run.stdout).unwrap(), String::from_utf8(run.stderr).unwrap());
        assert_eq!(run.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        if out.is_empty() { err } else { out }
    }
}

/// Runs `backstay` in a folder with an environment of its own, in which CI's variables are not.
pub fn backstay_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_backstay"))
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .envs(environment.iter().copied())
        .output()
        .expect("the program starts")
}

/// Runs git with an identity of its own.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let run = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("git is installed");
    assert!(run.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap().trim().to_owned()
}

/// A sound fleet of one backup that keeps fulls so long.
pub fn declaration(keep: &str) -> String {
    format!(
        "[fleet]\nname = \"shop\"\nrecipients = [\"age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm\"]\n\n\
         [infra]\nstores = [\"here\", \"there\"]\n\n\
         [store.here]\nlocation = \"office\"\n[store.here.local]\npath = \"/srv/here\"\n\n\
         [store.there]\nlocation = \"cellar\"\n[store.there.local]\npath = \"/srv/there\"\n\n\
         [policy.nightly]\nrpo = \"26h\"\nfull = \"0 1 * * *\"\nkeep = {{ full = \"{keep}\" }}\n\n\
         [backup.orders]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.orders.sqlite]\npath = \"/srv/orders.db\"\n"
    )
}
