//! `backstay plan`: what a pass would do.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Output, controller, exit::Exit, report, terminal::Terminal};
use crate::{
    reconcile::{Ask, Terms, saved},
    render,
};

/// Show what a pass would do, and why; changes nothing
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay plan --out plan.json && backstay apply plan.json")]
pub(super) struct Plan {
    /// Save the plan, for `apply FILE`; must not exist
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Plan {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
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
