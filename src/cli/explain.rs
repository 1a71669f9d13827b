//! `backstay explain`: why something is due, kept or deleted.

use std::path::Path;

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::{Output, controller, exit::Exit, names, terminal::Terminal};
use crate::{
    artifact::ArtifactId,
    reconcile::{Controller, Survey, Terms},
    render::{departures, explanation},
    spec::names::BackupName,
};

/// Explain why a backup is due or not, or why an artifact is kept, may go or is gone
///
/// Explains the infra repo itself as `infra`, and backups that nothing declares any more.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay explain agama")]
pub(super) struct Explain {
    /// A backup, `infra`, or an artifact as `backstay list` names it
    #[arg(value_name = "NAME|ARTIFACT")]
    subject: String,
}

impl Explain {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let survey = controller::block_on(async { Ok(controller.survey(&Terms::default()).await?) })?;
        if let Ok(id) = self.subject.parse::<ArtifactId>() {
            let Some(explained) = survey.explain_artifact(id) else {
                return departed(&controller, &survey, id, terminal);
            };
            match terminal.output {
                Output::Text => terminal.data(&explanation::of_artifact(&explained, terminal.stdout))?,
                Output::Json => terminal.json("backstay.explain/1", &explained)?,
            }
            return Ok(Exit::Done);
        }
        let name: BackupName = self.subject.parse()?;
        let Some(explained) = survey.explain_backup(&name) else {
            return Err(names::no_backup(&name, &survey.pass.status));
        };
        match terminal.output {
            Output::Text => terminal.data(&explanation::of_backup(&explained, terminal.stdout))?,
            Output::Json => terminal.json("backstay.explain/1", &explained)?,
        }
        Ok(Exit::Done)
    }
}

/// Explains why an artifact is gone.
pub(super) fn departed(
    controller: &Controller,
    survey: &Survey,
    id: ArtifactId,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let departures = controller::block_on(async { Ok(controller.departures(survey, id).await) })?;
    if departures.is_empty() {
        bail!("no store that can be seen holds artifact {id}, or tells of its deletion; see `backstay list`");
    }
    match terminal.output {
        Output::Text => {
            let zone = &survey.spec.fleet.time_zone;
            terminal.data(&departures::text(id, &departures, zone, terminal.stdout))?;
        }
        Output::Json => {
            terminal.json("backstay.departure/1", &json!({ "artifact": id, "departures": departures }))?;
        }
    }
    Ok(Exit::Done)
}
