//! Suspensions.

use jiff::tz::TimeZone;

use super::{Lower, line};
use crate::spec::{
    names::{BackupName, SuspensionName},
    places::path,
    schema,
    suspension::{Scope, Suspension},
};

impl Lower<'_> {
    pub(super) fn suspension(
        &mut self,
        name: &SuspensionName,
        suspend: schema::Suspend,
        zone: &TimeZone,
    ) -> Option<Suspension> {
        let scope = self.scope(name, &suspend)?;
        let from = suspend.from.map(|from| from.0.timestamp(zone));
        let until = suspend.until?.0.timestamp(zone)?;
        if from.flatten().is_some_and(|from| from >= until) {
            let at = path(["suspend", name.as_str(), "until"]);
            let message = format!("suspension `{name}` ends before it begins");
            self.error("ends-before-it-begins", &at, message, "set `until` after `from`");
            return None;
        }
        Some(Suspension { scope, from: from.flatten(), until, reason: line(suspend.reason)? })
    }

    fn scope(&mut self, name: &SuspensionName, suspend: &schema::Suspend) -> Option<Scope> {
        let at = |key| path(["suspend", name.as_str(), key]);
        match (&suspend.backup, &suspend.store) {
            (Some(backup), _) if backup.0.0 == crate::spec::names::INFRA => {
                Some(Scope::Backup(BackupName::infra()))
            }
            (Some(backup), _) => self.reference("backup", &at("backup"), &backup.0.0).map(Scope::Backup),
            (None, Some(store)) => self.reference("store", &at("store"), &store.0.0).map(Scope::Store),
            (None, None) => match suspend.everything? {
                true => Some(Scope::Everything),
                false => {
                    let message = format!("suspension `{name}` is about nothing");
                    self.error("invalid-value", &at("everything"), message, "say `true`, or leave it out");
                    None
                }
            },
        }
    }
}
