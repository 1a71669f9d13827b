//! Self-heal: whether Backstay puts back by itself what somebody changed of what it had made, resource by resource.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

use super::{
    Spec,
    names::{BackupName, StoreName},
};

/// Whether what drifted of a resource is put back without being asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SelfHeal {
    /// By the next pass.
    #[default]
    On,
    /// When a person asks for it.
    Off,
}

impl SelfHeal {
    /// As it is declared: on, unless the declaration says otherwise.
    pub(super) fn declared(heals: Option<bool>) -> Self {
        if heals == Some(false) { SelfHeal::Off } else { SelfHeal::On }
    }
}

/// Something that can drift, and whose healing a declaration may switch off.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Healable {
    /// A backup: its artifacts and schedules. The infra repo's own: its bundles and mirrors.
    Backup(BackupName),
    /// A store: whatever is in it, and its rules.
    Store(StoreName),
    /// What is armed, and belongs to no backup that is declared.
    Schedules,
}

/// As resources are named: `backup.agama`, `store.offsite`, `infra` and `schedules`.
impl fmt::Display for Healable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Healable::Backup(name) if name.is_infra() => f.write_str("infra"),
            Healable::Backup(name) => write!(f, "backup.{name}"),
            Healable::Store(name) => write!(f, "store.{name}"),
            Healable::Schedules => f.write_str("schedules"),
        }
    }
}

impl Serialize for Healable {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Healable {
    type Err = String;

    /// A resource as it is shown, or the bare name of a backup.
    fn from_str(text: &str) -> Result<Self, String> {
        let unknown =
            |_| format!("`{text}` is no resource: write `backup.NAME`, `store.NAME`, `infra` or `schedules`");
        match text.split_once('.') {
            _ if text == "schedules" => Ok(Healable::Schedules),
            Some(("store", name)) => name.parse().map(Healable::Store).map_err(unknown),
            Some(("backup", name)) => name.parse().map(Healable::Backup).map_err(unknown),
            _ => text.parse().map(Healable::Backup).map_err(unknown),
        }
    }
}

/// A resource that nothing declares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to find {0}: the revision in force does not declare it; `backstay drift` names what drifted")]
pub struct Undeclared(pub Healable);

impl Spec {
    /// The declared resource that a person means: of a bare name the backup, or else the store.
    ///
    /// # Errors
    /// When nothing of that name is declared.
    pub fn healable(&self, named: &Healable) -> Result<Healable, Undeclared> {
        let store_of_that_name =
            |name: &BackupName| name.as_str().parse().ok().filter(|store| self.stores.contains_key(store));
        match named {
            Healable::Schedules => Some(Healable::Schedules),
            Healable::Store(name) => self.stores.contains_key(name).then(|| named.clone()),
            Healable::Backup(name) if name.is_infra() => self.infra.is_some().then(|| named.clone()),
            Healable::Backup(name) if self.backups.contains_key(name) => Some(named.clone()),
            Healable::Backup(name) => store_of_that_name(name).map(Healable::Store),
        }
        .ok_or_else(|| Undeclared(named.clone()))
    }

    /// Whether what drifted of `resource` is put back without being asked. What is no longer declared is nobody's choice.
    pub fn self_heal(&self, resource: &Healable) -> SelfHeal {
        let declared = match resource {
            Healable::Backup(name) if name.is_infra() => self.infra.as_ref().map(|infra| infra.self_heal),
            Healable::Backup(name) => self.backups.get(name).map(|backup| backup.self_heal),
            Healable::Store(name) => self.stores.get(name).map(|store| store.self_heal),
            Healable::Schedules => None,
        };
        declared.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_read_as_it_is_shown() {
        for text in ["backup.agama", "store.offsite", "infra", "schedules", "backup.agama.db"] {
            assert_eq!(text.parse::<Healable>().unwrap().to_string(), text);
        }
        assert_eq!("agama".parse::<Healable>().unwrap().to_string(), "backup.agama");
        for text in ["", "store.", "backup.Agama", "../etc"] {
            assert!(text.parse::<Healable>().unwrap_err().contains("store.NAME"), "{text}");
        }
    }
}
