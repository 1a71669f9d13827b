//! `backstay adopt`: a refused store is used again.

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Output, controller, exit::Exit, terminal::Terminal};
use crate::spec::names::StoreName;

/// Take over a store that is refused
///
/// A store is refused when it is not empty and holds nothing that a trusted key signed, when its records are altered or
/// gone, or when they are older than the other stores show. Look into it first: `backstay status` says why.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay adopt offsite --reason 'brought back from the tape of Sunday'")]
pub(super) struct Adopt {
    /// The store
    store: StoreName,
    /// Why it may be used; kept in its records
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Serialize)]
struct Adopted<'a> {
    store: &'a StoreName,
    reason: &'a str,
    was_refused: String,
}

impl Adopt {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let was_refused =
            controller::block_on(async { Ok(controller.adopt(&self.store, &self.reason).await?) })?;
        let Self { store, reason } = &self;
        match terminal.output {
            Output::Text => {
                terminal.data(&format!("Adopted {store}. It had been refused: {was_refused}.\n"))?
            }
            Output::Json => terminal.json("backstay.adoption/1", &Adopted { store, reason, was_refused })?,
        }
        Ok(Exit::Done)
    }
}
