//! `backstay list`: what the stores hold.

use std::path::Path;

use clap::Args;

use super::{Output, controller, exit::Exit, names, terminal::Terminal};
use crate::{reconcile::Terms, render::artifacts::Listing, spec::names::BackupName};

/// List artifacts: what can be restored, and where it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay list agama")]
pub(super) struct List {
    /// Only this backup
    name: Option<BackupName>,
}

impl List {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
        let wanted = |backup: &BackupName| self.name.as_ref().is_none_or(|name| name == backup);
        if let Some(name) = self.name.as_ref().filter(|name| !survey.pass.status.backups.contains_key(*name))
        {
            return Err(names::no_backup(name, &survey.pass.status));
        }
        let listing = Listing::of(&survey.inventory, &survey.spec.fleet.time_zone, wanted);
        match terminal.output {
            Output::Text => terminal.data(&listing.text(terminal.stdout))?,
            Output::Json => terminal.json("backstay.list/1", &listing)?,
        }
        Ok(if listing.unknown.is_empty() { Exit::Done } else { Exit::Partial })
    }
}
