//! What was measured of a fleet against what a declaration promises, before it comes into force: `status -o json` of the
//! controller, read where the declaration is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use humantime::format_duration;
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::IgnoredAny};

use super::{FORMAT, Status, Tried, estimate::Estimate};
use crate::{
    diagnostic::{Diagnostic, Location},
    spec::{
        Backup, Recovery, Schedule, Spec,
        names::{BackupName, DrillName, FleetName, RecoveryName},
        places::{Places, path},
    },
};

/// What was measured of a fleet.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Measured {
    /// Which fleet.
    pub fleet: FleetName,
    /// When.
    pub at: Timestamp,
    #[serde(deserialize_with = "names")]
    backups: BTreeSet<BackupName>,
    #[serde(default)]
    drills: BTreeMap<DrillName, MeasuredDrill>,
    #[serde(default)]
    recoveries: BTreeMap<RecoveryName, MeasuredRecovery>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct MeasuredDrill {
    /// What it tries: one of the two.
    #[serde(default)]
    backup: Option<BackupName>,
    #[serde(default)]
    recovery: Option<RecoveryName>,
    last: Option<Taken>,
    last_passed: Option<Timestamp>,
    estimate: Option<Estimate>,
}

/// A drill that came to an end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Taken {
    began: Timestamp,
    #[serde(default)]
    rto_seconds: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct MeasuredRecovery {
    last_whole: Option<Whole>,
    estimate: Option<Estimate>,
}

/// A recovery that came to its end.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Whole {
    began: Timestamp,
    seconds: Option<u64>,
}

fn names<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<BackupName>, D::Error> {
    Ok(BTreeMap::<BackupName, IgnoredAny>::deserialize(from)?.into_keys().collect())
}

impl Measured {
    /// Reads what `status -o json` printed.
    ///
    /// # Errors
    /// Why it is nothing of that kind.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Envelope {
            format: String,
        }
        let envelope: Envelope =
            serde_json::from_slice(json).map_err(|error| format!("it is no JSON of Backstay's: {error}"))?;
        if envelope.format != FORMAT {
            let found = envelope.format.escape_debug();
            return Err(format!(
                "its format is `{found}`, not `{FORMAT}`: `backstay status -o json` of one fleet"
            ));
        }
        serde_json::from_slice(json).map_err(|error| format!("it is no {FORMAT}: {error}"))
    }

    /// What a status tells.
    pub fn of(status: &Status) -> Self {
        let drill = |drill: &super::DrillStatus| MeasuredDrill {
            backup: drill.backup().cloned(),
            recovery: match &drill.tried {
                Tried::Backup(_) => None,
                Tried::Recovery(recovery) => Some(recovery.clone()),
            },
            last: drill.last.as_ref().map(|it| Taken { began: it.began(), rto_seconds: it.rto_seconds() }),
            last_passed: drill.last_passed,
            estimate: drill.estimate,
        };
        let recovery = |recovery: &super::RecoveryStatus| MeasuredRecovery {
            last_whole: recovery.last_whole.as_ref().map(|it| Whole { began: it.began, seconds: it.seconds }),
            estimate: recovery.estimate,
        };
        Self {
            fleet: status.fleet.clone(),
            at: status.at,
            backups: status.backups.keys().cloned().collect(),
            drills: status.drills.iter().map(|(name, it)| (name.clone(), drill(it))).collect(),
            recoveries: status.recoveries.iter().map(|(name, it)| (name.clone(), recovery(it))).collect(),
        }
    }

    /// The drills of a backup, by the name that `spec` gives it.
    fn drills_of<'a>(
        &'a self,
        spec: &'a Spec,
        name: &'a BackupName,
    ) -> impl Iterator<Item = &'a MeasuredDrill> {
        self.drills
            .values()
            .filter(move |drill| drill.backup.as_ref().is_some_and(|it| now(spec, it) == name))
    }

    /// The drills of a whole recovery.
    fn drills_of_recovery<'a>(&'a self, name: &'a RecoveryName) -> impl Iterator<Item = &'a MeasuredDrill> {
        self.drills.values().filter(move |drill| drill.recovery.as_ref() == Some(name))
    }

    /// Whether the controller knew the backup: what is new can't have been tried.
    fn knows(&self, spec: &Spec, name: &BackupName) -> bool {
        self.backups.iter().any(|known| now(spec, known) == name)
    }
}

/// The name that a backup has in a declaration which may have renamed it.
fn now<'a>(spec: &'a Spec, name: &'a BackupName) -> &'a BackupName {
    spec.moved.newest_name(name).unwrap_or(name)
}

/// Every promise of a declaration that what was measured puts in doubt.
pub fn findings(spec: &Spec, places: &Places, measured: &Measured) -> Vec<Diagnostic> {
    let backups = spec.backups.iter().filter_map(|(name, backup)| {
        let doubt = of_backup(spec, name, backup, measured)?;
        let found = doubt.diagnostic(&path(["policy", backup.policy.name.as_str(), "rto"]), places);
        let declared = places.find(&path(["backup", name.as_str()]));
        Some(declared.into_iter().cloned().fold(found, |found, at: Location| found.see(at, "of this backup")))
    });
    let recoveries = spec.recoveries.iter().filter_map(|(name, recovery)| {
        let doubt = of_recovery(spec, name, recovery, measured)?;
        Some(doubt.diagnostic(&path(["recovery", name.as_str(), "rto"]), places))
    });
    backups.chain(recoveries).collect()
}

/// How old what was measured may be, whatever has happened since.
const FRESH: Duration = Duration::from_secs(7 * 24 * 3600);
/// How far the clocks of two hosts may differ.
const CLOCKS: Duration = Duration::from_secs(600);

/// Why what was measured tells less of a fleet than it could by now: it is old, or drills have been due since.
pub fn stale(spec: &Spec, measured: &Measured, now: Timestamp) -> Option<Diagnostic> {
    let taken = |why: String| format!("what was measured was told on {:.0}, {why}", measured.at);
    let told = |why: String| {
        let hint = "take `backstay status -o json` of the controller anew, and name that";
        Some(Diagnostic::warning("measured-stale", taken(why)).hint(hint))
    };
    let age = match Duration::try_from(now.duration_since(measured.at)) {
        Ok(age) => age,
        Err(_) if measured.at.duration_since(now).unsigned_abs() > CLOCKS => {
            return told("which is still to come: the clock of one of the two hosts is wrong".to_owned());
        }
        Err(_) => return None,
    };
    let whole = |age: Duration| format_duration(Duration::from_secs(age.as_secs() / 60 * 60));
    if age > FRESH {
        return told(format!("{} ago", whole(age)));
    }
    let due = spec.drills.iter().filter_map(|(name, drill)| {
        let schedule = Schedule::without_jitter(drill.schedule.clone(), spec.fleet.time_zone.clone());
        Some((schedule.latest_at_or_before(now)?, name))
    });
    let (slot, name) = due.filter(|(slot, _)| *slot > measured.at).max()?;
    told(format!("{} ago: the drill {name} was due since, at {slot:.0}", whole(age)))
}

/// Why a promise may not hold.
struct Doubt {
    code: &'static str,
    message: String,
    hint: &'static str,
}

impl Doubt {
    fn diagnostic(self, at: &[String], places: &Places) -> Diagnostic {
        let diagnostic = Diagnostic::warning(self.code, self.message).hint(self.hint);
        places.find(at).into_iter().cloned().fold(diagnostic, Diagnostic::at)
    }
}

const SLOW: &str = "declare the RTO that holds, or have less to do in that time: a store that is nearer, a full more often, \
                    several backups in place of one";

fn of_backup(spec: &Spec, name: &BackupName, backup: &Backup, measured: &Measured) -> Option<Doubt> {
    let rto = backup.policy.rto?;
    let last = measured.drills_of(spec, name).filter_map(|drill| drill.last.as_ref());
    let last = last.filter_map(|it| Some((it.began, it.rto_seconds?))).max();
    let estimate = measured.drills_of(spec, name).filter_map(|drill| drill.estimate);
    let estimate = estimate.max_by_key(|estimate| estimate.measured);
    if let Some((began, took)) = last.filter(|(_, took)| *took > rto.as_secs()) {
        let message = format!(
            "the drill of {} took {} until the data of backup `{name}` could be used; its RTO is {}",
            day(began),
            length(took),
            format_duration(rto)
        );
        return Some(Doubt { code: "rto-missed-in-drill", message, hint: SLOW });
    }
    if let Some(estimate) = estimate {
        return at_risk(&format!("the restore of backup `{name}`"), &estimate, rto);
    }
    let has_passed = measured.drills_of(spec, name).any(|drill| drill.last_passed.is_some());
    (measured.knows(spec, name) && !has_passed).then(|| Doubt {
        code: "never-drilled",
        message: format!(
            "no drill of backup `{name}` has passed yet: nobody knows whether its RTO of {} holds",
            format_duration(rto)
        ),
        hint: "declare a [drill.NAME] of it, or run one now: backstay drill NAME",
    })
}

fn of_recovery(spec: &Spec, name: &RecoveryName, recovery: &Recovery, measured: &Measured) -> Option<Doubt> {
    let (rto, seen) = (recovery.rto(spec)?, measured.recoveries.get(name)?);
    let drilled = measured.drills_of_recovery(name).filter_map(|drill| drill.last.as_ref());
    let drilled = drilled.filter_map(|it| Some((it.began, it.rto_seconds?))).max();
    if let Some((began, took)) = drilled.filter(|(_, took)| *took > rto.as_secs()) {
        let message = format!(
            "the drill of {} of recovery `{name}` took {}; its RTO is {}",
            day(began),
            length(took),
            format_duration(rto)
        );
        return Some(Doubt { code: "rto-missed-in-drill", message, hint: SLOW });
    }
    let last = seen.last_whole.as_ref().and_then(|whole| Some((whole.began, whole.seconds?)));
    if let Some((began, took)) = last.filter(|(_, took)| *took > rto.as_secs()) {
        let message = format!(
            "recovery `{name}` of {} took {}; its RTO is {}",
            day(began),
            length(took),
            format_duration(rto)
        );
        return Some(Doubt { code: "rto-missed-in-recovery", message, hint: SLOW });
    }
    if let Some(estimate) = &seen.estimate {
        return at_risk(&format!("recovery `{name}`"), estimate, rto);
    }
    let has_passed = measured.drills_of_recovery(name).any(|drill| drill.last_passed.is_some());
    (last.is_none() && !has_passed).then(|| Doubt {
        code: "never-drilled",
        message: format!(
            "recovery `{name}` never came to its end, nor did a drill of it: nobody knows whether its RTO of {} holds",
            format_duration(rto)
        ),
        hint: "declare a [drill.NAME] of it: recovery = \"NAME\"",
    })
}

fn at_risk(what: &str, estimate: &Estimate, rto: Duration) -> Option<Doubt> {
    let message = format!(
        "{what} would take about {} now and {} in 30 days, by what was measured on {}; its RTO is {}",
        length(estimate.seconds),
        length(estimate.seconds_in_30_days),
        day(estimate.measured),
        format_duration(rto)
    );
    estimate.puts_at_risk(rto).then_some(Doubt { code: "rto-at-risk", message, hint: SLOW })
}

fn length(seconds: u64) -> String {
    format_duration(Duration::from_secs(seconds)).to_string()
}

fn day(at: Timestamp) -> impl std::fmt::Display {
    at.strftime("%Y-%m-%d")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::parse::{Parsed, parse};

    fn declared(rto: &str) -> Parsed {
        parse(&BTreeMap::from([("fleet.toml".to_owned(), parsed_text(rto).into_bytes())]))
    }

    fn parsed_text(rto: &str) -> String {
        format!(
            "[fleet]\nname = \"shop\"\nrecipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]\n\
             [store.here.local]\npath = \"/srv\"\n[policy.nightly]\nrpo = \"26h\"\nrto = \"{rto}\"\nfull = \"0 1 * * *\"\n\
             [backup.orders]\npolicy = \"nightly\"\nstores = [\"here\"]\nsqlite = {{ path = \"/o\" }}\n\
             [moved.sales]\nto = \"orders\"\n\
             [recovery.site]\nsteps = [{{ restore = \"orders\" }}]\n"
        )
    }

    fn told(parsed: &Parsed, backup: &str, drill: &str, recovery: &str) -> Vec<(&'static str, String)> {
        let json = format!(
            r#"{{"format": "backstay.status/1", "fleet": "shop", "at": "2026-11-20T00:00:00Z", "backups": {{"{backup}": {{}}}},
                "drills": {{ {drill} }}, "recoveries": {{ {recovery} }}, "more": 1}}"#
        );
        let measured = Measured::read(json.as_bytes()).unwrap();
        let spec = parsed.spec.as_ref().unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
        let found = findings(spec, &parsed.places, &measured);
        found
            .into_iter()
            .map(|it| (it.code, format!("{:?} {}", it.location.map(|at| at.span), it.message)))
            .collect()
    }

    fn drill(backup: &str, took: u64, now: u64) -> String {
        format!(
            r#""d": {{"backup": "{backup}", "last": {{"began": "2026-11-01T04:00:00Z", "rto_seconds": {took}}},
                "last_passed": "2026-11-01T04:00:00Z",
                "estimate": {{"seconds": {now}, "seconds_in_30_days": {now}, "measured": "2026-11-01T04:00:00Z"}}}}"#
        )
    }

    #[test]
    fn a_drill_that_took_longer_than_what_is_declared_is_told_at_the_promise() {
        let parsed = declared("1h");
        let found = told(&parsed, "orders", &drill("orders", 71 * 60, 60), "");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].0, "rto-missed-in-drill");
        assert!(
            found[0].1.contains("2026-11-01 took 1h 11m") && found[0].1.contains("its RTO is 1h"),
            "{found:?}"
        );
        assert!(found[0].1.starts_with("Some("), "{found:?}");
        assert_eq!(
            told(&declared("2h"), "orders", &drill("orders", 71 * 60, 60), ""),
            [],
            "what is declared counts"
        );
    }

    #[test]
    fn a_restore_that_soon_takes_too_long_is_told_also_under_a_new_name() {
        let codes = |found: Vec<(&'static str, String)>| found.into_iter().map(|it| it.0).collect::<Vec<_>>();
        let parsed = declared("1h");
        assert_eq!(codes(told(&parsed, "sales", &drill("sales", 60, 3500), "")), ["rto-at-risk"]);
        assert_eq!(codes(told(&parsed, "sales", &drill("other", 60, 3500), "")), ["never-drilled"]);
        assert_eq!(
            codes(told(&parsed, "orders", "", r#""site": {"last_whole": null, "estimate": null}"#)),
            ["never-drilled", "never-drilled"]
        );
        assert_eq!(
            codes(told(&parsed, "other", "", "")),
            Vec::<&str>::new(),
            "what is new can't have been tried"
        );
        let slow =
            r#""site": {"last_whole": {"began": "2026-11-02T04:00:00Z", "seconds": 4000}, "estimate": null}"#;
        assert_eq!(codes(told(&parsed, "other", "", slow)), ["rto-missed-in-recovery"]);
    }

    #[test]
    fn what_is_old_or_was_told_before_a_drill_was_due_is_told_with_its_age() {
        let mut parsed = declared("1h");
        let told = |parsed: &Parsed, at: &str| {
            let json = format!(
                r#"{{"format": "backstay.status/1", "fleet": "shop", "at": "{at}", "backups": {{"orders": {{}}}}}}"#
            );
            let measured = Measured::read(json.as_bytes()).unwrap();
            let now = "2026-11-20T12:00:00Z".parse().unwrap();
            stale(parsed.spec.as_ref().unwrap(), &measured, now)
                .map(|found| found.message)
                .unwrap_or_default()
        };
        for fresh in ["2026-11-20T11:59:00Z", "2026-11-20T12:05:00Z", "2026-11-13T12:00:00Z"] {
            assert_eq!(told(&parsed, fresh), "", "{fresh}");
        }
        assert!(told(&parsed, "2026-11-12T11:00:00Z").contains("8days 1h ago"));
        assert!(told(&parsed, "2026-11-20T12:11:00Z").contains("still to come"));
        let text = parsed_text("1h") + "[drill.orders]\nbackup = \"orders\"\nschedule = \"0 4 * * *\"\n";
        parsed = parse(&BTreeMap::from([("fleet.toml".to_owned(), text.into_bytes())]));
        assert_eq!(told(&parsed, "2026-11-20T04:00:00Z"), "");
        let found = told(&parsed, "2026-11-20T03:30:00Z");
        assert!(found.contains("8h 30m ago: the drill orders was due since"), "{found}");
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for (json, why) in [
            ("{", "no JSON"),
            (r#"{"format": "backstay.plan/1"}"#, "backstay.plan/1"),
            (r#"{"format": "backstay.status/1"}"#, "missing field"),
        ] {
            let error = Measured::read(json.as_bytes()).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
