//! `backstay kit`: what a restore needs when Backstay is gone.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{controller, exit::Exit, terminal::Terminal};
use crate::{kit, reconcile::Terms};

/// Write the recovery kit: how to restore with age, zstd and jq alone
///
/// Holds no secret. Keep it where the stores and the controller are not, with a copy of the identity.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay kit --out /media/usb/kit")]
pub(super) struct Kit {
    /// The folder to write
    #[arg(long, value_name = "DIR", default_value = "backstay-kit")]
    out: PathBuf,
}

impl Kit {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let spec = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?.spec) })?;
        for file in kit::write(&self.out, &spec, &controller.keys().trusted_keys())? {
            terminal.data(&format!("{}\n", file.display()))?;
        }
        terminal.note("Print it, or keep it with a copy of the identity, where the stores are not.");
        Ok(Exit::Done)
    }
}
