//! The infra repo with the real `git` program.

pub mod bundle;
mod mirror;
mod push;
mod revision;
mod source;
mod watch;
mod written;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use backstay::git::{Mirror, RepoUrl};
use jiff::Timestamp;
use tempfile::TempDir;

/// A repository in a temporary folder, made with the real `git`.
pub struct Repo {
    pub root: TempDir,
    pub path: PathBuf,
}

impl Repo {
    /// With a work tree and no commits, on branch `main`.
    pub fn empty() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("infra");
        git(root.path(), &["init", "-q", "-b", "main", "infra"]);
        Self { root, path }
    }

    /// With one commit of one file.
    pub fn with_a_commit() -> Self {
        let repo = Self::empty();
        repo.commit("backup/fleet.toml", "[fleet]\nname = \"pavroto\"\n");
        repo
    }

    /// Writes a file and commits it; the commit's id.
    pub fn commit(&self, file: &str, content: &str) -> String {
        let path = self.path.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self.git(&["add", "--all"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", &format!("Change {file}")]);
        self.id("HEAD")
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        git(&self.path, arguments)
    }

    pub fn id(&self, revision: &str) -> String {
        self.git(&["rev-parse", "--verify", revision])
    }

    pub fn state_dir(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub fn url(&self) -> RepoUrl {
        RepoUrl::parse(self.path.to_str().unwrap()).unwrap()
    }

    pub fn mirror(&self) -> Mirror {
        Mirror::open(&self.state_dir(), self.url(), "main").unwrap()
    }
}

/// Runs the real `git`; what it printed, without the last newline.
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    fed_git(folder, arguments, b"")
}

pub fn fed_git(folder: &Path, arguments: &[&str], input: &[u8]) -> String {
    printed(arguments, &try_git(folder, arguments, input))
}

/// As [`git`], with this moment as the date of what it commits.
pub fn git_at(folder: &Path, at: Timestamp, arguments: &[&str]) -> String {
    printed(arguments, &dated_git(folder, &format!("{at:.0}"), arguments, b""))
}

fn printed(arguments: &[&str], output: &Output) -> String {
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap().trim_end().to_owned()
}

pub fn try_git(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    dated_git(folder, "2026-11-20T01:00:00Z", arguments, input)
}

fn dated_git(folder: &Path, date: &str, arguments: &[&str], input: &[u8]) -> Output {
    use std::io::Write;
    let mut command = Command::new("git");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Kai").env(format!("GIT_{who}_EMAIL"), "kai@example.org");
        command.env(format!("GIT_{who}_DATE"), date);
    }
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command.current_dir(folder).args(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
