//! `backstay drift`: where reality left the state that Backstay had made.

use std::path::Path;

use clap::Args;

use super::{Output, controller, exit::Exit, report, terminal::Terminal};
use crate::{reconcile::Terms, render, spec::Healable, status::drifted::Report};

/// Show what somebody changed of what Backstay had made, how that is known, and what heals it; changes nothing
///
/// A deleted or damaged artifact, an emptied store, a schedule that was edited or disabled, a mirror that was moved. What is
/// only declared anew, or due, is no drift: see `backstay plan` for that. Ends with 10 when something drifted, and with 4
/// when something could not be seen that may have.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay drift\n  backstay drift store.offsite")]
pub(super) struct Drift {
    /// Only of this resource: `backup.NAME` (or NAME), `store.NAME`, `infra` or `schedules`
    #[arg(value_name = "RESOURCE")]
    resource: Option<Healable>,
}

impl Drift {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
        report::circumstances(&survey.pass, terminal);
        let mut found = survey.drift();
        if let Some(named) = &self.resource {
            found = of(found, &survey.spec.healable(named)?);
        }
        match terminal.output {
            Output::Text => {
                terminal.data(&render::drift::text(&found, &survey.spec.fleet.time_zone, terminal.stdout))?;
            }
            Output::Json => terminal.json("backstay.drift/1", &found)?,
        }
        Ok(match (found.drifts.is_empty(), found.unseen.is_empty()) {
            (false, _) => Exit::Pending,
            (true, false) => Exit::Partial,
            (true, true) => Exit::Done,
        })
    }
}

/// What of `found` concerns one resource. What could not be seen may concern any of them, but a store only itself.
fn of(mut found: Report, resource: &Healable) -> Report {
    found.drifts.retain(|drifted| drifted.drift.resources.contains(resource));
    if matches!(resource, Healable::Store(_) | Healable::Schedules) {
        found.unseen.retain(|unseen| unseen.subject == resource.to_string());
    }
    found.heals.retain(|healed| found.drifts.iter().any(|drifted| drifted.drift.subject == healed.subject));
    found
}
