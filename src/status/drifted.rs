//! What drifted and what becomes of it; what was put back, and how often.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    drift::{self, Drift, Kind, Unseen},
    inventory::Inventory,
    plan::{
        Plan,
        heal::{self, Outlook},
    },
    spec::{Healable, Spec},
};

/// What drifted of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What differs from how Backstay left it.
    pub drifts: Vec<Drifted>,
    /// What could not be seen, and may have drifted.
    pub unseen: Vec<Unseen>,
    /// What was put back within the last 24 hours, most often first.
    pub heals: Vec<Healed>,
}

/// Something that drifted and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drifted {
    /// What drifted.
    #[serde(flatten)]
    pub drift: Drift,
    /// What becomes of it.
    pub healing: Healing,
}

/// What becomes of something that drifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "by")]
pub enum Healing {
    /// The next pass puts it back.
    Next {
        /// By this step.
        step: String,
    },
    /// Something undoes it again and again: it is put back later.
    Later {
        /// When.
        at: Timestamp,
    },
    /// It waits for a person's word.
    Off {
        /// Whose declaration says so.
        resource: Healable,
    },
    /// Nothing puts it back.
    None {
        /// What a person does about it.
        remedy: String,
    },
}

/// Something that was put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Healed {
    /// What.
    pub subject: String,
    /// How it had drifted.
    pub kind: Kind,
    /// How often within the last 24 hours.
    pub times: usize,
    /// When last.
    pub last: Timestamp,
    /// Whether that is so often that something must be undoing it.
    pub is_fight: bool,
    /// How often, for people.
    #[serde(skip)]
    pub told: String,
}

impl Drifted {
    /// Whether another condition tells of it.
    pub(super) fn is_told_otherwise(&self) -> bool {
        matches!(self.drift.kind, Kind::StoreRefused | Kind::ArtifactDamaged | Kind::ArtifactUntrusted)
    }
}

/// What drifted at `now`, for which `plan` was made.
pub fn report(spec: &Spec, inventory: &Inventory, plan: &Plan, now: Timestamp) -> Report {
    let found = drift::drift(spec, inventory);
    let outlooks = heal::outlooks(spec, inventory, plan, &found.drifts, now);
    let drifts = found.drifts.into_iter().zip(outlooks);
    let drifts =
        drifts.map(|(drift, outlook)| Drifted { healing: healing(drift.kind, outlook), drift }).collect();
    Report { drifts, unseen: found.unseen, heals: heals(inventory, now) }
}

fn healing(kind: Kind, outlook: Outlook) -> Healing {
    match outlook {
        Outlook::Now(step) => Healing::Next { step },
        Outlook::LeftAlone(resource) => Healing::Off { resource },
        Outlook::Later(at) => Healing::Later { at },
        Outlook::Nothing => Healing::None { remedy: kind.remedy().to_owned() },
    }
}

fn heals(inventory: &Inventory, now: Timestamp) -> Vec<Healed> {
    let all = inventory.heals(now).into_iter();
    let mut all: Vec<Healed> = all
        .filter_map(|(healed, heals)| {
            Some(Healed {
                subject: healed.subject,
                kind: healed.kind,
                times: heals.count(),
                last: heals.last()?,
                is_fight: heals.is_fight(),
                told: heal::told(&heals),
            })
        })
        .collect();
    all.sort_by_key(|healed| std::cmp::Reverse(healed.times));
    all
}
