//! cron(8): a file in a folder such as `/etc/cron.d` for each schedule; the format is that of crontab(5) with a user.
//!
//! Debian's cron runs a file only when its name is of letters, digits, `-` and `_`, and takes every time in the machine's
//! own zone: what is declared in another zone is refused. It follows a clock that is set as Backstay does: what an hour
//! that is skipped names runs after it, what an hour that is repeated names runs once.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{
    Command, Scheduler, SchedulerError, calendar,
    calendar::Fields,
    folder::{Folder, Piece},
};
use crate::{
    inventory::{Armed, ArmedSchedule},
    spec::{self, Cadence},
};

/// Where the operating system looks.
pub const FOLDER: &str = "/etc/cron.d";
/// What programs that Backstay starts are looked for in.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longer commands are cut off by cron, bytes.
const LONGEST_COMMAND: usize = 990;
/// Zones that tell the same time from here on, for so many settings of the clock, are the same.
const ZONES_SINCE: Timestamp = Timestamp::constant(1_704_067_200, 0);
const SETTINGS: usize = 24;

/// What a host says of its cron.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its folder.
    pub folder: PathBuf,
    /// How Backstay is started.
    pub command: Command,
    /// Who gets what a run says on stderr; `None`: the user that it runs as.
    pub mail_to: Option<String>,
    /// The zone of the machine's clock.
    pub machine_zone: TimeZone,
}

/// A fleet's schedules in cron.
#[derive(Debug)]
pub struct CronFolder {
    options: Options,
    folder: Folder,
    zone: TimeZone,
    /// Of two changes of one file, one waits.
    changing: Mutex<()>,
}

impl CronFolder {
    /// The schedules of `fleet`.
    pub fn new(options: Options, fleet: &spec::Fleet) -> Self {
        let folder = Folder::new(options.folder.clone(), fleet.name.clone(), options.command.config.clone());
        Self { options, folder, zone: fleet.time_zone.clone(), changing: Mutex::default() }
    }

    fn file(&self, schedule: &ArmedSchedule) -> Result<Piece, String> {
        let times = self.times(&schedule.cadence)?;
        let command = self.command(schedule)?;
        let mail = match &self.options.mail_to {
            Some(address) if address.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                return Err("mail_to must be one address, without spaces".to_owned());
            }
            Some(address) => format!("MAILTO={address}\n"),
            None => String::new(),
        };
        let user = &self.options.command.user;
        let lines: Vec<String> = times.iter().map(|times| format!("{times} {user} {command}\n")).collect();
        let body = format!("SHELL=/bin/sh\nPATH={PATH}\n{mail}{}", lines.concat());
        Ok(Piece { name: self.name(schedule), body })
    }

    fn name(&self, schedule: &ArmedSchedule) -> String {
        self.folder.stem(schedule, encoded)
    }

    /// The five fields of each line.
    fn times(&self, cadence: &Cadence) -> Result<Vec<String>, String> {
        match cadence {
            Cadence::Cron(cron) => {
                let fields = Fields::of(cron).ok_or_else(|| format!("cron can't express `{cron}`"))?;
                self.same_zone()?;
                Ok(vec![line(&fields)])
            }
            Cadence::Every(period) => self.every(*period).map_err(|why| {
                format!(
                    "cron can't express `every {}`: {why}; use a cron expression, or another scheduler",
                    humantime::format_duration(*period)
                )
            }),
        }
    }

    fn same_zone(&self) -> Result<(), String> {
        let machine = &self.options.machine_zone;
        if settings(machine) == settings(&self.zone) {
            return Ok(());
        }
        Err(format!(
            "the fleet's schedules are in {} and cron's clock is in {}; give both the same zone, or set schedules.scheduler to \"systemd\"",
            name_of(&self.zone),
            name_of(machine)
        ))
    }

    /// `every` counts in UTC; in another zone only what is the same in each hour can be told.
    fn every(&self, period: Duration) -> Result<Vec<String>, String> {
        let zone = &self.options.machine_zone;
        let all = calendar::every(period)?;
        let shifted = settings(zone)
            .iter()
            .any(|(_, offset)| offset % i64::try_from(period.as_secs()).unwrap_or(i64::MAX) != 0);
        if shifted {
            return Err(format!(
                "it counts in UTC, and cron's clock, in {}, is not a multiple of it away",
                name_of(zone)
            ));
        }
        Ok(all.iter().map(|times| format!("{} {} * * *", times.minutes("-"), times.hours("-"))).collect())
    }

    fn command(&self, schedule: &ArmedSchedule) -> Result<String, String> {
        let words = self.options.command.words(&schedule.backup)?;
        let command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        // cron ends the command at a `%` and hands the rest to its standard input.
        let command = command.replace('%', "\\%");
        if command.len() > LONGEST_COMMAND {
            return Err(format!("its command is longer than the {LONGEST_COMMAND} bytes that cron takes"));
        }
        Ok(command)
    }
}

#[async_trait]
impl Scheduler for CronFolder {
    async fn list(&self) -> Result<Armed, SchedulerError> {
        self.folder.list(&self.folder.prefix(encoded), |schedule| Ok(vec![self.file(schedule)?]))
    }

    async fn arm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let file = self.file(schedule).map_err(|why| self.folder.refused("arm", why))?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.folder.write(schedule, &[file]).map(drop)
    }

    async fn disarm(&self, schedule: &ArmedSchedule) -> Result<(), SchedulerError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.folder.remove(schedule, &[self.name(schedule)]).map(drop)
    }

    fn can_hold(&self, schedule: &ArmedSchedule) -> Result<(), String> {
        self.file(schedule).map(drop)
    }
}

/// Names are in lower case, so that nothing else becomes `DOT`.
fn encoded(name: &str) -> String {
    name.replace('.', "DOT")
}

/// One word for `/bin/sh`.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// Fields as every cron reads them. A day that begins with `*` stays as it is written: it decides how days combine.
fn line(fields: &Fields) -> String {
    let all = [&fields.minutes, &fields.hours, &fields.days, &fields.months, &fields.weekdays];
    let texts = all.map(|field| if field.has_star() { field.text.clone() } else { field.ranges("-") });
    texts.join(" ")
}

/// The zone's distance from UTC in seconds, now and at each setting of its clock.
fn settings(zone: &TimeZone) -> Vec<(Timestamp, i64)> {
    let at = |moment: Timestamp| (moment, i64::from(zone.to_offset(moment).seconds()));
    let later = zone.following(ZONES_SINCE).map(|setting| at(setting.timestamp()));
    let mut all: Vec<(Timestamp, i64)> =
        std::iter::once(at(ZONES_SINCE)).chain(later.take(SETTINGS)).collect();
    // Some data names settings that change nothing but the name of the time.
    all.dedup_by_key(|(_, offset)| *offset);
    all
}

fn name_of(zone: &TimeZone) -> String {
    zone.iana_name()
        .map_or_else(|| format!("UTC{:+}", SignedDuration::from_secs(settings(zone)[0].1)), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::Kind;

    fn folder(fleet_zone: &str, machine_zone: &str) -> CronFolder {
        let options = Options {
            folder: FOLDER.into(),
            command: Command {
                program: "/opt/100% mine/backstay".into(),
                config: "/etc/backstay/backstay.toml".into(),
                user: "backup".into(),
            },
            mail_to: Some("ops@example.org".into()),
            machine_zone: TimeZone::get(machine_zone).unwrap(),
        };
        let fleet = spec::Fleet {
            name: "pavroto".parse().unwrap(),
            time_zone: TimeZone::get(fleet_zone).unwrap(),
            recipients: Vec::new(),
        };
        CronFolder::new(options, &fleet)
    }

    fn schedule(cadence: Cadence) -> ArmedSchedule {
        ArmedSchedule { backup: "agama.db".parse().unwrap(), kind: Kind::Full, cadence }
    }

    fn cron(text: &str) -> ArmedSchedule {
        schedule(Cadence::Cron(text.parse().unwrap()))
    }

    fn every(seconds: u64) -> ArmedSchedule {
        schedule(Cadence::Every(Duration::from_secs(seconds)))
    }

    #[test]
    fn a_file_has_a_name_that_cron_takes_absolute_paths_and_no_bare_percent() {
        let file = folder("UTC", "Etc/UTC").file(&cron("0 1 * * mon-fri")).unwrap();
        assert_eq!(file.name, "backstay-pavroto-agamaDOTdb-full");
        let expected = format!(
            "SHELL=/bin/sh\nPATH={PATH}\nMAILTO=ops@example.org\n0 1 * * 1-5 backup '/opt/100\\% mine/backstay' --config \
             /etc/backstay/backstay.toml --quiet backup agama.db --scheduled\n"
        );
        assert_eq!(file.body, expected);
    }

    #[test]
    fn days_combine_as_they_did() {
        let times = |text: &str| folder("UTC", "UTC").times(&cron(text).cadence).unwrap();
        assert_eq!(times("5/20 2 */2 * 1"), ["5,25,45 2 */2 * 1"]);
        assert_eq!(times("0 0 1-31 jan 7"), ["0 0 1-31 1 0"]);
    }

    #[test]
    fn another_zone_than_the_machines_is_refused_and_another_name_of_the_same_is_not() {
        let hold = |fleet, machine| folder(fleet, machine).can_hold(&cron("0 1 * * *"));
        assert!(hold("Europe/Stockholm", "Europe/Berlin").is_ok());
        assert!(hold("UTC", "Etc/UTC").is_ok());
        let why = hold("Europe/Stockholm", "UTC").unwrap_err();
        assert!(why.contains("Europe/Stockholm") && why.contains("systemd"), "{why}");
        assert!(hold("Europe/Stockholm", "Africa/Tunis").is_err());
    }

    #[test]
    fn every_is_expressed_exactly_or_refused() {
        let times = |zone: &str, seconds| folder(zone, zone).times(&every(seconds).cadence);
        assert_eq!(times("UTC", 900).unwrap(), ["0,15,30,45 * * * *"]);
        assert_eq!(times("UTC", 6 * 3600).unwrap(), ["0 0,6,12,18 * * *"]);
        assert_eq!(times("Europe/Stockholm", 3600).unwrap(), ["0 * * * *"]);
        assert_eq!(times("Asia/Kathmandu", 900).unwrap(), ["0,15,30,45 * * * *"]);
        for (zone, seconds) in
            [("Asia/Kathmandu", 1800), ("Europe/Stockholm", 6 * 3600), ("UTC", 30), ("UTC", 7 * 3600)]
        {
            let why = times(zone, seconds).unwrap_err();
            assert!(why.contains("cron can't express"), "{why}");
        }
    }
}
