//! `backstay status`: objectives, last good, copies, revision.

use std::path::Path;

use clap::Args;

use super::{
    controller,
    exit::Exit,
    fleet::{Choice, Chosen, Telling},
    names, report,
    terminal::Terminal,
};
use crate::{
    reconcile::{Ask, Terms},
    render,
    spec::names::BackupName,
};

/// Show how everything is: objectives, newest data, copies, and which revision is in force
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay status agama")]
pub(super) struct Status {
    /// Only this backup
    name: Option<BackupName>,
}

impl Status {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let chosen = match self.name {
            Some(_) => Chosen::One(choice.one()?),
            None => choice.all()?,
        };
        chosen.tell(terminal, |config| self.look(config, terminal))
    }

    fn look(&self, config: &Path, terminal: &Terminal) -> anyhow::Result<Telling> {
        let controller = controller::open(config)?;
        let pass =
            controller::block_on(async { Ok(controller.plan(&Ask::Everything, &Terms::default()).await?) })?;
        let status = &pass.status;
        if let Some(name) = self.name.as_ref().filter(|name| !status.backups.contains_key(*name)) {
            return Err(names::no_backup(name, status));
        }
        let unreachable = pass.unreachable.as_ref();
        let note = unreachable
            .map(|why| format!("{} {why}; what was fetched before is in force", terminal.stderr.warn("!")));
        Ok(Telling {
            notes: note.into_iter().collect(),
            text: match &self.name {
                Some(name) => render::status::of_backup(status, name, terminal.stdout),
                None => render::status::text(status, terminal.stdout),
            },
            json: serde_json::to_string_pretty(status)? + "\n",
            exit: match report::looked(status.overall) {
                Exit::Done if unreachable.is_some() => Exit::Partial,
                exit => exit,
            },
        })
    }
}
