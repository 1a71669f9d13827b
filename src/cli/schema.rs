//! `backstay schema`: the declaration's format, for editors.

use clap::Args;

use super::{exit::Exit, terminal::Terminal};
use crate::spec::schema::json_schema;

/// Print the JSON Schema of the declaration, for editors and for reading
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay schema > backstay.schema.json")]
pub(super) struct Schema {}

impl Schema {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        terminal.data(&format!("{:#}\n", json_schema()))?;
        Ok(Exit::Done)
    }
}
