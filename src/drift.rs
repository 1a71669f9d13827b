//! Drift: where reality left the state that Backstay itself had made, told from what is declared anew and from what is due.
//!
//! Pure. What could not be observed is no drift: it is told apart, as unseen.

mod pace;
mod seen;

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use pace::{FIGHT, Heals};

use crate::{
    artifact::ArtifactId,
    inventory::{ArmedSchedule, Healed, Inventory, Observed},
    spec::{
        Healable, SelfHeal, Spec,
        names::{BackupName, StoreName},
    },
};

/// What was found to have drifted, and what could not be looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What differs from how Backstay left it, each once.
    pub drifts: Vec<Drift>,
    /// What could not be seen, and may have drifted.
    pub unseen: Vec<Unseen>,
}

/// Something that differs from how Backstay left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// How it differs.
    pub kind: Kind,
    /// What it is, for people: the same words as long as it is the same thing.
    pub subject: String,
    /// Whose declaration says whether it is healed without being asked: each must agree.
    pub resources: Vec<Healable>,
    /// How Backstay left it.
    pub expected: String,
    /// How it was found.
    pub found: String,
    /// How that is known.
    pub evidence: String,
    /// What it is, for planners.
    #[serde(skip)]
    pub thing: Thing,
}

/// How something differs from how Backstay left it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A store that held artifacts is empty, or was made anew.
    StoreEmptied,
    /// A store that was ours is set back, or holds what no trusted key signed.
    StoreRefused,
    /// A store goes by rules of its own that take objects away, or that protect them less than before.
    StoreRules,
    /// An artifact is gone.
    ArtifactGone,
    /// An artifact is not whole any more.
    ArtifactDamaged,
    /// An artifact's manifest can't be read or trusted.
    ArtifactUntrusted,
    /// An armed schedule was changed, stopped or disabled.
    ScheduleChanged,
    /// An armed schedule is gone.
    ScheduleGone,
    /// Something that looks like a schedule of ours, and is none.
    ScheduleStranger,
    /// A mirror of the infra repo stands elsewhere than where it was pushed to.
    MirrorMoved,
    /// What a provider keeps by itself was set otherwise.
    ProviderChanged,
}

impl Kind {
    /// Its name in JSON, records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::StoreEmptied => "store-emptied",
            Kind::StoreRefused => "store-refused",
            Kind::StoreRules => "store-rules",
            Kind::ArtifactGone => "artifact-gone",
            Kind::ArtifactDamaged => "artifact-damaged",
            Kind::ArtifactUntrusted => "artifact-untrusted",
            Kind::ScheduleChanged => "schedule-changed",
            Kind::ScheduleGone => "schedule-gone",
            Kind::ScheduleStranger => "schedule-stranger",
            Kind::MirrorMoved => "mirror-moved",
            Kind::ProviderChanged => "provider-changed",
        }
    }

    /// What a person does about it where nothing heals it.
    pub fn remedy(self) -> &'static str {
        match self {
            Kind::StoreEmptied => "it fills again with what other stores and the next captures bring",
            Kind::StoreRefused => "look into it, then `backstay adopt STORE --reason WHY`",
            Kind::StoreRules => {
                "set the store's rules right; where they are meant so, `backstay adopt STORE --reason WHY`"
            }
            Kind::ArtifactGone | Kind::ArtifactDamaged | Kind::ArtifactUntrusted => {
                "no other store has it whole; find out who did it, then `backstay adopt STORE --reason WHY`"
            }
            Kind::ScheduleChanged | Kind::ScheduleGone => {
                "make room for it: `backstay plan` says what is in the way"
            }
            Kind::ScheduleStranger => "remove it, or rename it",
            Kind::MirrorMoved => "see why it is not pushed to: `backstay plan`",
            Kind::ProviderChanged => "see why it is not set: `backstay plan`",
        }
    }
}

/// What drifted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// An artifact in a store.
    Artifact {
        /// Its backup.
        backup: BackupName,
        /// Its name.
        artifact: ArtifactId,
        /// Where.
        store: StoreName,
    },
    /// A schedule that is declared.
    Schedule(ArmedSchedule),
    /// A file or folder of a scheduler.
    Place(String),
    /// A mirror, by its URL.
    Mirror(String),
    /// What the provider of a backup's source keeps by itself.
    Provider(BackupName),
    /// A store as a whole.
    Store(StoreName),
    /// A rule of a store.
    Rule {
        /// Whose.
        store: StoreName,
        /// Its name there.
        name: String,
    },
}

/// Something that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unseen {
    /// What: `store.offsite`, `schedules`, or a mirror's URL.
    pub subject: String,
    /// Why.
    pub why: String,
}

/// Everything that differs from how Backstay left it.
pub fn drift(spec: &Spec, inventory: &Inventory) -> Found {
    let mut found = Found::default();
    for (name, store) in &inventory.stores {
        match store {
            Observed::Known(store) => {
                seen::store((spec, inventory), name, store, &mut found.drifts);
                if let Observed::Unknown(why) = &store.rules {
                    found.miss(format_args!("rules of store.{name}"), why);
                }
            }
            Observed::Unknown(why) => found.miss(Healable::Store(name.clone()), why),
        }
    }
    match &inventory.armed {
        Observed::Known(armed) => seen::schedules(spec, inventory, armed, &mut found.drifts),
        Observed::Unknown(why) => found.miss(Healable::Schedules, why),
    }
    for (name, backup) in spec.backups.iter().filter(|(_, backup)| backup.source.has_provider()) {
        match inventory.provided(name) {
            Observed::Known(provided) => {
                let declared = backup.source.protection();
                found.drifts.extend(declared.and_then(|it| seen::provider(name, it, inventory, provided)));
            }
            Observed::Unknown(why) => found.miss(format_args!("provider of backup.{name}"), &why),
        }
    }
    if let (Some(declared), Some(infra)) = (&spec.infra, &inventory.infra) {
        seen::mirrors(declared, inventory, infra, &mut found.drifts);
        for (url, position) in &infra.mirrors {
            if let Observed::Unknown(why) = position {
                found.miss(url, why);
            }
        }
    }
    found
}

impl Found {
    fn miss(&mut self, subject: impl fmt::Display, why: &str) {
        self.unseen.push(Unseen { subject: subject.to_string(), why: why.to_owned() });
    }
}

impl Drift {
    /// What a record tells of its healing.
    pub fn healed(&self) -> Healed {
        Healed { subject: self.subject.clone(), kind: self.kind }
    }

    /// The resource whose declaration keeps it from being healed without being asked, if there is one.
    pub fn left_alone_by(&self, spec: &Spec) -> Option<&Healable> {
        self.resources.iter().find(|resource| spec.self_heal(resource) == SelfHeal::Off)
    }
}

/// For people: `full of agama: disabled by hand`.
impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.found)
    }
}

impl Inventory {
    /// What was healed in the 24 hours before `now`, by what any store knows of it.
    pub fn heals(&self, now: Timestamp) -> BTreeMap<Healed, Heals> {
        let mut all: BTreeMap<Healed, Heals> = BTreeMap::new();
        for store in self.stores.values().filter_map(Observed::known) {
            for (healed, times) in store.records.heals() {
                let times = times.iter().filter(|at| pace::counts(**at, now));
                all.entry(healed.clone()).or_default().extend(times.copied());
            }
        }
        all.retain(|_, heals| heals.count() > 0);
        all
    }
}
