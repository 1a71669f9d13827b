//! `backstay status`: objectives, last good, copies, revision.

use std::path::Path;

use clap::Args;

use super::{Output, controller, exit::Exit, names, report, terminal::Terminal};
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
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let pass =
            controller::block_on(async { Ok(controller.plan(&Ask::Everything, &Terms::default()).await?) })?;
        let status = &pass.status;
        if let Some(name) = self.name.as_ref().filter(|name| !status.backups.contains_key(*name)) {
            return Err(names::no_backup(name, status));
        }
        match (terminal.output, &self.name) {
            (Output::Json, _) => terminal.data(&format!("{}\n", serde_json::to_string_pretty(status)?))?,
            (Output::Text, Some(name)) => {
                terminal.data(&render::status::of_backup(status, name, terminal.stdout))?;
            }
            (Output::Text, None) => terminal.data(&render::status::text(status, terminal.stdout))?,
        }
        if let Some(why) = &pass.unreachable {
            terminal
                .note(&format!("{} {why}; what was fetched before is in force", terminal.stderr.warn("!")));
        }
        Ok(match report::looked(status.overall) {
            Exit::Done if pass.unreachable.is_some() => Exit::Partial,
            exit => exit,
        })
    }
}
