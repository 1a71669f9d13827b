//! `backstay plan`: what a pass would do.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Output, controller, exit::Exit, report, review::Comparison, terminal::Terminal};
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
    /// Save the plan, for `apply FILE`; must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    comparison: Comparison,
}

impl Plan {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        if let Some(against) = &self.comparison.against {
            return self.comparison.run(against, config, terminal);
        }
        let controller = controller::open(config)?;
        let pass =
            controller::block_on(async { Ok(controller.plan(&Ask::Everything, &Terms::default()).await?) })?;
        report::circumstances(&pass, terminal);
        match terminal.output {
            Output::Text => terminal.data(&render::plan::text(&pass.plan, terminal.stdout))?,
            Output::Json => terminal.json("backstay.plan/1", &pass.plan)?,
        }
        if let Some(out) = self.out {
            saved::save(&out, &pass.plan)?;
            terminal.note(&format!("Saved. To do exactly this: backstay apply {}", out.display()));
        }
        Ok(report::planned(&pass))
    }
}
