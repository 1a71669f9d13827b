//! `backstay plan`: what a pass would do.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{
    controller,
    exit::Exit,
    fleet::{Choice, Chosen, Telling},
    report,
    review::Comparison,
    terminal::{Terminal, json_text},
};
use crate::{
    reconcile::{Ask, Terms, saved},
    render,
};

/// Show what a pass would do now and what waits, each with why; changes nothing
///
/// With --against, compares two revisions of a declaration instead: offline, without a controller, for a review before a
/// merge.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay plan --out plan.json && backstay apply plan.json\n  backstay plan backup --against origin/main"
)]
pub(super) struct Plan {
    /// Save the plan, for `apply FILE`; a file that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    comparison: Comparison,
}

impl Plan {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        if let Some(against) = &self.comparison.against {
            return self.comparison.run(against, choice, terminal);
        }
        let chosen = match self.out {
            Some(_) => Chosen::One(choice.one()?),
            None => choice.all()?,
        };
        chosen.tell(terminal, |config| self.look(config, terminal))
    }

    fn look(&self, config: &Path, terminal: &Terminal) -> anyhow::Result<Telling> {
        let controller = controller::open(config)?;
        let pass =
            controller::block_on(async { Ok(controller.plan(&Ask::Everything, &Terms::default()).await?) })?;
        let mut notes = report::notes(&pass, terminal);
        if let Some(out) = &self.out {
            saved::save(out, &pass.plan)?;
            notes.push(format!("Saved. To do exactly this: backstay apply {}", out.display()));
        }
        Ok(Telling {
            notes,
            text: render::plan::text(&pass.plan, terminal.stdout),
            json: json_text("backstay.plan/1", &pass.plan)?,
            exit: report::planned(&pass),
        })
    }
}
