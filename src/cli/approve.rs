//! `backstay approve`: a person's word that what is held may go on.

mod plans;

use std::{path::Path, str::FromStr, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use jiff::{SignedDuration, tz::TimeZone};
use serde::Serialize;

use super::{
    Output, controller,
    exit::Exit,
    saying::{person, wake},
    terminal::Terminal,
};
use crate::{
    artifact::{approval::PlanPrefix, record::RewriteApproval},
    reconcile::{Approved, Controller, Word},
    render,
    spec::{
        names::StoreName,
        values::{Line, TextForm as _},
    },
};

/// Approve what is held: the rewritten tip of the branch, or deletions that a safety rule holds back
///
/// Look first: `backstay status` names the commits that a rewritten branch has lost, `backstay plan` the artifacts that would
/// go. The approval counts for exactly that, is kept in the stores with your name and reason, and expires.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay approve 3b1e5c0d9f --reason 'a secret was taken out of the history'\n  backstay approve plan:9f86d08188 --reason 'retention was shortened on purpose'"
)]
pub(super) struct Approve {
    /// The revision that is held: its id, or at least 7 digits of it. Or plans, as `backstay plan` names them
    #[arg(value_name = "REVISION|PLAN", required = true)]
    subjects: Vec<Subject>,
    /// Why; kept in the records
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// How long the approval counts
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    expires: Duration,
    /// Of plans: approve nothing here; print what to add to approve.toml in the infra repo, for a signed commit to approve
    #[arg(long)]
    toml: bool,
}

/// What is approved, told by the form of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    /// The beginning of a commit's id.
    Revision(String),
    /// The beginning of a plan's name.
    Plan(PlanPrefix),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("plan:") {
            return text.parse().map(Self::Plan);
        }
        let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal && (7..=40).contains(&text.len()) {
            return Ok(Self::Revision(text.to_owned()));
        }
        Err("give 7 to 40 digits of a commit's id, as `backstay status` shows it, or a plan's name, as `backstay plan` does"
            .to_owned())
    }
}

fn reason(text: &str) -> Result<String, String> {
    match Line::parse(text) {
        Ok(Line(line)) if !line.trim().is_empty() => Ok(line),
        Ok(_) => Err("say why".to_owned()),
        Err(invalid) => Err(invalid.reason),
    }
}

#[derive(Serialize)]
struct Told<'a> {
    approval: &'a RewriteApproval,
    stores: &'a [StoreName],
    faults: &'a [String],
}

impl Approve {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let word = Word {
            by: person(),
            reason: self.reason,
            lasts: SignedDuration::try_from(self.expires).context("failed to approve for so long")?,
        };
        match self.subjects.as_slice() {
            [Subject::Revision(_)] if self.toml => {
                bail!("a rewritten branch is approved on the host alone; take --toml away")
            }
            [Subject::Revision(revision)] => rewrite(&controller, revision, word, terminal),
            subjects => {
                let plans: Option<Vec<PlanPrefix>> = subjects.iter().map(Subject::plan).collect();
                let plans = plans
                    .context("a revision is approved alone; approve plans with a command of their own")?;
                match self.toml {
                    true => plans::print(&controller, &plans, &word, terminal),
                    false => plans::approve(&controller, &plans, &word, terminal),
                }
            }
        }
    }
}

impl Subject {
    fn plan(&self) -> Option<PlanPrefix> {
        match self {
            Subject::Plan(plan) => Some(plan.clone()),
            Subject::Revision(_) => None,
        }
    }
}

fn rewrite(controller: &Controller, revision: &str, word: Word, terminal: &Terminal) -> anyhow::Result<Exit> {
    controller::block_on(async {
        let approved = controller.approve_rewrite(revision, word).await?;
        tell(&approved, terminal)?;
        wake(&controller.state().socket(), terminal).await;
        Ok(if approved.faults.is_empty() { Exit::Done } else { Exit::Partial })
    })
}

fn tell(approved: &Approved, terminal: &Terminal) -> anyhow::Result<()> {
    let Approved { approval, lost, stores, faults } = approved;
    for fault in faults {
        terminal.note(&format!("{} {fault}", terminal.stderr.warn("!")));
    }
    if terminal.output == Output::Json {
        return terminal.json("backstay.approval/1", &Told { approval, stores, faults });
    }
    let (from, to) = (render::short_revision(&approval.from), render::short_revision(&approval.to));
    let until = render::moment(approval.until, &TimeZone::UTC);
    terminal.data(&format!(
        "Approved: the branch may go from {from} to {to} until {until}.\nIt has lost {lost}. They stay in bundles and \
         mirrors.\n"
    ))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_named_by_enough_of_its_digits_and_nothing_else_is_taken_for_one() {
        assert_eq!("3b1e5c0".parse(), Ok(Subject::Revision("3b1e5c0".to_owned())));
        assert!("a".repeat(40).parse::<Subject>().is_ok());
        for other in ["3b1e5c", "main", "3B1E5C0", "", &"a".repeat(41), "--help"] {
            assert!(other.parse::<Subject>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_plan_is_told_from_a_revision_by_its_name() {
        assert!(matches!("plan:9f86d08188".parse(), Ok(Subject::Plan(_))));
        for other in ["plan:9f86d0818", "plan:main", "plan:", "9f86d08188:plan"] {
            assert!(other.parse::<Subject>().is_err(), "{other}");
        }
    }

    #[test]
    fn a_reason_is_a_line_that_says_something() {
        assert_eq!(reason("meant"), Ok("meant".to_owned()));
        assert!(["", "  ", "two\nlines", "\u{1b}[2J"].iter().all(|text| reason(text).is_err()));
    }
}
