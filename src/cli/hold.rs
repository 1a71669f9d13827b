//! `backstay hold` and `release`: an artifact is kept whatever the retention says, and no longer.

use std::path::Path;

use clap::Args;

use super::{
    controller,
    exit::Exit,
    saying::{person, say},
    terminal::Terminal,
};
use crate::{artifact::ArtifactId, reconcile::Saying};

/// Keep an artifact whatever the retention says
///
/// It and its copies, with all that they need for a restore, stay in every store that holds them, until `backstay release`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay hold 20261120T010000Z-3k7qz0m4xw --reason 'evidence of the incident'"
)]
pub(super) struct Hold {
    /// The artifact, as `backstay list` names it
    artifact: ArtifactId,
    /// Why; shown wherever the artifact is
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Let the retention decide about a held artifact again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay release 20261120T010000Z-3k7qz0m4xw")]
pub(super) struct Release {
    /// The artifact, as `backstay list` names it
    artifact: ArtifactId,
}

impl Hold {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let subject = self.artifact.to_string();
        let saying = Saying::Hold(self.artifact, format!("{} ({})", self.reason, person()));
        say(&controller, saying, (&subject, &format!("Held {subject}.")), terminal)
    }
}

impl Release {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let subject = self.artifact.to_string();
        let told = format!("Released {subject}: the retention decides about it again.");
        say(&controller, Saying::Release(self.artifact), (&subject, &told), terminal)
    }
}
