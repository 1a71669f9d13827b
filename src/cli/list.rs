//! `backstay list`: what the stores hold.

use std::path::Path;

use clap::Args;
use jiff::Timestamp;

use super::{
    controller,
    exit::Exit,
    fleet::{Choice, Chosen, Telling},
    names,
    terminal::{Terminal, json_text},
};
use crate::{
    reconcile::Terms,
    render::{artifacts::Listing, lineage::Lineage},
    spec::names::BackupName,
};

/// List artifacts: what can be restored, and where it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay list agama --tree")]
pub(super) struct List {
    /// Only this backup
    name: Option<BackupName>,
    /// Show what goes on from what
    #[arg(long)]
    tree: bool,
}

impl List {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let chosen = match self.name {
            Some(_) => Chosen::One(choice.one()?),
            None => choice.all()?,
        };
        chosen.tell(terminal, |config| self.look(config, terminal))
    }

    fn look(&self, config: &Path, terminal: &Terminal) -> anyhow::Result<Telling> {
        let controller = controller::open(config)?;
        let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
        let wanted = |backup: &BackupName| self.name.as_ref().is_none_or(|name| name == backup);
        if let Some(name) = self.name.as_ref().filter(|name| !survey.pass.status.backups.contains_key(*name))
        {
            return Err(names::no_backup(name, &survey.pass.status));
        }
        let listing = Listing::of(&survey.spec, &survey.inventory, Timestamp::now(), wanted);
        Ok(Telling {
            notes: Vec::new(),
            text: if self.tree {
                Lineage::of(&listing, terminal.stdout).text()
            } else {
                listing.text(terminal.stdout)
            },
            json: json_text("backstay.list/1", &listing)?,
            exit: if listing.unknown.is_empty() { Exit::Done } else { Exit::Partial },
        })
    }
}
