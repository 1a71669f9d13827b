//! What Backstay itself made, and how it left it: what this host remembers of that, so that what somebody changed since is
//! told from what is declared anew. A cache: what is not remembered is taken as it is found.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ArmedSchedule, Inventory, Observed, Standing, StoreInventory, StoreRules};
use crate::{
    artifact::record::Mark,
    spec::{
        Healable, Protection, SelfHeal, Spec,
        names::{BackupName, StoreName},
    },
};

/// What Backstay left behind when it last changed something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Made {
    /// In which scheduler, by which configuration and version, schedules were armed.
    pub scheduler: String,
    /// The schedules that were armed there, with the moment since when.
    #[serde(with = "pairs")]
    pub armed: BTreeMap<ArmedSchedule, Timestamp>,
    /// The mirrors of the infra repo, by URL.
    pub mirrors: BTreeMap<String, MirrorMade>,
    /// The stores.
    pub stores: BTreeMap<StoreName, StoreMade>,
    /// How providers were set when they last were as it is declared.
    pub providers: BTreeMap<BackupName, Protection>,
}

/// A mirror as it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MirrorMade {
    /// When it was first seen so.
    pub at: Timestamp,
    /// The commit of each reference.
    pub tips: BTreeMap<String, String>,
}

impl MirrorMade {
    /// How a mirror that has `theirs` now differs from what it was left with; what it has besides does not count.
    pub fn difference(&self, theirs: &BTreeMap<String, String>) -> Option<String> {
        let moved = self.tips.iter().find(|(name, id)| name.contains('/') && theirs.get(*name) != Some(id));
        let (name, left) = moved?;
        Some(match theirs.get(name) {
            Some(now) => format!("{name} is at {} instead of {}", short(now), short(left)),
            None => format!("{name}, which was at {}, is gone", short(left)),
        })
    }
}

/// A store as it was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreMade {
    /// Its newest record.
    pub mark: Mark,
    /// The rules that it goes by itself, at their strictest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<StoreRules>,
}

impl Made {
    /// Whether schedules were armed by another configuration or version than `by`, which is in use now.
    pub fn is_of_another_scheduler(&self, by: &str) -> bool {
        !self.scheduler.is_empty() && self.scheduler != by
    }

    /// What is to be remembered of what `inventory` shows, at `now`. What drifted stays as it was left until it is healed:
    /// without being asked, or since a person `asked` for it.
    pub fn after(
        &self,
        spec: &Spec,
        inventory: &Inventory,
        asked: &BTreeSet<Healable>,
        now: Timestamp,
    ) -> Made {
        let (scheduler, armed) = self.armed_after(spec, inventory, now);
        Made {
            scheduler,
            armed,
            mirrors: self.mirrors_after(spec, inventory, now),
            stores: self.stores_after(spec, inventory, asked),
            providers: self.providers_after(spec, inventory),
        }
    }

    /// What holds is remembered, and what held until somebody changed it. What is declared otherwise now was changed by nobody.
    fn providers_after(&self, spec: &Spec, inventory: &Inventory) -> BTreeMap<BackupName, Protection> {
        let left = |name: &BackupName, declared: &Protection| {
            let held = self.providers.get(name) == Some(declared);
            let holds =
                inventory.provided(name).known().is_some_and(|it| it.settings.lacks(declared).is_none());
            (held || holds).then(|| declared.clone())
        };
        let declared =
            spec.backups.iter().filter_map(|(name, backup)| Some((name, backup.source.protection()?)));
        let declared = declared.filter(|(_, protection)| !protection.is_empty());
        declared.filter_map(|(name, protection)| Some((name.clone(), left(name, protection)?))).collect()
    }

    fn armed_after(
        &self,
        spec: &Spec,
        inventory: &Inventory,
        now: Timestamp,
    ) -> (String, BTreeMap<ArmedSchedule, Timestamp>) {
        let Observed::Known(armed) = &inventory.armed else {
            return (self.scheduler.clone(), self.armed.clone());
        };
        // What another one had armed is remembered no more once everything reads as it should in this one.
        if self.is_of_another_scheduler(&armed.by) && !armed.altered.is_empty() {
            return (self.scheduler.clone(), self.armed.clone());
        }
        let before = if self.scheduler == armed.by { self.armed.clone() } else { BTreeMap::new() };
        let new = armed.schedules.iter().map(|schedule| (schedule.clone(), now));
        let mut all: BTreeMap<ArmedSchedule, Timestamp> = new.collect();
        all.extend(before);
        all.retain(|schedule, _| spec.declares(schedule));
        (armed.by.clone(), all)
    }

    fn mirrors_after(
        &self,
        spec: &Spec,
        inventory: &Inventory,
        now: Timestamp,
    ) -> BTreeMap<String, MirrorMade> {
        let declared = spec.infra.iter().flat_map(|infra| &infra.mirrors);
        let left = |url: &String| {
            let before = self.mirrors.get(url);
            let Some(infra) = &inventory.infra else { return before.cloned() };
            let current = infra.mirrors.get(url).and_then(Observed::known) == Some(&infra.position);
            match before {
                Some(before) if !current || before.tips == infra.tips => Some(before.clone()),
                _ => current.then(|| MirrorMade { at: now, tips: infra.tips.clone() }),
            }
        };
        declared.filter_map(|url| Some((url.clone(), left(url)?))).collect()
    }

    fn stores_after(
        &self,
        spec: &Spec,
        inventory: &Inventory,
        asked: &BTreeSet<Healable>,
    ) -> BTreeMap<StoreName, StoreMade> {
        let left = |name: &StoreName| {
            let before = self.stores.get(name);
            let Some(Observed::Known(found)) = inventory.stores.get(name) else { return before.cloned() };
            let resource = Healable::Store(name.clone());
            let heals = spec.self_heal(&resource) == SelfHeal::On || asked.contains(&resource);
            let goes_on = before.is_none_or(|before| found.records.has(&before.mark));
            match found.records.last() {
                Some(mark) if found.standing == Standing::Ours && (goes_on || heals) => {
                    Some(StoreMade { mark, rules: rules_left(found, before) })
                }
                _ => before.cloned(),
            }
        };
        spec.stores.keys().filter_map(|name| Some((name.clone(), left(name)?))).collect()
    }
}

/// The rules to be remembered: those of before, until they protect more.
fn rules_left(found: &StoreInventory, before: Option<&StoreMade>) -> Option<StoreRules> {
    let before = before.and_then(|before| before.rules.clone());
    match (found.rules.known(), before) {
        (Some(now), Some(before)) if now.weaker_than(&before).is_some() => Some(before),
        (Some(now), _) => Some(StoreRules { takes: BTreeMap::new(), ..now.clone() }),
        (None, before) => before,
    }
}

/// Enough of a commit's id for people.
fn short(id: &str) -> &str {
    id.get(..10).unwrap_or(id)
}

/// A map whose keys are more than text, as a list of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
    }
}
