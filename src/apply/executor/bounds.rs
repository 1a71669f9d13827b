//! How much is done at a time, and how long is waited for what.

use std::time::Duration;

use crate::{
    artifact::{Depth, Kind},
    plan::{Action, action::Capture},
};

/// How much is done at a time, and how long is waited for what.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Steps at a time.
    pub steps: usize,
    /// Steps at a time that use one store. Of these, and of all steps, long transfers leave two free and incrementals one,
    /// so that a log that falls due never waits for them; where there are as few, one step of each length may run.
    pub per_store: usize,
    /// Tries of one step before it has failed.
    pub tries: usize,
    /// The pause after a first failed try; doubled for every further one, with jitter.
    pub pause: Duration,
    /// A pause longer than this is left to a later pass.
    pub longest_pause: Duration,
    /// Limits of one try, by family.
    pub limits: Limits,
}

/// Limits of one try, by family of action.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Captures, copies, repairs and restores: work in proportion to data, whose silence their drivers bound. They may
    /// take days; this ends only what hangs all the same.
    pub transfer: Duration,
    /// Checks of stored artifacts.
    pub check: Duration,
    /// Deletions, clean-ups, records, pushes.
    pub short: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            steps: 10,
            per_store: 6,
            tries: 3,
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            limits: Limits { transfer: 30 * 24 * HOUR, check: 7 * 24 * HOUR, short: HOUR },
        }
    }
}

/// The least places that a fleet has: long steps take two of them, so that one that lasts holds up no other.
const LEAST_PART: usize = 4;

impl Bounds {
    /// An equal part for each of so many fleets in one process: whatever is due of one, it takes no place of another.
    pub fn among(fleets: usize) -> Self {
        let all = Self::default();
        let part = |whole: usize| whole.div_ceil(fleets.max(1)).max(LEAST_PART);
        Self { steps: part(all.steps), per_store: part(all.per_store), ..all }
    }
}

impl Limits {
    pub(super) fn of(&self, action: &Action) -> Duration {
        match action {
            Action::Capture(_)
            | Action::Copy { .. }
            | Action::Repair { .. }
            | Action::Restore(_)
            | Action::Rewind { .. }
            | Action::Drill(_)
            | Action::Rehearse(_)
            | Action::Recover(_) => self.transfer,
            Action::Verify { .. } => self.check,
            _ => self.short,
        }
    }
}

/// How long a step may last. A longer one leaves places to the shorter ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Length {
    /// Logs, what a person asked for, the infra repo, and whatever moves no data.
    Short,
    /// What changed since another artifact.
    Middling,
    /// Work in proportion to all of the data.
    Long,
}

impl Length {
    pub(super) fn of(action: &Action) -> Self {
        match action {
            Action::Capture(capture) if is_urgent(capture) => Length::Short,
            Action::Capture(Capture { kind: Kind::Log, .. }) => Length::Short,
            Action::Capture(Capture { kind: Kind::Incremental | Kind::Differential, .. }) => Length::Middling,
            Action::Capture(_)
            | Action::Copy { .. }
            | Action::Repair { .. }
            | Action::Restore(_)
            | Action::Rewind { .. }
            | Action::Drill(_)
            | Action::Rehearse(_) => Length::Long,
            Action::Recover(recover) if recover.work.restores().is_some() => Length::Long,
            Action::Verify { depth: Depth::Data | Depth::Plaintext, .. } => Length::Long,
            _ => Length::Short,
        }
    }

    /// How many of `all` places steps of this length and longer ones may take.
    pub(super) fn share(self, all: usize) -> usize {
        let left = match self {
            Length::Short => 0,
            Length::Middling => 1,
            Length::Long => 2,
        };
        all.saturating_sub(left).max(1)
    }
}

/// In which order steps begin, where there is no place for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    /// A new revision is backed up, and a person is served, before anything else.
    First,
    /// As the plan has it.
    InOrder,
}

impl Turn {
    pub(super) fn of(action: &Action) -> Self {
        match action {
            Action::Capture(capture) if is_urgent(capture) => Turn::First,
            Action::Push { .. } => Turn::First,
            _ => Turn::InOrder,
        }
    }
}

fn is_urgent(capture: &Capture) -> bool {
    capture.manual.is_some() || capture.backup.is_infra()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_alone_has_everything_and_several_have_equal_parts_with_room_for_two_long_steps() {
        let parts: Vec<(usize, usize)> =
            [1, 2, 3, 100].map(Bounds::among).map(|bounds| (bounds.steps, bounds.per_store)).into();
        assert_eq!(parts, [(10, 6), (5, 4), (4, 4), (4, 4)]);
        assert_eq!(Length::Long.share(LEAST_PART), 2);
    }
}
