//! `backstay watch-stand-ins DRILL`: started by a drill of a recovery, and by nobody else.

use std::{io::Read, path::Path, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::{
    controller::{block_on, open},
    exit::Exit,
};
use crate::{apply::watchdog::DONE, spec::names::DrillName};

/// How long it tries to remove what is left.
const DEADLINE: Duration = Duration::from_secs(1800);

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(15);

/// Removes the machines of a drill where the controller dies that makes them; waits for that on its standard input
#[derive(Debug, Args)]
#[command(hide = true)]
pub(super) struct WatchStandIns {
    drill: DrillName,
}

impl WatchStandIns {
    pub(super) fn run(self, config: &Path) -> anyhow::Result<Exit> {
        // What ends the controller's terminal or group is not meant for it. It leads no group, so that this does not fail.
        rustix::process::setsid().context("failed to leave the controller's session")?;
        block_on(async {
            // Whoever stops the controller asks all of its processes to end: this one does, once nothing is left.
            for asked in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
                let mut signals = signal(asked)?;
                tokio::spawn(async move { while signals.recv().await.is_some() {} });
            }
            let said = tokio::task::spawn_blocking(|| {
                let mut said = Vec::new();
                std::io::stdin().take(DONE.len() as u64).read_to_end(&mut said).map(|_| said)
            });
            // A pipe that can't be read is one that nobody speaks through any more.
            match said.await?.is_ok_and(|said| said == DONE) {
                true => Ok(Exit::Done),
                false => self.clear(config).await,
            }
        })
    }

    async fn clear(&self, config: &Path) -> anyhow::Result<Exit> {
        let drill = &self.drill;
        tracing::warn!(%drill, "the controller is gone; what its drill made is removed");
        let deadline = Instant::now() + DEADLINE;
        loop {
            let cleared = match open(config) {
                Ok(controller) => {
                    let said = |line: &str| tracing::info!(%drill, "{line}");
                    controller.clear_up_after(drill, &said).await.map_err(anyhow::Error::msg)
                }
                Err(error) => Err(error),
            };
            match cleared {
                Ok(()) => {
                    tracing::warn!(%drill, "nothing of it is left");
                    return Ok(Exit::Done);
                }
                Err(error) if Instant::now() >= deadline => {
                    return Err(error.context(
                        "the machines of a drill are left; the controller's next pass tries again",
                    ));
                }
                Err(error) => tracing::warn!(%drill, "{error:#}; it is tried again"),
            }
            sleep(PAUSE).await;
        }
    }
}
