//! `backstay backup`: a backup now.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use super::{apply, controller, exit::Exit, scheduled, terminal::Terminal};
use crate::{
    artifact::Kind,
    daemon::requests::{self, Request},
    plan::manual,
    reconcile::{Ask, Controller, Keep, Terms},
    spec::names::BackupName,
};

/// Make backups now, whatever the schedules say
///
/// A controller that runs on this host is handed the request; otherwise it is done here.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay backup agama --reason 'before the migration' --hold")]
pub(super) struct Backup {
    /// The backups
    #[arg(required = true, value_name = "NAME")]
    names: Vec<BackupName>,
    /// What is made; an increment without anything to build on is made as a full
    #[arg(long, value_enum, default_value_t = KindArgument::Full)]
    kind: KindArgument,
    /// Why; shown wherever the artifact is
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Keep the artifacts whatever the retention says
    #[arg(long)]
    hold: bool,
    /// Make what is due, as a pass would, and nothing else: what cron and systemd start
    #[arg(long, conflicts_with_all = ["kind", "reason", "hold"])]
    scheduled: bool,
}

/// The kinds that can be made on demand.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum KindArgument {
    Full,
    Incremental,
    Differential,
    Log,
}

impl From<KindArgument> for Kind {
    fn from(kind: KindArgument) -> Kind {
        match kind {
            KindArgument::Full => Kind::Full,
            KindArgument::Incremental => Kind::Incremental,
            KindArgument::Differential => Kind::Differential,
            KindArgument::Log => Kind::Log,
        }
    }
}

impl Backup {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        if self.scheduled {
            return controller::block_on(scheduled::run(&controller, self.names, terminal));
        }
        controller::block_on(async {
            match self.hand_over(&controller, terminal).await? {
                Some(exit) => Ok(exit),
                None => apply::pass(&controller, &self.ask(), &Terms::default(), terminal).await,
            }
        })
    }

    /// Hands the request to a controller that runs on this state directory; `None` when none does.
    async fn hand_over(&self, controller: &Controller, terminal: &Terminal) -> anyhow::Result<Option<Exit>> {
        let request = Request {
            backups: self.names.clone(),
            kind: self.kind.into(),
            reason: self.reason.clone(),
            keep: if self.hold { requests::Keep::Held } else { requests::Keep::ByPolicy },
        };
        let socket = controller.state().socket();
        let Some(faults) = requests::ask(&socket, &request, |line| terminal.note(line)).await? else {
            return Ok(None);
        };
        if !faults.is_empty() {
            bail!("{}", faults.join("\n"));
        }
        terminal.data("Done by the controller that runs on this host.\n")?;
        Ok(Some(Exit::Done))
    }

    fn ask(&self) -> Ask {
        let request = |backup: &BackupName| manual::Request {
            backup: backup.clone(),
            kind: self.kind.into(),
            reason: self.reason.clone(),
        };
        Ask::Backup(self.names.iter().map(request).collect(), self.keep())
    }

    fn keep(&self) -> Keep {
        match (self.hold, &self.reason) {
            (false, _) => Keep::ByPolicy,
            (true, Some(reason)) => Keep::Held(reason.clone()),
            (true, None) => Keep::Held("held when it was made".to_owned()),
        }
    }
}
