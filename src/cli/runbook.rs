//! `backstay runbook`: what to do when all is lost, as documents.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::{Output, controller, exit::Exit, names, terminal::Terminal};
use crate::{
    reconcile::Terms,
    render::runbook::{Format, Runbook},
    spec::names::RecoveryName,
    templates::Templates,
};

/// Write the runbook of each declared recovery
///
/// From the same plan that `rebuild` would run were every machine gone: when to use it, whom to call, the order, and every command by
/// hand. To stdout as Markdown, or with --out into files, with those that the commands read beside them. Templates of the infra repo (templates/runbook.md.tera,
/// templates/runbook.html.tera) take the place of those that are built in.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay runbook --out runbooks --as html")]
pub(super) struct Make {
    /// The recoveries, as they are declared [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<RecoveryName>,
    /// The folder that they are written into, over those that are there; made if it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What they are written as
    #[arg(long = "as", value_enum, default_value_t = As::Markdown)]
    format: As,
}

/// What runbooks are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// With the diagram in Mermaid.
    Markdown,
    /// With the diagram in SVG; stands alone.
    Html,
}

impl From<As> for Format {
    fn from(format: As) -> Self {
        match format {
            As::Markdown => Format::Markdown,
            As::Html => Format::Html,
        }
    }
}

impl Make {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        controller::block_on(async {
            let spec = controller.declared().await?;
            if let Some(name) = self.names.iter().find(|name| !spec.recoveries.contains_key(*name)) {
                let hint = names::hint(name.as_str(), spec.recoveries.keys().map(RecoveryName::as_str));
                anyhow::bail!("the revision in force declares no recovery {name}; {hint}");
            }
            if spec.recoveries.is_empty() {
                anyhow::bail!("the revision in force declares no recovery; add a [recovery.NAME]");
            }
            let (runbooks, templates) = controller.runbooks(&self.names, &Terms::default()).await?;
            let templates = templates.map_err(anyhow::Error::msg)?;
            match (&self.out, terminal.output) {
                (Some(out), _) => self.write(out, &runbooks, &templates, terminal).await,
                (None, Output::Json) => {
                    terminal.json("backstay.runbook/1", &serde_json::json!({ "runbooks": runbooks }))?;
                    Ok(Exit::Done)
                }
                (None, Output::Text) => {
                    for runbook in &runbooks {
                        terminal.data(&runbook.render(self.format.into(), &templates).await?)?;
                    }
                    Ok(Exit::Done)
                }
            }
        })
    }

    async fn write(
        &self,
        out: &Path,
        runbooks: &[Runbook],
        templates: &Templates,
        terminal: &Terminal,
    ) -> anyhow::Result<Exit> {
        let format = Format::from(self.format);
        for runbook in runbooks {
            let path = out.join(format!("{}.{}", runbook.name, format.ending()));
            write(&path, &runbook.render(format, templates).await?)?;
            for (name, content) in runbook.files() {
                write(&out.join(name), content)?;
            }
            terminal.note(&format!("{} {}", terminal.stderr.good("✓"), path.display()));
        }
        Ok(Exit::Done)
    }
}

/// Writes a file over one that is there, with the folders that it lies in.
fn write(path: &Path, content: &str) -> anyhow::Result<()> {
    let failed = || format!("failed to write {}", path.display());
    path.parent().map_or(Ok(()), std::fs::create_dir_all).with_context(failed)?;
    std::fs::write(path, content).with_context(failed)
}
