//! Making repositories for people to begin with, by the `git` program.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// Makes a repository of the folder's files, on the branch `main`, and commits them.
pub(super) fn init_and_commit(folder: &Path, message: &str) -> anyhow::Result<()> {
    git(folder, &["init", "--quiet", "--initial-branch=main"])?;
    commit_all(folder, message)
}

/// Commits everything in a work tree.
pub(super) fn commit_all(folder: &Path, message: &str) -> anyhow::Result<()> {
    git(folder, &["add", "--all"])?;
    let author = ["-c", "user.name=Backstay", "-c", "user.email=backstay@localhost"];
    let named = Command::new("git").arg("-C").arg(folder).args(["config", "user.email"]).output();
    let anonymous = !named.is_ok_and(|named| named.status.success());
    let mut arguments = if anonymous { author.to_vec() } else { Vec::new() };
    arguments.extend(["commit", "--quiet", "--no-gpg-sign", "--message", message]);
    git(folder, &arguments)
}

/// Runs `git` in a folder, and fails with its own words.
pub(super) fn git(folder: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let run = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("failed to start git; install it")?;
    if !run.status.success() {
        let words = String::from_utf8_lossy(&run.stderr);
        bail!("failed to run git {} in {}: {}", arguments.join(" "), folder.display(), words.trim());
    }
    Ok(())
}
