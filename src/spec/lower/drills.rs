//! Drills and their checks.

use std::{str::FromStr, time::Duration};

use super::{Lower, below, cadence_of, length, word};
use crate::spec::{
    CommandCheck, Drill, DrillCheck, DrillHow, DrillPoint, DrillSubject, Expected, HttpCheck, Misplaced,
    TcpCheck,
    names::DrillName,
    places::{Path, path},
    schema,
    values::{InnerPath, Name, Size, Text, Word},
    walk::show,
};

impl Lower<'_> {
    pub(super) fn drill(&mut self, name: &DrillName, drill: schema::Drill) -> Option<Drill> {
        let at = path(["drill", name.as_str()]);
        let mut checks = Vec::new();
        let subject = match (drill.backup, drill.recovery) {
            (Some(Text(Name(name))), _) => {
                self.has_no_stand_ins(&at, &drill.stand_in);
                checks = self.checks(&at, drill.check);
                self.reference("backup", &below(&at, ["backup"]), &name).map(DrillSubject::Backup)
            }
            (None, Some(Text(Name(name)))) => {
                let rehearsal = self.rehearsal(&at, &name, drill.stand_in, drill.check);
                rehearsal.map(DrillSubject::Recovery)
            }
            (None, None) => None,
        };
        Some(Drill {
            subject: subject?,
            schedule: cadence_of(drill.schedule?),
            how: match drill.how.unwrap_or_default() {
                schema::DrillHow::Backstay => DrillHow::Backstay,
                schema::DrillHow::ByHand => DrillHow::ByHand,
            },
            at: match drill.at.unwrap_or_default() {
                schema::DrillPoint::Latest => DrillPoint::Latest,
                schema::DrillPoint::Random => DrillPoint::Random,
            },
            checks,
        })
    }

    fn checks(&mut self, at: &Path, checks: Vec<schema::DrillCheck>) -> Vec<DrillCheck> {
        let numbered = checks.into_iter().enumerate();
        let lowered = numbered.filter_map(|(n, check)| {
            let at = below(at, ["check", &n.to_string()]);
            if check.backup.is_some() {
                let hint = "leave `backup` out: the drill tries one backup";
                return self.bad_check(&at, "names a backup, which only the drill of a recovery can", hint);
            }
            self.check(&at, check)
        });
        lowered.collect()
    }

    pub(super) fn check(&mut self, at: &Path, check: schema::DrillCheck) -> Option<DrillCheck> {
        let form = Form::of(&check);
        if let Some(stranger) = given(&check).find(|key| !form.keys.contains(key)) {
            return self.bad_check(at, &format!("{} `{stranger}`", form.which_has_no), "leave it out");
        }
        match check {
            schema::DrillCheck { sql: Some(sql), database, equals, min, max, .. } => {
                let expect = self.expected(at, equals, min, max)?;
                Some(DrillCheck::Sql { sql, database: word(database), expect })
            }
            schema::DrillCheck { influxql: Some(influxql), database, equals, min, max, .. } => {
                let expect = self.expected(at, equals, min, max)?;
                Some(DrillCheck::Influxql { influxql, database: word(database), expect })
            }
            schema::DrillCheck { file: Some(Text(InnerPath(path))), min_bytes, sha256, .. } => {
                let sha256 = word(sha256).map(|sum| sum.to_ascii_lowercase());
                self.file_check(at, path, min_bytes.map(|Text(Size(bytes))| bytes), sha256)
            }
            schema::DrillCheck { http: Some(Text(Word(url))), status, contains, timeout, .. } => {
                let url = self.place(at, "http", &url)?;
                let within = self.within(at, length(timeout), REACHED)?;
                let status = status.unwrap_or(SUCCESS);
                Some(DrillCheck::Http(HttpCheck { url, status, contains, within }))
            }
            schema::DrillCheck { tcp: Some(Text(Word(endpoint))), timeout, .. } => {
                let endpoint = self.place(at, "tcp", &endpoint)?;
                let within = self.within(at, length(timeout), REACHED)?;
                Some(DrillCheck::Tcp(TcpCheck { endpoint, within }))
            }
            schema::DrillCheck { command: Some(command), timeout, .. } => {
                let within = self.within(at, length(timeout), RUN)?;
                self.command_check(at, command, within)
            }
            schema::DrillCheck { counts: Some(schema::DrillCounts::Items), min, max, .. } => {
                Some(DrillCheck::Items { expect: self.expected(at, None, min, max)? })
            }
            schema::DrillCheck { counts, .. } => counts.map(|_| DrillCheck::Counts),
        }
    }

    /// What an answer must be.
    fn expected(
        &mut self,
        at: &Path,
        equals: Option<String>,
        min: Option<i64>,
        max: Option<i64>,
    ) -> Option<Expected> {
        let (why, hint) = match (equals, min, max) {
            (None, Some(min), Some(max)) if min > max => {
                ("allows no number: `min` is more than `max`", "exchange them")
            }
            (Some(text), None, None) => return Some(Expected::Equals(text)),
            (None, min, max) if min.is_some() || max.is_some() => return Some(Expected::Within { min, max }),
            _ => (
                "needs what its answer must be: `equals`, or `min` or `max` or both",
                "say what the answer must be, such as min = 1",
            ),
        };
        self.bad_check(at, why, hint);
        None
    }

    fn file_check(
        &mut self,
        at: &Path,
        path: String,
        min_bytes: Option<u64>,
        sha256: Option<String>,
    ) -> Option<DrillCheck> {
        let is_sum = |sum: &String| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
        match sha256.as_ref().is_none_or(is_sum) {
            true => Some(DrillCheck::File { path, min_bytes, sha256 }),
            false => self.bad_check(
                at,
                "has a `sha256` that is none",
                "give the 64 hexadecimal digits that sha256sum prints",
            ),
        }
    }

    fn command_check(&mut self, at: &Path, command: Vec<String>, within: Duration) -> Option<DrillCheck> {
        let mut words = command.into_iter();
        let program = words.next().unwrap_or_default();
        let is_found = !program.contains('/') || program.starts_with('/');
        if program.is_empty() || program.starts_with('-') || !is_found {
            let hint =
                "name it as `run` in [allow] of the controller's configuration does, or give its whole path";
            return self.bad_check(at, "names no program", hint);
        }
        let arguments: Vec<String> = words.collect();
        if arguments.iter().chain([&program]).any(|word| word.contains('\0')) {
            return self.bad_check(at, "holds a NUL, which no program can be told", "leave it out");
        }
        Some(DrillCheck::Command(CommandCheck { program, arguments, within }))
    }

    /// A place that stands under `key`.
    fn place<T: FromStr<Err = Misplaced>>(&mut self, at: &Path, key: &str, text: &str) -> Option<T> {
        let at = below(at, [key]);
        let (code, why) = match text.parse() {
            Ok(place) => return Some(place),
            Err(Misplaced::Secret) => ("literal-secret", Misplaced::Secret.to_string()),
            Err(why) => ("bad-value", why.to_string()),
        };
        let message = format!("`{}` can't be reached: {why}", show(&at));
        self.error(code, &at, message, "such as http://pavroto-2:8080/health, and pavroto-2:3306 for `tcp`");
        None
    }

    /// How long a check may take.
    fn within(&mut self, at: &Path, declared: Option<Duration>, usual: Usual) -> Option<Duration> {
        match declared {
            Some(length) if length > usual.most => {
                let most = humantime::format_duration(usual.most);
                let why = format!("has a `timeout` of over {most}, which would hold up every other drill");
                self.bad_check(at, &why, &format!("give it {most} at most"));
                None
            }
            declared => Some(declared.unwrap_or(usual.unless_declared)),
        }
    }

    pub(super) fn bad_check(&mut self, at: &Path, why: &str, hint: &str) -> Option<DrillCheck> {
        self.error("drill-check", at, format!("`{}` {why}", show(at)), hint);
        None
    }
}

/// The status of an answer that brings what was asked for (RFC 9110, 15.3.1).
const SUCCESS: u16 = 200;

/// How long something may take.
#[derive(Clone, Copy)]
struct Usual {
    unless_declared: Duration,
    most: Duration,
}

/// Of what is reached over a network.
const REACHED: Usual = Usual { unless_declared: Duration::from_secs(30), most: Duration::from_secs(600) };

/// Of programs.
const RUN: Usual = Usual { unless_declared: Duration::from_secs(600), most: Duration::from_secs(24 * 3600) };

/// What a check of one kind may have beside its own key.
struct Form {
    /// The beginning of what is said of any other key.
    which_has_no: &'static str,
    keys: &'static [&'static str],
}

impl Form {
    fn of(check: &schema::DrillCheck) -> Self {
        let (which_has_no, keys): (_, &[&str]) = match check {
            schema::DrillCheck { sql: Some(_), .. } => {
                ("asks with `sql`, which has no", &["database", "equals", "max", "min"])
            }
            schema::DrillCheck { influxql: Some(_), .. } => {
                ("asks with `influxql`, which has no", &["database", "equals", "max", "min"])
            }
            schema::DrillCheck { file: Some(_), .. } => {
                ("is of a file, which has no", &["min_bytes", "sha256"])
            }
            schema::DrillCheck { http: Some(_), .. } => {
                ("asks a web server, which has no", &["contains", "status", "timeout"])
            }
            schema::DrillCheck { tcp: Some(_), .. } => ("tries to connect, which has no", &["timeout"]),
            schema::DrillCheck { command: Some(_), .. } => ("runs a program, which has no", &["timeout"]),
            schema::DrillCheck { counts: Some(schema::DrillCounts::Items), .. } => {
                ("counts items, which have no", &["max", "min"])
            }
            schema::DrillCheck { .. } => ("is of counts, which have no", &[]),
        };
        Self { which_has_no, keys }
    }
}

/// The keys of a check beside its own that are there.
fn given(check: &schema::DrillCheck) -> impl Iterator<Item = &'static str> {
    let keys = [
        ("min", check.min.is_some()),
        ("max", check.max.is_some()),
        ("equals", check.equals.is_some()),
        ("database", check.database.is_some()),
        ("min_bytes", check.min_bytes.is_some()),
        ("sha256", check.sha256.is_some()),
        ("status", check.status.is_some()),
        ("contains", check.contains.is_some()),
        ("timeout", check.timeout.is_some()),
    ];
    keys.into_iter().filter(|(_, is_there)| *is_there).map(|(key, _)| key)
}
