//! `backstay wake`: tell the controller that runs here to look.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use super::{controller, exit::Exit, terminal::Terminal};
use crate::{config::Config, daemon::requests, state::StateDir};

/// Tell the controller that runs on this host to look now
///
/// Does not wait for the pass. The hook of `backstay hook install` calls it after every push.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay wake --config /etc/backstay/backstay.toml")]
pub(super) struct Wake {}

impl Wake {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let root = Config::load(config)?.state_dir;
        let socket = StateDir::socket_in(&root);
        let woken = controller::block_on(async { Ok(requests::wake(&socket).await?) })?;
        if woken.is_none() {
            bail!(
                "failed to wake the controller on {}: none runs there; start one with `backstay run`",
                root.display()
            );
        }
        terminal.note("The controller looks.");
        Ok(Exit::Done)
    }
}
