//! `backstay drift`: where reality left the state that Backstay had made.

use std::path::Path;

use clap::Args;

use super::{
    controller,
    exit::Exit,
    fleet::{Choice, Chosen, Telling},
    report,
    terminal::{Terminal, json_text},
};
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
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let chosen = match self.resource {
            Some(_) => Chosen::One(choice.one()?),
            None => choice.all()?,
        };
        chosen.tell(terminal, |config| self.look(config, terminal))
    }

    fn look(&self, config: &Path, terminal: &Terminal) -> anyhow::Result<Telling> {
        let controller = controller::open(config)?;
        let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
        let mut found = survey.drift();
        if let Some(named) = &self.resource {
            found = of(found, &survey.spec.healable(named)?);
        }
        Ok(Telling {
            notes: report::notes(&survey.pass, terminal),
            text: render::drift::text(&found, &survey.spec.fleet.time_zone, terminal.stdout),
            json: json_text("backstay.drift/1", &found)?,
            exit: match (found.drifts.is_empty(), found.unseen.is_empty()) {
                (false, _) => Exit::Pending,
                (true, false) => Exit::Partial,
                (true, true) => Exit::Done,
            },
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
