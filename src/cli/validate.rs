//! `backstay validate`: an offline check of a declaration.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, ValueEnum};

use super::{
    Output,
    checkout::Checkout,
    controller::block_on,
    declaration::{Outside, outside},
    exit::Exit,
    measured,
    terminal::Terminal,
};
use crate::{
    clock::{Clock as _, SystemClock},
    diagnostic::{Diagnostic, Severity},
    render::diagnostics::{self, Report},
    spec::{
        approvals::untimely,
        parse::{Parsed, parse},
    },
    templates::{Templates, machines},
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
    format: Option<Format>,
    /// Also warn of what `backstay status -o json` of the controller, in this file (`-`: stdin), puts in doubt: an RTO that a drill
    /// missed, one at risk, what was never tried
    #[arg(long, value_name = "FILE")]
    measured: Option<PathBuf>,
    /// What makes the command fail
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,
}

/// What the findings look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: `backstay.validate/1`.
    Json,
    /// Annotations, by the workflow commands of GitHub, Gitea and Forgejo Actions.
    Github,
    /// A code quality report of GitLab.
    Gitlab,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// A test report in JUnit's XML.
    Junit,
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
        let checkout = Checkout::at(&self.path)?;
        let commit = self.rev.as_ref().map(|revision| checkout.resolve(revision)).transpose()?;
        let files = match commit {
            None => checkout.working_tree()?,
            Some(commit) => checkout.commit(commit)?,
        };
        if files.is_empty() {
            terminal.error(&anyhow!(
                "found no *.toml in {}; name the folder that holds the declaration",
                self.path.display()
            ));
            return Ok(Exit::NoInput);
        }
        if let Some(outside) = outside(&files) {
            terminal.error(&self.not_a_declaration(&outside));
            return Ok(Exit::NoInput);
        }
        let mut parsed = parse(&files);
        if let Some(file) = &self.measured {
            let measured = measured::read(file)?;
            measured::must_be_of(&measured, &parsed)?;
            let age = measured::age(&measured, &parsed);
            measured::tell(&mut parsed, &measured);
            parsed.diagnostics.extend(age);
        }
        let templates = match commit {
            None => checkout.templates()?,
            Some(commit) => checkout.templates_of(commit)?,
        };
        let unusable = block_on(async { Ok(unusable_templates(&parsed, &templates).await) })?;
        let mut found = parsed.diagnostics;
        found.extend(unusable);
        found.extend(untimely(&parsed.approvals, SystemClock.now()));
        let folder = checkout.prefix();
        self.show(Report { diagnostics: &found, files: &files, folder: &folder }, terminal)?;
        Ok(self.exit(&found))
    }

    fn not_a_declaration(&self, outside: &Outside) -> anyhow::Error {
        let configuration = self.path.join(&outside.configuration);
        let meant = match &outside.declaration {
            Some(folder) => format!("backstay validate {}", self.path.join(folder).display()),
            None => "the folder that holds the declaration".to_owned(),
        };
        anyhow!(
            "{} is no declaration: {} is a controller's own configuration; try {meant}",
            self.path.display(),
            configuration.display()
        )
    }

    fn show(&self, report: Report<'_>, terminal: &Terminal) -> anyhow::Result<()> {
        let format = self.format.unwrap_or(match terminal.output {
            Output::Text => Format::Text,
            Output::Json => Format::Json,
        });
        let text = match format {
            Format::Text => diagnostics::text(report.diagnostics, report.files, terminal.stdout),
            Format::Json => format!("{:#}\n", diagnostics::json(report.diagnostics, report.files)),
            Format::Github => diagnostics::github(report),
            Format::Gitlab => format!("{:#}\n", diagnostics::gitlab(report)),
            Format::Sarif => format!("{:#}\n", diagnostics::sarif(report)),
            Format::Junit => diagnostics::junit(report),
        };
        Ok(terminal.data(&text)?)
    }

    fn exit(&self, found: &[Diagnostic]) -> Exit {
        match found.iter().map(|diagnostic| diagnostic.severity).max() {
            Some(Severity::Error) => Exit::Errors,
            Some(Severity::Warning) if self.fail_on == FailOn::Warning => Exit::Warnings,
            Some(Severity::Warning | Severity::Note) | None => Exit::Done,
        }
    }
}

/// Machines whose templates are not there, or do not render with what is declared.
async fn unusable_templates(parsed: &Parsed, templates: &Templates) -> Vec<Diagnostic> {
    let Some(spec) = &parsed.spec else { return Vec::new() };
    let mut unusable = Vec::new();
    for vm in spec.vms.values() {
        let Err(error) = machines::check(&spec.fleet.name, vm, templates).await else { continue };
        let diagnostic = Diagnostic::error("unusable-template", error.to_string()).hint(
            "templates/ is at the root of the repository; docs/machines.md tells what a template may ask for",
        );
        unusable.push(match parsed.templates.get(&vm.name) {
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        });
    }
    unusable
}
