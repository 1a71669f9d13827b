//! `backstay approve`: a person's word that what is held may go on.

use std::{path::Path, str::FromStr, time::Duration};

use anyhow::Context;
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
    artifact::record::RewriteApproval,
    reconcile::{Approved, Word},
    render,
    spec::names::StoreName,
};

/// Approve what is held: the rewritten tip of the branch
///
/// Look first at what the branch has lost: `backstay status` names it. The approval counts for exactly that step, is kept
/// in the stores with your name and reason, and expires.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay approve 3b1e5c0d9f --reason 'a secret was taken out of the history'"
)]
pub(super) struct Approve {
    /// The revision that is held: its id, or at least 7 digits of it
    #[arg(value_name = "REVISION")]
    subject: Subject,
    /// Why; kept in the records
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// How long the approval counts
    #[arg(long, value_name = "TIME", default_value = "1d", value_parser = humantime::parse_duration)]
    expires: Duration,
}

/// What is approved, told by the form of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Subject {
    /// The beginning of a commit's id.
    Revision(String),
}

impl FromStr for Subject {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hexadecimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hexadecimal && (7..=40).contains(&text.len()) {
            return Ok(Self::Revision(text.to_owned()));
        }
        Err("give 7 to 40 digits of a commit's id, as `backstay status` shows it".to_owned())
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
        let Subject::Revision(revision) = self.subject;
        controller::block_on(async {
            let approved = controller.approve_rewrite(&revision, word).await?;
            tell(&approved, terminal)?;
            wake(&controller.state().socket(), terminal).await;
            Ok(if approved.faults.is_empty() { Exit::Done } else { Exit::Partial })
        })
    }
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
}
