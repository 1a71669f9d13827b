//! `backstay apply`: one pass.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use super::{
    controller, controller::Interruption, exit::Exit, progress::Spinners, report, terminal::Terminal,
};
use crate::{
    apply::executor::Listener,
    reconcile::{Ask, Controller, Terms, saved},
    render,
    spec::Healable,
};

/// Do what a pass would do, once; or exactly a saved plan
///
/// On a terminal the plan is shown, and done when you say so, with whatever follows from it, such as copies of what was
/// captured. With `--yes`, or without a terminal, nobody is asked. What falls due while it lasts is done as well.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay apply --yes\n  backstay apply --heal store.offsite")]
pub(super) struct Apply {
    /// A plan saved by `plan --out`; refused when it is no longer what a pass would do
    #[arg(value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Only put back what drifted of this resource, once, even where its self-heal is off or slowed down; `drift` names them
    #[arg(long, value_name = "RESOURCE", conflicts_with = "plan")]
    heal: Vec<Healable>,
}

impl Apply {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let terms = Terms::default();
        let saved = self.plan.as_deref().map(saved::load).transpose()?;
        controller::block_on(async {
            let ask = match saved {
                Some(plan) => Ask::Exactly(plan),
                None if !self.heal.is_empty() => Ask::Heal(self.heal.into_iter().collect()),
                None if self.yes || !io::stdin().is_terminal() => Ask::Everything,
                None => match agreed(&controller, &terms, terminal).await? {
                    Some(ask) => ask,
                    None => return Ok(Exit::Pending),
                },
            };
            pass(&controller, &ask, &terms, terminal).await
        })
    }
}

/// Runs one pass, shows it, and says how the command ends.
pub(super) async fn pass(
    controller: &Controller,
    ask: &Ask,
    terms: &Terms,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let interruption = Interruption::listen()?;
    let spinners: Arc<dyn Listener> = Arc::new(Spinners::new(terminal));
    let pass = controller.apply(ask, terms, interruption.halt(), &spinners).await?;
    report::pass(&pass, terminal)?;
    Ok(interruption.exit_or(report::applied(&pass)).await)
}

/// Shows the plan, and asks; `None` when the person declines.
async fn agreed(controller: &Controller, terms: &Terms, terminal: &Terminal) -> anyhow::Result<Option<Ask>> {
    let pass = controller.plan(&Ask::Everything, terms).await?;
    terminal.data(&render::plan::text(&pass.plan, terminal.stdout))?;
    if pass.plan.steps.is_empty() {
        return Ok(Some(Ask::Everything));
    }
    eprint!("Do this? [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes").then(|| Ask::Agreed(pass.plan)))
}
