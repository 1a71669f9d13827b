//! `backstay adopt`: a refused store is used again, and what was lost in a store counts no more; or what crontabs and
//! timers dump already is declared.

mod dumps;

use std::path::Path;

use clap::Args;
use serde::Serialize;

use super::{Output, controller, exit::Exit, terminal::Terminal};
use crate::spec::names::StoreName;

/// Take a store as it is, refused or robbed; or declare dumps that crontabs and timers make already
///
/// A store is refused when it is not empty and holds nothing that a trusted key signed, when its records are altered or
/// gone, or when they are older than the other stores show. Look into it first: `backstay status` says why. What somebody
/// deleted in a store, and no other store has, is shown by `backstay drift` until the store is adopted.
///
/// With --crontab, --system-crontab or --timers nothing is changed and no store is touched: the dumps that are recognised
/// are printed as a declaration, with comments where a person must look. What is not taken over is told on stderr. Secrets
/// that stand on command lines are never printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay adopt offsite --reason 'brought back from the tape of Sunday'\n  \
                        crontab -l | backstay adopt --crontab - --system-crontab /etc/cron.d --timers /etc/systemd/system \
                        --store offsite --out backup/adopted.toml"
)]
pub(super) struct Adopt {
    #[command(flatten)]
    refused: Refused,
    #[command(flatten)]
    dumps: dumps::Dumps,
}

/// A refused store.
#[derive(Debug, Args)]
struct Refused {
    /// The store
    #[arg(value_name = "STORE", requires = "reason", conflicts_with = "dumps")]
    refused: Option<StoreName>,
    /// Why it may be used; kept in its records
    #[arg(long, value_name = "TEXT", requires = "refused")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Adopted<'a> {
    store: &'a StoreName,
    reason: &'a str,
    before: String,
}

impl Adopt {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        match (&self.refused.refused, &self.refused.reason) {
            (Some(store), Some(reason)) => adopt(store, reason, config, terminal),
            _ => self.dumps.run(terminal),
        }
    }
}

fn adopt(store: &StoreName, reason: &str, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
    let controller = controller::open(config)?;
    let before = controller::block_on(async { Ok(controller.adopt(store, reason).await?) })?;
    match terminal.output {
        Output::Text => terminal.data(&format!("Adopted {store} as it is. Before: {before}.\n"))?,
        Output::Json => terminal.json("backstay.adoption/1", &Adopted { store, reason, before })?,
    }
    Ok(Exit::Done)
}
