//! `plan --against`: what changes between two revisions, offline.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{anyhow, bail};
use clap::{Args, ValueEnum};

use super::{
    Output,
    checkout::{Checkout, Files},
    controller,
    exit::Exit,
    fleet::Choice,
    measured,
    post::{Host, Post},
    terminal::Terminal,
};
use crate::{
    clock::{Clock, SystemClock},
    plan::review::{self, Gone, Review, Side, Verdict},
    reconcile::{Survey, Terms},
    render::review::{self as render, Named, Told, markdown},
    spec::{
        parse::{Parsed, parse},
        places::Places,
    },
    status::measured::Measured,
};

/// Two revisions to compare.
#[derive(Debug, Args)]
pub(super) struct Comparison {
    /// The folder that holds the declaration, in a checkout of the infra repo
    #[arg(default_value = ".", value_name = "PATH", requires = "against")]
    path: PathBuf,
    /// Compare with this revision, offline: what a merge into it would change
    #[arg(long, value_name = "REV", conflicts_with = "out")]
    pub(super) against: Option<String>,
    /// The revision to review [default: the folder as it is]
    #[arg(long, value_name = "REV", requires = "against")]
    rev: Option<String>,
    /// What the comparison looks like [default: as --output says]
    #[arg(long, value_enum, requires = "against")]
    format: Option<Format>,
    /// What makes the comparison exit with 10
    #[arg(long, value_enum, default_value_t = FailOn::Change, requires = "against")]
    fail_on: FailOn,
    /// Also name the artifacts that would go, by what the stores hold; asks them by the controller's configuration
    #[arg(long, requires = "against")]
    actual: bool,
    /// Also tell what `backstay status -o json` of the controller, in this file (`-`: stdin), puts in doubt: an RTO that a drill
    /// missed, one at risk, what was never tried; with --actual the controller itself is asked
    #[arg(long, value_name = "FILE", requires = "against", conflicts_with = "actual")]
    measured: Option<PathBuf>,
    /// Also post it: a commit status, and one comment of the merge request, kept up to date [default: auto]
    ///
    /// The host, repository, commit and merge request are what the CI's variables tell, and `BACKSTAY_FORGE_API`,
    /// `_PROJECT`, `_COMMIT` and `_CHANGE` before them; the token is in `BACKSTAY_FORGE_TOKEN` or in the file that
    /// `BACKSTAY_FORGE_TOKEN_FILE` names.
    #[arg(long, value_enum, value_name = "HOST", num_args = 0..=1, require_equals = true, default_missing_value = "auto", requires = "against")]
    post: Option<Host>,
}

/// What a comparison looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs: `backstay.review/1`.
    Json,
    /// For the comment of a merge request.
    Markdown,
}

/// What makes a comparison exit with 10. Errors exit with 12 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FailOn {
    /// Any change.
    Change,
    /// Restore points, copies or promises that are lost.
    Loss,
    /// Nothing but errors.
    Error,
}

/// Characters of a comment that every host but Bitbucket takes.
const COMMENT: usize = 65_536;

impl Comparison {
    /// Compares with `against`.
    pub(super) fn run(&self, against: &str, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let checkout = Checkout::at(&self.path)?;
        let sides = self.sides(&checkout, against, terminal)?;
        if sides.head.1.is_empty() && sides.base.1.is_empty() {
            terminal.error(&anyhow!(
                "found no *.toml in {}; name the folder that holds the declaration",
                self.path.display()
            ));
            return Ok(Exit::NoInput);
        }
        let post = self.post.map(Post::open).transpose()?;
        let begun = post.as_ref().map(Post::pending).transpose();
        let told = self.told(sides, choice, terminal)?;
        self.show(&told, terminal)?;
        let exit = self.exit(&told.review);
        begun?;
        if let Some(post) = post {
            post.conclude(&told, exit, terminal)?;
        }
        Ok(exit)
    }

    fn sides(&self, checkout: &Checkout, against: &str, terminal: &Terminal) -> anyhow::Result<Sides> {
        let tip = checkout.resolve(against)?;
        let (head, commit, files) = match &self.rev {
            Some(rev) => {
                let commit = checkout.resolve(rev)?;
                (commit, Some(commit.to_string()), checkout.commit_or_nothing(commit)?)
            }
            None => (checkout.resolve("HEAD")?, None, checkout.working_tree()?),
        };
        let base = match checkout.merge_base(tip, head)? {
            Some(base) => base,
            None => {
                terminal.note(&format!(
                    "{} this clone does not show where the two histories part: compared with {against} as it is",
                    terminal.stderr.warn("!")
                ));
                tip
            }
        };
        let name = self.rev.clone().unwrap_or_else(|| "working tree".to_owned());
        Ok(Sides {
            base: (
                Named { name: against.to_owned(), commit: Some(base.to_string()) },
                checkout.commit_or_nothing(base)?,
            ),
            head: (Named { name, commit }, files),
        })
    }

    fn told(&self, sides: Sides, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Told> {
        let (mut before, mut after) = (base(&sides.base.1), parse(&sides.head.1));
        let survey = if self.actual { surveyed(&before, &after, &choice.one()?)? } else { None };
        let measured = match &self.measured {
            Some(file) => Some(measured::read(file)?),
            None => survey.as_ref().map(|survey| Measured::of(&survey.pass.status)),
        };
        if let Some(measured) = &measured {
            measured::must_be_of(measured, &after)?;
            if let Some(stale) = measured::age(measured, &after) {
                terminal.note(&format!("{} {}", terminal.stderr.warn("!"), stale.message));
            }
            [&mut before, &mut after].into_iter().for_each(|side| measured::tell(side, measured));
        }
        let review = review::review(side(&before), side(&after), SystemClock.now());
        let gone =
            self.actual.then(|| survey.map(|survey| gone(&before, &after, &survey)).unwrap_or_default());
        Ok(Told { against: sides.base.0, revision: sides.head.0, review, gone })
    }

    fn show(&self, told: &Told, terminal: &Terminal) -> anyhow::Result<()> {
        let format = self.format.unwrap_or(match terminal.output {
            Output::Text => Format::Text,
            Output::Json => Format::Json,
        });
        match format {
            Format::Text => terminal.data(&render::text(told, terminal.stdout))?,
            Format::Json => terminal.json(render::FORMAT, told)?,
            Format::Markdown => {
                terminal.data(&markdown::markdown(told, markdown::Flavor::Folding, COMMENT))?;
            }
        }
        Ok(())
    }

    fn exit(&self, review: &Review) -> Exit {
        match (review.verdict, self.fail_on) {
            (Verdict::Refused, _) => Exit::Errors,
            (Verdict::Loses, FailOn::Change | FailOn::Loss) | (Verdict::Changes, FailOn::Change) => {
                Exit::Pending
            }
            _ => Exit::Done,
        }
    }
}

/// The two revisions and their files.
struct Sides {
    base: (Named, Files),
    head: (Named, Files),
}

/// A base without any file declares nothing, which is no fault of it.
fn base(files: &Files) -> Parsed {
    if files.is_empty() {
        Parsed {
            spec: None,
            approvals: Vec::new(),
            templates: BTreeMap::new(),
            places: Places::default(),
            diagnostics: Vec::new(),
        }
    } else {
        parse(files)
    }
}

fn side(parsed: &Parsed) -> Side<'_> {
    Side { spec: parsed.spec.as_ref(), diagnostics: &parsed.diagnostics }
}

/// What the controller of the fleet sees; `None` where there are no two sound revisions.
fn surveyed(before: &Parsed, after: &Parsed, config: &Path) -> anyhow::Result<Option<Survey>> {
    let (Some(_), Some(after)) = (&before.spec, &after.spec) else { return Ok(None) };
    let controller = controller::open(config)?;
    let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
    if survey.spec.fleet.name != after.fleet.name {
        bail!(
            "the controller of {} is that of fleet {}, not {}; leave out --actual, or name the right --config",
            config.display(),
            survey.spec.fleet.name,
            after.fleet.name
        );
    }
    Ok(Some(survey))
}

fn gone(before: &Parsed, after: &Parsed, survey: &Survey) -> Vec<Gone> {
    let (Some(before), Some(after)) = (&before.spec, &after.spec) else { return Vec::new() };
    review::gone(before, after, &survey.inventory, &survey.limits, survey.pass.plan.at)
}
