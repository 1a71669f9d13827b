//! A plan that a person looked at and saved, to be applied exactly or not at all.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    durable,
    plan::{Plan, Step},
};

/// The value of `format` in the file.
const FORMAT: &str = "backstay.plan/1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    format: String,
    plan: Plan,
}

/// A file that is no saved plan, or could not be written.
#[derive(Debug, thiserror::Error)]
#[error("failed to {operation} the plan {path}: {reason}; make it anew with `backstay plan --out`", path = .path.display())]
pub struct SavedError {
    operation: &'static str,
    path: PathBuf,
    reason: String,
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
    match durable::read_json::<OnDisk>(path) {
        Some(disk) if disk.format == FORMAT => Ok(disk.plan),
        _ => Err(SavedError {
            operation: "read",
            path: path.to_owned(),
            reason: format!("it is missing or not of the format {FORMAT}"),
        }),
    }
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
        assert!(load(&path).is_err());
    }
}
