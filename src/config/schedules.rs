//! Where schedules are armed: the host's choice, never a commit's.

use std::path::{Path, PathBuf};

use super::schema::{self, SchedulerKind};

/// Where schedules are armed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Schedules {
    /// In the controller's own timetable.
    #[default]
    Controller,
    /// In files of cron.
    Cron {
        /// What both of the others need.
        host: Host,
        /// Who gets what a run says on stderr; `None`: the user.
        mail_to: Option<String>,
    },
    /// In timers of systemd.
    Systemd {
        /// What both of the others need.
        host: Host,
        /// The unit that is started when a run fails.
        on_failure: Option<String>,
    },
}

/// Files that another program reads, which starts Backstay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Their folder; `None`: where the operating system looks.
    pub folder: Option<PathBuf>,
    /// The user that runs are made as.
    pub user: String,
    /// The program that is started; `None`: the running one.
    pub program: Option<PathBuf>,
}

/// The user that runs are made as unless the configuration says otherwise.
const DEFAULT_USER: &str = "root";

pub(super) fn schedules_of(mirror: schema::Schedules, folder: &Path) -> Schedules {
    let host = Host {
        folder: mirror.folder.map(|path| folder.join(path.0.0)),
        user: mirror.user.map_or_else(|| DEFAULT_USER.to_owned(), |user| user.0.0),
        program: mirror.program.map(|path| folder.join(path.0.0)),
    };
    match mirror.scheduler {
        None | Some(SchedulerKind::Controller) => Schedules::Controller,
        Some(SchedulerKind::Cron) => {
            Schedules::Cron { host, mail_to: mirror.mail_to.map(|address| address.0.0) }
        }
        Some(SchedulerKind::Systemd) => {
            Schedules::Systemd { host, on_failure: mirror.on_failure.map(|unit| unit.0.0) }
        }
    }
}

/// Keys that the chosen scheduler has no use for: somebody expects something of them.
pub(super) fn misplaced(mirror: &schema::Schedules) -> Vec<&'static str> {
    let scheduler = mirror.scheduler.unwrap_or(SchedulerKind::Controller);
    let given = [
        ("folder", mirror.folder.is_some(), scheduler != SchedulerKind::Controller),
        ("user", mirror.user.is_some(), scheduler != SchedulerKind::Controller),
        ("program", mirror.program.is_some(), scheduler != SchedulerKind::Controller),
        ("mail_to", mirror.mail_to.is_some(), scheduler == SchedulerKind::Cron),
        ("on_failure", mirror.on_failure.is_some(), scheduler == SchedulerKind::Systemd),
    ];
    given.into_iter().filter(|(_, given, used)| *given && !used).map(|(key, ..)| key).collect()
}
