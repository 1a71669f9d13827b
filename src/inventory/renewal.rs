//! What recoveries have providers make of what they keep: known by a name and a mark.

use jiff::Timestamp;

use crate::{
    artifact::recovered::{MadeOf, RecoverySubject},
    spec::names::FleetName,
};

/// What a recovery has a provider make of what it keeps: a table or an instance under a name and a mark, or what a cluster is to hold.
/// What bears another mark, or none, is not the recovery's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewal {
    /// The name of the table, the instance or the cluster.
    pub name: String,
    /// The value of the tag [`RECOVERY_TAG`]: the fleet, the recovery, which time of it, which of its steps, and what it is made of.
    pub mark: String,
    /// Since when this very recovery may have begun it, where it may have: what bears no mark yet and came since, and is of what was asked
    /// for, is its own. `None` where it did not: then nothing that is there is.
    pub begun: Option<Timestamp>,
}

/// The tag of what a recovery has a provider make, where the provider has tags.
pub const RECOVERY_TAG: &str = "backstay-recovery";

impl Renewal {
    /// The mark of what step `step` (from 1) of the time of `subject` that began at `run` has made of `of`. Of letters, digits and
    /// `-_.:/`, at most 256: what AWS takes as the value of a tag.
    pub fn mark(
        fleet: &FleetName,
        subject: &RecoverySubject,
        run: Timestamp,
        step: usize,
        of: MadeOf,
    ) -> String {
        let name = match subject {
            RecoverySubject::Recovery(name) => name.as_str(),
            RecoverySubject::Vm(vm) => vm.as_str(),
        };
        format!("{fleet}/{name}/{run}/{step}/{of}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_tells_the_time_the_step_and_what_is_made_and_fits_a_tag() {
        let longest = "a".repeat(crate::spec::names::LONGEST_NAME);
        let (fleet, name) = (longest.parse().unwrap(), longest.parse().unwrap());
        let (subject, run) =
            (RecoverySubject::Recovery(name), "2026-11-29T10:35:50.123456789Z".parse().unwrap());
        let artifact = MadeOf::Artifact("20261120T010000Z-3k7qz0m4xw".parse().unwrap());
        let mark = |step, of| Renewal::mark(&fleet, &subject, run, step, of);
        let marks = [mark(1, artifact), mark(2, artifact), mark(1, MadeOf::Moment(run))];
        for (number, mark) in marks.iter().enumerate() {
            assert!(mark.len() <= 256 && !marks[..number].contains(mark), "{mark}");
            assert!(mark.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:/".contains(c)), "{mark}");
        }
    }
}
