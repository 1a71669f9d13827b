//! `backstay validate`: an offline check of a declaration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::{Args, ValueEnum};

use super::{Output, exit::Exit, terminal::Terminal};
use crate::{
    diagnostic::{Diagnostic, Severity},
    git::revision::{read, read_folder},
    render::diagnostics,
    spec::parse::parse,
};

/// Check a declaration offline: nothing is run, nothing is asked of any server
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay validate infra/backup --fail-on warning")]
pub(super) struct Validate {
    /// The folder that holds the declaration; every *.toml in it is read
    #[arg(default_value = ".", value_name = "PATH")]
    path: PathBuf,
    /// Read the folder as it was at this revision of its repository
    #[arg(long, value_name = "REV")]
    rev: Option<String>,
    /// What the findings look like [default: as --output says]
    #[arg(long, value_enum)]
    format: Option<Output>,
    /// What makes the command fail
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,
}

/// What makes the command fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Exit 12 for errors.
    Error,
    /// Exit 11 for warnings as well.
    Warning,
}

impl Validate {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let files = match &self.rev {
            None => read_folder(&self.path, "")?,
            Some(revision) => read_revision(&self.path, revision)?,
        };
        if files.is_empty() {
            terminal.error(&anyhow!(
                "found no *.toml in {}; name the folder that holds the declaration",
                self.path.display()
            ));
            return Ok(Exit::NoInput);
        }
        let found = parse(&files).diagnostics;
        self.show(&found, &files, terminal)?;
        Ok(self.exit(&found))
    }

    fn show(
        &self,
        found: &[Diagnostic],
        files: &BTreeMap<String, Vec<u8>>,
        terminal: &Terminal,
    ) -> anyhow::Result<()> {
        match self.format.unwrap_or(terminal.output) {
            Output::Text => terminal.data(&diagnostics::text(found, files, terminal.stdout))?,
            Output::Json => terminal.data(&format!("{:#}\n", diagnostics::json(found, files)))?,
        }
        Ok(())
    }

    fn exit(&self, found: &[Diagnostic]) -> Exit {
        match found.iter().map(|diagnostic| diagnostic.severity).max() {
            Some(Severity::Error) => Exit::Errors,
            Some(Severity::Warning) if self.fail_on == FailOn::Warning => Exit::Warnings,
            Some(Severity::Warning) | None => Exit::Done,
        }
    }
}

/// Reads a folder at a revision of the repository that it stands in.
fn read_revision(path: &Path, revision: &str) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let repo = git2::Repository::discover(path)
        .with_context(|| format!("{} stands in no Git repository; leave out --rev", path.display()))?;
    let folder = match repo.workdir() {
        Some(root) => path.canonicalize()?.strip_prefix(root.canonicalize()?)?.to_owned(),
        None => PathBuf::new(),
    };
    let folder = folder.to_str().context("the folder's name is not UTF-8; rename it")?;
    Ok(read(repo.path(), revision, folder)?.files)
}
