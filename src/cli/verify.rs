//! `backstay verify`: checks of what is stored, and repairs.

use std::path::Path;

use clap::Args;

use super::{apply, controller, exit::Exit, names, terminal::Terminal};
use crate::{
    artifact::Depth,
    plan::verify::Scope,
    reconcile::{Ask, Terms},
    spec::names::BackupName,
};

/// Check stored artifacts: signatures, presence and sizes; with --data every digest
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay verify agama --data --repair")]
pub(super) struct Verify {
    /// Only this backup [default: all that any store holds]
    name: Option<BackupName>,
    /// Check every digest: a store's own where it computes one, or else all is read
    #[arg(long)]
    data: bool,
    /// Decrypt everything as well, and check what was captured; needs the identity
    #[arg(long)]
    plaintext: bool,
    /// Mend what is damaged from another store's good copy
    #[arg(long)]
    repair: bool,
}

/// What to say when no check found damage.
fn nothing_to_mend(found: Exit) -> &'static str {
    match found {
        Exit::Partial => {
            "No damage in what could be checked; what could not be is unknown. Nothing to repair."
        }
        _ => "Nothing is damaged: nothing to repair.",
    }
}

impl Verify {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let depth = self.depth();
        let scope = self.name.map_or(Scope::Everything, Scope::Backup);
        controller::block_on(async {
            if let Scope::Backup(name) = &scope {
                let status = controller.survey(&Terms::default()).await?.pass.status;
                if !status.backups.contains_key(name) {
                    return Err(names::no_backup(name, &status));
                }
            }
            let checks = Ask::Verify(scope.clone(), depth);
            let found = apply::pass(&controller, &checks, &Terms::default(), terminal).await?;
            if !self.repair {
                return Ok(found);
            }
            if found != Exit::Damage {
                terminal.note(nothing_to_mend(found));
                return Ok(found);
            }
            terminal.note("Repairing from other copies:");
            apply::pass(&controller, &Ask::Repair(scope), &Terms::default(), terminal).await
        })
    }

    fn depth(&self) -> Depth {
        match (self.plaintext, self.data) {
            (true, _) => Depth::Plaintext,
            (false, true) => Depth::Data,
            (false, false) => Depth::Metadata,
        }
    }
}
