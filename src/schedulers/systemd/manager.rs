//! The systemd that runs this machine, through `systemctl`; or none.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::{process::Program, schedulers::SchedulerError};

/// Where systemd looks for units that are not of a package; see systemd.unit(5).
const WATCHED: [&str; 2] = [super::FOLDER, "/run/systemd/system"];
/// There when systemd runs the machine; see sd_booted(3).
const BOOTED: &str = "/run/systemd/system";
/// How long systemd may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// A listing is never longer, bytes.
const LONGEST_LISTING: usize = 16 << 20;

/// Whoever starts the timers.
#[derive(Debug)]
pub(super) enum Manager {
    /// systemd, which must be told of changes.
    Running(Reloads),
    /// Nobody: the files are for another machine, or for its next start.
    None,
}

/// One reload serves all changes that were made before it began.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    changes: AtomicU64,
    /// How many changes the last reload saw.
    seen: tokio::sync::Mutex<u64>,
}

impl Manager {
    /// Whoever starts the timers in `folder`.
    pub(super) fn of(folder: &Path) -> Self {
        let watched = WATCHED.iter().any(|watched| Path::new(watched) == folder);
        match watched && Path::new(BOOTED).is_dir() {
            true => Manager::Running(Reloads::default()),
            false => Manager::None,
        }
    }

    /// The timers that run and whose names begin with `prefix`; `None` where nobody runs any.
    pub(super) async fn active_timers(
        &self,
        prefix: &str,
    ) -> Result<Option<BTreeSet<String>>, SchedulerError> {
        let Manager::Running(_) = self else { return Ok(None) };
        let pattern = format!("{prefix}*");
        let arguments = [
            "list-units",
            "--type=timer",
            "--state=active",
            "--plain",
            "--no-legend",
            "--no-pager",
            "--",
            &pattern,
        ];
        let listing = systemctl("list", &arguments).await?;
        let name = |line: &str| line.split_ascii_whitespace().next().map(str::to_owned);
        Ok(Some(String::from_utf8_lossy(&listing).lines().filter_map(name).collect()))
    }

    /// Has `timer` run as its files say, which were `changed`.
    pub(super) async fn start(&self, timer: &str, changed: bool) -> Result<(), SchedulerError> {
        let Manager::Running(reloads) = self else { return Ok(()) };
        if changed {
            reloads.reload().await?;
        }
        let verb = if changed { "restart" } else { "start" };
        systemctl("start", &[verb, "--", timer]).await.map(drop)
    }

    /// Has `timer`, whose files are gone, run no more.
    pub(super) async fn stop(&self, timer: &str) -> Result<(), SchedulerError> {
        let Manager::Running(reloads) = self else { return Ok(()) };
        systemctl("stop", &["stop", "--", timer]).await?;
        reloads.reload().await
    }
}

impl Reloads {
    async fn reload(&self) -> Result<(), SchedulerError> {
        let mine = self.changes.fetch_add(1, Ordering::SeqCst) + 1;
        let mut seen = self.seen.lock().await;
        if *seen >= mine {
            return Ok(());
        }
        let all = self.changes.load(Ordering::SeqCst);
        systemctl("reload", &["daemon-reload"]).await?;
        *seen = all;
        Ok(())
    }
}

async fn systemctl(operation: &'static str, arguments: &[&str]) -> Result<Vec<u8>, SchedulerError> {
    let program = Program::new("systemctl").arguments(arguments.iter().copied()).timeout(PATIENCE);
    program.output(&[], LONGEST_LISTING).await.map_err(|error| SchedulerError {
        operation,
        subject: "systemd".to_owned(),
        reason: error.to_string(),
    })
}
