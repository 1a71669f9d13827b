//! systemd: a `.timer` and a `.service` for each schedule, and the link that enables the timer. The formats are those of
//! systemd.timer(5), systemd.service(5), systemd.exec(5) and systemd.time(7).
//!
//! Where systemd runs the machine it is told of every change; elsewhere (in an image, say) the files are all there is.

mod calendar;
mod manager;
mod units;

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use jiff::tz::TimeZone;

use super::{
    Command, Scheduler, SchedulerError,
    folder::{Folder, Piece},
};
use crate::{
    inventory::{Armed, ArmedSchedule},
    spec::{self, names::FleetName},
};
use manager::Manager;

/// Where the operating system looks for the units of this machine's own.
pub const FOLDER: &str = "/etc/systemd/system";
/// Links here start a timer with the machine.
const WANTS: &str = "timers.target.wants";

/// What a host says of its systemd.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the units.
    pub folder: PathBuf,
    /// How Backstay is started.
    pub command: Command,
    /// The unit that is started when a run fails.
    pub on_failure: Option<String>,
    /// What a run may write: the state directory, and whatever the host allows.
    pub write: Vec<PathBuf>,
    /// What a run must be able to read besides the operating system.
    pub read: Vec<PathBuf>,
}

/// A fleet's schedules in systemd.
#[derive(Debug)]
pub struct SystemdUnits {
    options: Options,
    folder: Folder,
    fleet: FleetName,
    zone: TimeZone,
    manager: Manager,
    /// Of two changes of one unit, one waits.
    changing: Mutex<()>,
}

/// The files of a schedule.
struct Units {
    timer: Piece,
    service: Piece,
}

impl SystemdUnits {
    /// The schedules of `fleet`.
    pub fn new(options: Options, fleet: &spec::Fleet) -> Self {
        Self {
            folder: Folder::new(options.folder.clone(), fleet.name.clone(), options.command.config.clone()),
            manager: Manager::of(&options.folder),
            options,
            fleet: fleet.name.clone(),
            zone: fleet.time_zone.clone(),
            changing: Mutex::default(),
        }
    }

    /// When the timer of a schedule elapses: the values of `OnCalendar=`.
    ///
    /// # Errors
    /// Why systemd can't express it.
    pub fn on_calendar(&self, schedule: &ArmedSchedule) -> Result<Vec<String>, String> {
        calendar::of(&schedule.cadence, &self.zone)
    }

    fn units(&self, schedule: &ArmedSchedule) -> Result<Units, String> {
        let stem = self.folder.stem(schedule, str::to_owned);
        let timer = units::timer(&self.fleet, schedule, &self.on_calendar(schedule)?);
        let service = units::service(&self.options, &self.fleet, schedule)?;
        Ok(Units {
            timer: Piece { name: format!("{stem}.timer"), body: timer },
            service: Piece { name: format!("{stem}.service"), body: service },
        })
    }

    fn pieces(&self, schedule: &ArmedSchedule) -> Result<Vec<Piece>, String> {
        let Units { timer, service } = self.units(schedule)?;
        Ok(vec![service, timer])
    }

    fn timer_name(&self, schedule: &ArmedSchedule) -> String {
        format!("{}.timer", self.folder.stem(schedule, str::to_owned))
    }

    fn link(&self, timer: &str) -> PathBuf {
        self.folder.path().join(WANTS).join(timer)
    }

    /// Whether the timer starts with the machine.
    fn is_enabled(&self, timer: &str) -> io::Result<bool> {
        match fs::read_link(self.link(timer)) {
            Ok(to) => Ok(to == self.folder.path().join(timer) || to == Path::new("..").join(timer)),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Makes the link; `true` when it was not there.
    fn enable(&self, timer: &str) -> io::Result<bool> {
        if self.is_enabled(timer)? {
            return Ok(false);
        }
        let link = self.link(timer);
        let folder = self.folder.path().join(WANTS);
        match fs::create_dir(&folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        // A link to something else starts something else: it is not ours to lose only if it is no link at all.
        match fs::symlink_metadata(&link) {
            Ok(there) if there.is_symlink() => fs::remove_file(&link)?,
            _ => {}
        }
        symlink(Path::new("..").join(timer), &link)?;
        fs::File::open(&folder)?.sync_all()?;
        Ok(true)
    }

    fn disable(&self, timer: &str) -> io::Result<()> {
        if self.is_enabled(timer)? {
            fs::remove_file(self.link(timer))?;
        }
        Ok(())
    }

    /// Moves to `altered` what is written as it should be and yet never starts.
    async fn sort_out_what_is_idle(&self, armed: &mut Armed) -> Result<(), SchedulerError> {
        let active = self.manager.active_timers(&self.folder.prefix(str::to_owned)).await?;
        for schedule in std::mem::take(&mut armed.schedules) {
            let timer = self.timer_name(&schedule);
            let enabled = self.is_enabled(&timer).map_err(|e| self.folder.failed("list", &e))?;
            let idle = match &active {
                _ if !enabled => Some(format!("{timer} is disabled")),
                Some(active) if !active.contains(&timer) => Some(format!("{timer} is stopped")),
                _ => None,
            };
            match idle {
                None => drop(armed.schedules.insert(schedule)),
                Some(why) => drop(armed.altered.insert(schedule, why)),
            }
        }
        Ok(())
    }

    /// Tells of the folders by which somebody overrides a unit of ours.
    fn tell_of_overrides(&self, armed: &mut Armed) -> Result<(), SchedulerError> {
        let prefix = self.folder.prefix(str::to_owned);
        let entries = fs::read_dir(self.folder.path()).map_err(|e| self.folder.failed("list", &e))?;
        for entry in entries {
            let entry = entry.map_err(|e| self.folder.failed("list", &e))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let overrides = name.ends_with(".timer.d") || name.ends_with(".service.d");
            if name.starts_with(&prefix) && overrides {
                let why = "it overrides a unit of ours".to_owned();
                armed.strangers.insert(entry.path().display().to_string(), why);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Scheduler for SystemdUnits {
    async fn list(&self) -> Result<Armed, SchedulerError> {
        let mut armed =
            self.folder.list(&self.folder.prefix(str::to_owned), |schedule| self.pieces(schedule))?;
        self.sort_out_what_is_idle(&mut armed).await?;
        self.tell_of_overrides(&mut armed)?;
        Ok(armed)
    }

    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let pieces = self.pieces(schedule).map_err(|why| self.folder.refused("arm", why))?;
        let timer = self.timer_name(schedule);
        let changed = {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let written = self.folder.write(schedule, &pieces)?;
            let enabled = self.enable(&timer).map_err(|e| self.folder.failed("enable", &e))?;
            written || enabled
        };
        self.manager.start(&timer, changed).await
    }

    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let stem = self.folder.stem(schedule, str::to_owned);
        let (timer, service) = (format!("{stem}.timer"), format!("{stem}.service"));
        let gone = {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let timer_gone = self.folder.remove(schedule, std::slice::from_ref(&timer))?;
            if timer_gone {
                self.disable(&timer).map_err(|e| self.folder.failed("disable", &e))?;
            }
            timer_gone | self.folder.remove(schedule, &[service])?
        };
        if gone { self.manager.stop(&timer).await } else { Ok(()) }
    }

    fn can_hold(&self, schedule: &ArmedSchedule) -> Result<(), String> {
        self.units(schedule).map(drop)
    }
}
