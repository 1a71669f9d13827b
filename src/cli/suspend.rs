//! `backstay suspend` and `resume`: something stands still for a while, and goes on.

use std::path::Path;

use anyhow::Context;
use clap::Args;
use jiff::tz::TimeZone;

use super::{
    controller,
    exit::Exit,
    saying::{person, say},
    terminal::Terminal,
};
use crate::{
    reconcile::{Saying, Terms},
    render,
    spec::{
        names::{BackupName, StoreName},
        suspension::{Moment, Scope, Suspension},
        values::TextForm as _,
    },
};

/// Let a backup, a store or everything stand still for a while
///
/// Nothing of a suspended backup is captured, copied, checked or deleted by itself; nothing is written into a suspended store,
/// read from it or deleted in it, and captures go to the next one. What you ask for is done all the same, and objectives are
/// judged as ever. When it ends, what was missed is caught up with, once. To suspend by a commit, declare a [suspend.NAME].
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay suspend agama --until '2026-12-01 06:00' --reason 'moves to new hardware'"
)]
pub(super) struct Suspend {
    #[command(flatten)]
    subject: Subject,
    /// Until when: a date, with or without a time, in the fleet's zone unless it names an offset
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Moment,
    /// Why; shown wherever something waits for it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Let go on what was suspended on this host
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay resume agama")]
pub(super) struct Resume {
    #[command(flatten)]
    subject: Subject,
}

/// What stands still.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Subject {
    /// A backup, or `infra`
    #[arg(value_name = "NAME")]
    backup: Option<BackupName>,
    /// A store
    #[arg(long, value_name = "STORE")]
    store: Option<StoreName>,
    /// Every backup but the infra repo's own
    #[arg(long)]
    everything: bool,
}

impl Subject {
    fn scope(self) -> Scope {
        match (self.backup, self.store) {
            (Some(backup), _) => Scope::Backup(backup),
            (None, Some(store)) => Scope::Store(store),
            // One of the three is there.
            (None, None) => Scope::Everything,
        }
    }
}

fn moment(text: &str) -> Result<Moment, String> {
    Moment::parse(text).map_err(|invalid| invalid.reason)
}

impl Suspend {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let zone = controller::block_on(async {
            Ok(controller.survey(&Terms::default()).await?.spec.fleet.time_zone.clone())
        })?;
        let until = self.until.timestamp(&zone).context("failed to find that moment in the calendar")?;
        let scope = self.subject.scope();
        let (subject, told) = (scope.to_string(), told(&scope, until, &zone));
        let reason = format!("{} ({})", self.reason, person());
        let suspension = Suspension { scope, from: None, until, reason };
        say(&controller, Saying::Suspend(suspension), (&subject, &told), terminal)
    }
}

fn told(scope: &Scope, until: jiff::Timestamp, zone: &TimeZone) -> String {
    format!("Suspended {scope} until {}.", render::moment(until, zone))
}

impl Resume {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let scope = self.subject.scope();
        let (subject, told) = (scope.to_string(), format!("Resumed {scope}."));
        say(&controller, Saying::Resume(scope), (&subject, &told), terminal)
    }
}
