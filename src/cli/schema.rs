//! `backstay schema`: the formats of the infra repo, for editors.

use clap::{Args, ValueEnum};

use super::{exit::Exit, terminal::Terminal};
use crate::spec::{approvals, schema};

/// Print the JSON Schema of the declaration, for editors and for reading
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay schema > backstay.schema.json\n  backstay schema approve > approve.schema.json"
)]
pub(super) struct Schema {
    /// Of what
    #[arg(value_enum, default_value_t = Format::Declaration)]
    format: Format,
}

/// What stands in an infra repo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// All *.toml of the declaration together.
    Declaration,
    /// `approve.toml`: approvals by a signed commit.
    Approve,
}

impl Schema {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let schema = match self.format {
            Format::Declaration => schema::json_schema(),
            Format::Approve => approvals::json_schema(),
        };
        terminal.data(&format!("{schema:#}\n"))?;
        Ok(Exit::Done)
    }
}
