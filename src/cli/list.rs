//! `backstay list`: what the stores hold.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use super::{Output, controller, exit::Exit, terminal::Terminal};
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
            bail!("no backup {name} is declared, and no store holds one; see `backstay status`");
        }
        let listing = Listing::of(&survey.inventory, wanted);
        match terminal.output {
            Output::Text => terminal.data(&listing.text(terminal.stdout))?,
            Output::Json => terminal.json("backstay.list/1", &listing)?,
        }
        Ok(if listing.unknown.is_empty() { Exit::Done } else { Exit::Partial })
    }
}
