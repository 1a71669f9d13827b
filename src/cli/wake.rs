//! `backstay wake`: tell the controller that runs here to look.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use super::{
    controller,
    exit::Exit,
    fleet::{Choice, Chosen, Several},
    terminal::Terminal,
};
use crate::{config::Config, daemon::requests, state::StateDir};

/// Tell the controller that runs on this host to look now
///
/// Does not wait for the pass. Of a folder of several fleets, each is told unless --fleet names one. The hook of
/// `backstay hook install` calls it after every push.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay wake --config /etc/backstay/backstay.toml")]
pub(super) struct Wake {}

impl Wake {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        match choice.all()? {
            Chosen::One(config) => {
                wake(&config)?;
                terminal.note("The controller looks.");
                Ok(Exit::Done)
            }
            Chosen::All(several) => Ok(wake_all(&several, terminal)),
        }
    }
}

/// A fleet that can't be woken leaves no other one asleep.
fn wake_all(several: &Several, terminal: &Terminal) -> Exit {
    let mut exit = several.complain_of_others(terminal);
    for (name, config) in several.each() {
        match config.and_then(|config| wake(&config)) {
            Ok(()) => terminal.note(&format!("{name}: the controller looks.")),
            Err(error) => {
                terminal.error(&error.context(format!("fleet {name}")));
                exit = Exit::Failed;
            }
        }
    }
    exit
}

fn wake(config: &Path) -> anyhow::Result<()> {
    let root = Config::load(config)?.state_dir;
    let socket = StateDir::socket_in(&root);
    let woken = controller::block_on(async { Ok(requests::wake(&socket).await?) })?;
    if woken.is_none() {
        bail!(
            "failed to wake the controller on {}: none runs there; start one with `backstay run`",
            root.display()
        );
    }
    Ok(())
}
