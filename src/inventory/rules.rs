//! What of a store's own rules bears on what Backstay keeps there.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// Rules that a store itself goes by. A store without any has the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRules {
    /// Rules by which the store takes our objects away or out of reach, by their names: what they do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub takes: BTreeMap<String, String>,
    /// Whether what is overwritten or deleted stays as a former version.
    pub versioning: Versioning,
    /// How long new objects can't be deleted, where the store says so by itself.
    pub lock: Option<DefaultLock>,
}

/// Whether former versions stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioning {
    /// They never did, or the store has none.
    #[default]
    Off,
    /// They did, and no longer do.
    Suspended,
    /// They do.
    On,
}

/// A store's own lock on new objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DefaultLock {
    /// Who may break it.
    pub mode: LockMode,
    /// For how many days.
    pub days: u32,
}

/// Who may break a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMode {
    /// Whoever has a right of his own to.
    Governance,
    /// Nobody.
    Compliance,
}

impl StoreRules {
    /// How these protect less than they did `before`. More protection is no loss.
    pub fn weaker_than(&self, before: &StoreRules) -> Option<String> {
        if before.versioning == Versioning::On && self.versioning != Versioning::On {
            return Some("versioning was on, and is not any more".to_owned());
        }
        let was = before.lock?;
        match self.lock {
            None => Some(format!("new objects were locked for {was}, and are not any more")),
            Some(now) if now.mode < was.mode || now.days < was.days => {
                Some(format!("new objects were locked for {was}, and are for {now} only"))
            }
            Some(_) => None,
        }
    }
}

impl fmt::Display for DefaultLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            LockMode::Governance => "governance",
            LockMode::Compliance => "compliance",
        };
        write!(f, "{} days ({mode})", self.days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(versioning: Versioning, lock: Option<(LockMode, u32)>) -> StoreRules {
        let lock = lock.map(|(mode, days)| DefaultLock { mode, days });
        StoreRules { takes: BTreeMap::new(), versioning, lock }
    }

    #[test]
    fn less_protection_is_weaker_and_more_is_not() {
        use LockMode::{Compliance, Governance};
        use Versioning::{Off, On, Suspended};
        let before = rules(On, Some((Governance, 14)));
        for stronger in [before.clone(), rules(On, Some((Compliance, 14))), rules(On, Some((Governance, 30)))]
        {
            assert_eq!(stronger.weaker_than(&before), None);
        }
        for weaker in [
            rules(Suspended, before.lock.map(|lock| (lock.mode, lock.days))),
            rules(Off, Some((Governance, 14))),
            rules(On, None),
            rules(On, Some((Governance, 13))),
        ] {
            assert!(weaker.weaker_than(&before).is_some(), "{weaker:?}");
        }
        assert!(rules(On, Some((Governance, 14))).weaker_than(&rules(On, Some((Compliance, 14)))).is_some());
        assert_eq!(rules(Off, None).weaker_than(&StoreRules::default()), None);
    }
}
