//! Drills and their checks.

use super::{Lower, below, cadence_of, word};
use crate::spec::{
    Drill, DrillCheck, DrillHow, DrillPoint, DrillSubject, Expected,
    names::DrillName,
    places::{Path, path},
    schema,
    values::{InnerPath, Name, Size, Text},
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
        let bounds = [
            ("min", check.min.is_some()),
            ("max", check.max.is_some()),
            ("equals", check.equals.is_some()),
            ("database", check.database.is_some()),
        ];
        let of_files = [("min_bytes", check.min_bytes.is_some()), ("sha256", check.sha256.is_some())];
        let strangers = |keys: &[(&'static str, bool)]| keys.iter().find(|(_, given)| *given).map(|it| it.0);
        if let Some(sql) = check.sql {
            let expect = match (check.equals, check.min, check.max) {
                (Some(text), None, None) => Some(Expected::Equals(text)),
                (None, min, max) if min.is_some() || max.is_some() => Some(Expected::Within { min, max }),
                _ => None,
            };
            let stranger = strangers(&of_files);
            return match (expect, stranger) {
                (Some(Expected::Within { min: Some(min), max: Some(max) }), _) if min > max => {
                    self.bad_check(at, "allows no number: `min` is more than `max`", "exchange them")
                }
                (_, Some(stranger)) => {
                    self.bad_check(at, &format!("asks with `sql`, which has no `{stranger}`"), "leave it out")
                }
                (None, _) => self.bad_check(
                    at,
                    "needs what its answer must be: `equals`, or `min` or `max` or both",
                    "say what the answer must be, such as min = 1",
                ),
                (Some(expect), None) => Some(DrillCheck::Sql { sql, database: word(check.database), expect }),
            };
        }
        if let Some(Text(InnerPath(path))) = check.file {
            let sha256 = word(check.sha256).map(|sum| sum.to_ascii_lowercase());
            let is_sum = |sum: &String| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
            return match strangers(&bounds) {
                Some(stranger) => {
                    self.bad_check(at, &format!("is of a file, which has no `{stranger}`"), "leave it out")
                }
                None if !sha256.as_ref().is_none_or(is_sum) => self.bad_check(
                    at,
                    "has a `sha256` that is none",
                    "give the 64 hexadecimal digits that sha256sum prints",
                ),
                None => {
                    let min_bytes = check.min_bytes.map(|Text(Size(bytes))| bytes);
                    Some(DrillCheck::File { path, min_bytes, sha256 })
                }
            };
        }
        check.counts?;
        match strangers(&bounds).or(strangers(&of_files)) {
            Some(stranger) => {
                self.bad_check(at, &format!("is of counts, which have no `{stranger}`"), "leave it out")
            }
            None => Some(DrillCheck::Counts),
        }
    }

    pub(super) fn bad_check(&mut self, at: &Path, why: &str, hint: &str) -> Option<DrillCheck> {
        self.error("drill-check", at, format!("`{}` {why}", show(at)), hint);
        None
    }
}
