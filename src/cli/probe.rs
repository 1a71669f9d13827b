//! `backstay probe`: whether sources are ready for their captures.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use super::{Output, controller, exit::Exit, names, terminal::Terminal};
use crate::{
    reconcile::Probed,
    render,
    spec::{Backup, Spec, names::BackupName},
};

/// Ask sources whether they are ready for their captures, and what they lack
///
/// Each is reached as a capture would reach it, and asked for the privileges and settings that its policy needs. What is missing
/// is told with the statement that gives it, and no more than that. Changes nothing.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay probe agama")]
pub(super) struct Probe {
    /// The backups [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<BackupName>,
}

impl Probe {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let probes = controller::block_on(async {
            let spec = controller.declared().await?;
            Ok(controller.probe(wanted(&spec, &self.names)?).await)
        })?;
        match terminal.output {
            Output::Text => terminal.data(&render::probes::text(&probes, terminal.stdout))?,
            Output::Json => terminal.json("backstay.probe/1", &serde_json::json!({ "probes": probes }))?,
        }
        Ok(if probes.iter().all(Probed::is_fit) { Exit::Done } else { Exit::Partial })
    }
}

fn wanted<'a>(spec: &'a Spec, chosen: &[BackupName]) -> anyhow::Result<Vec<&'a Backup>> {
    if chosen.is_empty() {
        return Ok(spec.backups.values().collect());
    }
    let backup = |name: &BackupName| match spec.backups.get(name) {
        Some(backup) => Ok(backup),
        None => {
            let hint = names::hint(name.as_str(), spec.backups.keys().map(BackupName::as_str));
            bail!("the revision in force declares no backup {name}; {hint}")
        }
    };
    chosen.iter().map(backup).collect()
}
