//! What the provider of a backup's source keeps by itself, against what is declared.

use serde::Serialize;

use crate::{
    inventory::{Observed, ProviderSettings, Stretch},
    plan::facts::Facts,
    spec::Backup,
};

/// What the provider of a backup's source keeps by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProviderStatus {
    /// How it is set, and what it can bring back.
    pub settings: Observed<ProviderSettings>,
    /// What is declared and does not hold, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lacking: Option<String>,
}

impl ProviderStatus {
    /// From when to when it can bring back any second, as it tells: what is only inferred counts for nothing.
    pub fn window(&self) -> Option<Stretch> {
        self.settings.known()?.window
    }
}

/// That of a declared backup; `None` where nothing is declared of a provider.
pub(super) fn of(facts: &Facts<'_>, backup: &Backup) -> Option<ProviderStatus> {
    if !backup.source.has_provider() {
        return None;
    }
    let settings = facts.inventory.provided(&backup.name).map(|provided| provided.settings.clone());
    let lacking = settings.known().and_then(|settings| settings.lacks(backup.source.protection()?));
    let lacking = lacking.map(|lacking| lacking.to_string());
    Some(ProviderStatus { settings, lacking })
}
