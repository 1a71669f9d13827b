//! What a store's records tell of its own past and of the other stores'.
//!
//! Each store has a chain of its own, and stores are written at different times, so that the length of a chain says
//! nothing. Instead every record names the newest record of each other store that its writer had seen. A store is behind
//! when another one has seen a record in it that is not there, unless a record of its own was written in knowledge of
//! that very testimony: then a writer has seen both and went on, as after an adoption, or where an empty store took the
//! place of a lost one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{DrillHistory, RecoveryHistory, RehearsalHistory};
use crate::{
    artifact::{
        approval::PlanApproval,
        drill::Drilled,
        record::{Event, Mark, Record, RewriteApproval},
        recovered::{Recovered, RecoverySubject},
        rehearsed::Rehearsed,
    },
    drift::Kind,
    spec::{
        Suspension,
        names::{DrillName, FolderName, RecoveryName, StoreName},
        suspension::Scope,
    },
};

/// What the trusted records of one store tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chronicle {
    /// SHA-256 of each record, by number.
    own: BTreeMap<u64, String>,
    /// What each record had seen of other stores, by number.
    seen: BTreeMap<u64, BTreeMap<StoreName, Mark>>,
    /// When each other store was last known to a writer.
    known: BTreeMap<StoreName, Timestamp>,
    in_force: Option<InForce>,
    rewrites: Vec<RewriteApproval>,
    plans: Vec<PlanApproval>,
    rulings: BTreeMap<Scope, Ruling>,
    heals: BTreeMap<Healed, BTreeSet<Timestamp>>,
    drills: BTreeMap<DrillName, BTreeMap<FolderName, DrillHistory>>,
    rehearsals: BTreeMap<DrillName, BTreeMap<RecoveryName, RehearsalHistory>>,
    recoveries: BTreeMap<RecoverySubject, RecoveryHistory>,
}

/// Something that drifted and was put back: the same as long as it is the same thing in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Healed {
    /// What had drifted, for people.
    pub subject: String,
    /// How.
    pub kind: Kind,
}

/// Heals older than this, as counted from the newest one, are forgotten.
const HEALS_COUNT: SignedDuration = SignedDuration::from_hours(24);

/// A person's last word on whether something stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// When it was written down.
    pub at: Timestamp,
    /// How it stands still; `None`: it goes on.
    pub suspension: Option<Suspension>,
}

/// The revision that last came into force, as a store knows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InForce {
    /// When it was written down.
    pub at: Timestamp,
    /// The commit.
    pub revision: String,
}

impl Chronicle {
    /// Adds the next record.
    pub fn add(&mut self, record: &Record, digest: String) {
        self.own.insert(record.sequence, digest);
        if !record.siblings.is_empty() {
            self.seen.insert(record.sequence, record.siblings.clone());
        }
        for store in record.siblings.keys() {
            let known = self.known.entry(store.clone()).or_insert(record.at);
            *known = record.at.max(*known);
        }
        let mut revisions = record.events.iter().filter_map(|event| match event {
            Event::InForce { revision, .. } => Some(InForce { at: record.at, revision: revision.clone() }),
            _ => None,
        });
        self.in_force = revisions.next_back().or(self.in_force.take());
        for event in &record.events {
            let (scope, suspension) = match event {
                Event::Suspended(suspension) => (&suspension.scope, Some(suspension.clone())),
                Event::Resumed { scope } => (scope, None),
                _ => continue,
            };
            self.rulings.insert(scope.clone(), Ruling { at: record.at, suspension });
        }
        self.add_heals(record);
        for event in &record.events {
            match event {
                Event::Drilled(drilled) => self.add_drilled(drilled),
                Event::Rehearsed(rehearsed) => self.add_rehearsed(rehearsed),
                Event::Recovered(recovered) => self.add_recovered(recovered),
                _ => {}
            }
        }
        self.rewrites.extend(record.events.iter().filter_map(|event| match event {
            Event::RewriteApproved(approval) => Some(approval.clone()),
            _ => None,
        }));
        self.plans.extend(record.events.iter().filter_map(|event| match event {
            Event::PlanApproved { approval, .. } => Some(approval.clone()),
            _ => None,
        }));
    }

    /// The other stores that writers of its records knew, and until when.
    pub fn known_stores(&self) -> &BTreeMap<StoreName, Timestamp> {
        &self.known
    }

    /// Nothing but [`Self::known_stores`]: what deletions ask of it.
    pub fn of_stores(&self) -> Self {
        Self { known: self.known.clone(), ..Self::default() }
    }

    /// Takes note of a drill's result.
    pub fn add_drilled(&mut self, drilled: &Drilled) {
        let of_drill = self.drills.entry(drilled.drill.clone()).or_default();
        of_drill.entry(drilled.backup.clone()).or_default().add(drilled);
    }

    /// Takes note of the result of a recovery's drill.
    pub fn add_rehearsed(&mut self, rehearsed: &Rehearsed) {
        let of_drill = self.rehearsals.entry(rehearsed.drill.clone()).or_default();
        of_drill.entry(rehearsed.recovery.clone()).or_default().add(rehearsed);
    }

    /// What is known of a drill of a recovery.
    pub fn rehearsal(&self, drill: &DrillName, recovery: &RecoveryName) -> Option<&RehearsalHistory> {
        self.rehearsals.get(drill)?.get(recovery)
    }

    /// Takes note of a part of a recovery that ended.
    pub fn add_recovered(&mut self, recovered: &Recovered) {
        self.recoveries.entry(recovered.subject.clone()).or_default().add(recovered);
    }

    /// Every time that anything was brought back.
    pub fn recoveries(&self) -> impl Iterator<Item = &RecoveryHistory> {
        self.recoveries.values()
    }

    /// Every time that something was brought back.
    pub fn recovery(&self, subject: &RecoverySubject) -> Option<&RecoveryHistory> {
        self.recoveries.get(subject)
    }

    /// What is known of a drill of a backup.
    pub fn drill(&self, drill: &DrillName, backup: &FolderName) -> Option<&DrillHistory> {
        self.drills.get(drill)?.get(backup)
    }

    fn add_heals(&mut self, record: &Record) {
        let healed = record.events.iter().filter_map(|event| match event {
            Event::Healed(healed) => Some(healed),
            _ => None,
        });
        for healed in healed {
            let times = self.heals.entry(healed.clone()).or_default();
            times.insert(record.at);
            times.retain(|at| record.at.duration_since(*at) < HEALS_COUNT);
        }
    }

    /// What was put back, and when: the last 24 hours before the newest time, of each thing.
    pub fn heals(&self) -> &BTreeMap<Healed, BTreeSet<Timestamp>> {
        &self.heals
    }

    /// Whether some record tells of one that was seen in the store `name`.
    pub fn knows(&self, name: &StoreName) -> bool {
        self.seen.values().any(|seen| seen.contains_key(name))
    }

    /// The newest record.
    pub fn last(&self) -> Option<Mark> {
        let (sequence, digest) = self.own.last_key_value()?;
        Some(Mark { sequence: *sequence, digest: digest.clone() })
    }

    /// The revision that last came into force.
    pub fn in_force(&self) -> Option<&InForce> {
        self.in_force.as_ref()
    }

    /// A person's last word on each thing that was ever suspended.
    pub fn rulings(&self) -> &BTreeMap<Scope, Ruling> {
        &self.rulings
    }

    /// Every plan that a person ever approved, oldest first; whether an approval counts is for [`PlanApproval::fault`] to say.
    pub fn plan_approvals(&self) -> &[PlanApproval] {
        &self.plans
    }

    /// The word of a person, not expired at `now`, that the branch may go from one revision to the other.
    pub fn rewrite_approved(&self, from: &str, to: &str, now: Timestamp) -> Option<&RewriteApproval> {
        let counts =
            |approval: &&RewriteApproval| approval.from == from && approval.to == to && now <= approval.until;
        self.rewrites.iter().rev().find(counts)
    }

    /// Why this chronicle, of the store `name`, is behind what `witness`, the store `other`, has seen of it; if it is.
    pub fn behind(&self, name: &StoreName, other: &StoreName, witness: &Chronicle) -> Option<String> {
        let answered = self.seen.values().filter_map(|seen| seen.get(other));
        let answered = answered.filter(|mark| witness.has(mark)).map(|mark| mark.sequence).max();
        let open = witness.seen.iter().filter(|(number, _)| answered.is_none_or(|known| **number > known));
        let lost = open.filter_map(|(_, seen)| seen.get(name)).find(|mark| !self.has(mark))?;
        let why = match self.own.last_key_value() {
            Some((last, _)) if *last >= lost.sequence => "another one stands in its place",
            Some(_) | None => "it is not there: the store was set back to an older state",
        };
        Some(format!("store {other} has seen its record {}, and {why}", lost.sequence))
    }

    /// Whether this record is among them.
    pub fn has(&self, mark: &Mark) -> bool {
        self.own.get(&mark.sequence) == Some(&mark.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::record::FORMAT;

    /// Two stores whose records have seen each other.
    struct Pair {
        vault: Chronicle,
        offsite: Chronicle,
    }

    fn name(name: &str) -> StoreName {
        name.parse().unwrap()
    }

    /// Writes a record into `store`; `other` is what its writer has seen of the other one.
    fn write(store: &mut Chronicle, other: Option<(&str, &Chronicle)>, digest: &str) {
        let sequence = store.last().map_or(0, |mark| mark.sequence + 1);
        let siblings = other.and_then(|(name, other)| Some((name.parse().unwrap(), other.last()?)));
        let record = Record {
            format: FORMAT.to_owned(),
            fleet: "pavroto".parse().unwrap(),
            sequence,
            previous: None,
            at: Timestamp::UNIX_EPOCH,
            events: Vec::new(),
            siblings: siblings.into_iter().collect(),
        };
        store.add(&record, format!("{digest} {sequence}"));
    }

    impl Pair {
        fn new() -> Self {
            let mut pair = Self { vault: Chronicle::default(), offsite: Chronicle::default() };
            (0..3).for_each(|_| pair.pass());
            pair
        }

        /// A pass that sees both and then writes into both.
        fn pass(&mut self) {
            let before = self.vault.clone();
            write(&mut self.vault, Some(("offsite", &self.offsite)), "v");
            write(&mut self.offsite, Some(("vault", &before)), "o");
        }

        /// Whether the vault is behind, and whether the other one is.
        fn behind(&self) -> (bool, bool) {
            let (vault, offsite) = (name("vault"), name("offsite"));
            (
                self.vault.behind(&vault, &offsite, &self.offsite).is_some(),
                self.offsite.behind(&offsite, &vault, &self.vault).is_some(),
            )
        }
    }

    #[test]
    fn stores_that_are_written_at_different_times_do_not_doubt_each_other() {
        let mut pair = Pair::new();
        for _ in 0..5 {
            let vault = pair.vault.clone();
            write(&mut pair.offsite, Some(("vault", &vault)), "o");
            assert_eq!(pair.behind(), (false, false));
        }
        // One of them is away.
        (0..5).for_each(|_| write(&mut pair.vault, None, "v"));
        assert_eq!(pair.behind(), (false, false));
        pair.pass();
        assert_eq!(pair.behind(), (false, false));
    }

    #[test]
    fn a_store_that_is_set_back_is_behind_and_the_other_one_is_not() {
        let mut pair = Pair::new();
        let old = pair.vault.clone();
        (0..3).for_each(|_| pair.pass());
        pair.vault = old;
        assert_eq!(pair.behind(), (true, false));
        // Going on from the old state while the other one is away hides nothing.
        (0..9).for_each(|_| write(&mut pair.vault, None, "w"));
        assert_eq!(pair.behind(), (true, false));
    }

    #[test]
    fn a_store_without_any_record_is_behind_what_was_seen_in_it() {
        let mut pair = Pair::new();
        pair.vault = Chronicle::default();
        assert_eq!(pair.behind(), (true, false));
    }

    #[test]
    fn a_record_in_knowledge_of_the_other_store_settles_it_until_it_happens_again() {
        let mut pair = Pair::new();
        let old = pair.vault.clone();
        (0..3).for_each(|_| pair.pass());
        for renewed in [old.clone(), Chronicle::default()] {
            let mut pair = Pair { vault: renewed, offsite: pair.offsite.clone() };
            write(&mut pair.vault, Some(("offsite", &pair.offsite)), "adopted");
            assert_eq!(pair.behind(), (false, false));
            let adopted = pair.vault.clone();
            (0..2).for_each(|_| pair.pass());
            assert_eq!(pair.behind(), (false, false));
            pair.vault = adopted;
            assert_eq!(pair.behind(), (true, false));
        }
    }

    #[test]
    fn what_was_known_of_a_store_that_was_since_replaced_settles_nothing() {
        let mut pair = Pair::new();
        (0..9).for_each(|_| pair.pass());
        pair.offsite = Chronicle::default();
        let vault = pair.vault.clone();
        write(&mut pair.offsite, Some(("vault", &vault)), "new");
        let old = pair.vault.clone();
        for _ in 0..2 {
            let before = pair.vault.clone();
            write(&mut pair.vault, Some(("offsite", &pair.offsite)), "v");
            // Other records than those of the store that was replaced.
            write(&mut pair.offsite, Some(("vault", &before)), "n");
        }
        assert_eq!(pair.behind(), (false, false));
        pair.vault = old;
        assert!(pair.behind().0);
    }
}
