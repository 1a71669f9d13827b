//! A plan that a person looked at and saved, to be applied exactly or not at all.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    durable,
    plan::{Plan, Step},
};

/// The value of `format` in the file.
const FORMAT: &str = "backstay.plan/1";

/// The largest saved plan that is read, bytes: some hundred thousand steps.
pub const LARGEST: usize = 64 << 20;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    format: String,
    plan: Plan,
}

/// What every format of ours tells first.
#[derive(Deserialize)]
struct Envelope {
    format: String,
}

/// A file that is no saved plan, or could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} the plan {path}: {reason}; make it anew with `backstay plan --out`", path = .path.display())]
pub struct SavedError {
    operation: &'static str,
    path: PathBuf,
    reason: String,
}

/// Bytes that are no saved plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    /// There are too many of them.
    #[error("it has more than {LARGEST} bytes")]
    TooLarge,
    /// They are of another format, or of a newer version.
    #[error("it is of the format `{}`, not {FORMAT}", .0.escape_debug())]
    Format(String),
    /// They are not JSON, or not of its form.
    #[error("it is not of the format {FORMAT}: {0}")]
    Malformed(String),
}

/// A saved plan that is not what a pass would do now.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// Another revision is in force.
    #[error(
        "failed to apply the saved plan: it was made for revision {planned}, and {in_force} is in force now; plan again"
    )]
    Revision {
        /// The revision that it was made for.
        planned: String,
        /// The one in force.
        in_force: String,
    },
    /// The world has changed.
    #[error("failed to apply the saved plan: a pass would do something else now ({difference}); plan again")]
    World {
        /// The first difference.
        difference: String,
    },
}

/// Saves a plan in `path`.
pub fn save(path: &Path, plan: &Plan) -> Result<(), SavedError> {
    let disk = OnDisk { format: FORMAT.to_owned(), plan: plan.clone() };
    durable::write_json(path, &disk).map_err(|e| SavedError {
        operation: "save",
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Reads a saved plan.
pub fn load(path: &Path) -> Result<Plan, SavedError> {
    let failed = |reason: String| SavedError { operation: "read", path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    parse(&bytes).map_err(|why| failed(why.to_string()))
}

/// The plan that the bytes of a saved one tell. Anybody may have written them: what comes of them is compared with a plan of
/// our own ([`current`]) and never carried out itself.
///
/// # Errors
/// [`NoPlan`] for everything else than what [`save`] writes.
pub fn parse(bytes: &[u8]) -> Result<Plan, NoPlan> {
    if bytes.len() > LARGEST {
        return Err(NoPlan::TooLarge);
    }
    let malformed = |error: serde_json::Error| NoPlan::Malformed(error.to_string());
    let Envelope { format } = serde_json::from_slice(bytes).map_err(malformed)?;
    if format != FORMAT {
        return Err(NoPlan::Format(format.chars().take(80).collect()));
    }
    Ok(serde_json::from_slice::<OnDisk>(bytes).map_err(malformed)?.plan)
}

/// The plan that was made `now`, if it does what was `saved`. The moment of planning is no difference.
pub fn current(saved: &Plan, now: Plan) -> Result<Plan, Stale> {
    if saved.revision != now.revision {
        return Err(Stale::Revision { planned: saved.revision.clone(), in_force: now.revision });
    }
    let differs = |(a, b): &(&Step, &Step)| a.action != b.action || a.after != b.after || a.id != b.id;
    let difference = match saved.steps.iter().zip(&now.steps).find(differs) {
        Some((_, step)) => step.action.to_string(),
        None if saved.steps.len() > now.steps.len() => {
            format!("`{}` is no longer to be done", saved.steps[now.steps.len()].action)
        }
        None if saved.steps.len() < now.steps.len() => {
            format!("`{}` is to be done as well", now.steps[saved.steps.len()].action)
        }
        None => return Ok(now),
    };
    Err(Stale::World { difference })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Action, StepId};

    fn plan(revision: &str, mirrors: &[&str]) -> Plan {
        let steps = mirrors.iter().enumerate().map(|(n, mirror)| Step {
            id: StepId(n as u32),
            action: Action::Push { mirror: mirror.to_string() },
            reason: "it is behind".into(),
            after: Default::default(),
        });
        Plan {
            fleet: "pavroto".parse().unwrap(),
            revision: revision.into(),
            at: jiff::Timestamp::UNIX_EPOCH,
            zone: jiff::tz::TimeZone::UTC,
            steps: steps.collect(),
            waiting: Vec::new(),
            withheld: Vec::new(),
            cannot_run: Vec::new(),
            approved: Vec::new(),
        }
    }

    #[test]
    fn a_saved_plan_is_applied_only_if_a_pass_would_do_the_same_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        save(&path, &plan("3b1e", &["a", "b"])).unwrap();
        let saved = load(&path).unwrap();
        let later = Plan { at: jiff::Timestamp::MAX, ..plan("3b1e", &["a", "b"]) };
        assert_eq!(current(&saved, later.clone()), Ok(later));
        assert!(matches!(current(&saved, plan("4c2f", &["a", "b"])), Err(Stale::Revision { .. })));
        for other in [&["a"][..], &["a", "b", "c"], &["a", "c"], &["b", "a"]] {
            assert!(matches!(current(&saved, plan("3b1e", other)), Err(Stale::World { .. })), "{other:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_plan_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        assert!(load(&path).is_err());
        std::fs::write(&path, "{\"format\": \"backstay.plan/2\"}").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("`backstay.plan/2`"));
    }

    #[test]
    fn bytes_that_are_no_plan_of_this_format_say_why() {
        let whole =
            serde_json::to_vec(&OnDisk { format: FORMAT.to_owned(), plan: plan("3b1e", &["a"]) }).unwrap();
        assert_eq!(parse(&whole).map(|plan| plan.steps.len()), Ok(1));
        assert!(matches!(parse(&whole[..whole.len() - 1]), Err(NoPlan::Malformed(_))));
        let unknown = String::from_utf8(whole.clone()).unwrap().replacen("\"fleet\"", "\"fleets\"", 1);
        assert!(matches!(parse(unknown.as_bytes()), Err(NoPlan::Malformed(_))));
        assert!(matches!(parse(&b"[".repeat(1 << 20)), Err(NoPlan::Malformed(_))));
        assert_eq!(parse(&vec![b' '; LARGEST + 1]), Err(NoPlan::TooLarge));
        assert_eq!(parse(br#"{"format": "x"}"#), Err(NoPlan::Format("x".to_owned())));
    }
}
