//! Users, roles and grants: what does not come back with the data.

use super::Lint;
use crate::spec::{Accounts, Backup, places::path};

impl Lint<'_> {
    /// A server that was made anew has the data, and nobody who may read it.
    pub(super) fn accounts_come_back(&mut self) {
        let backups = &self.lowered.spec.backups;
        let nobodys = backups.values().filter(|backup| backup.accounts == Accounts::Undeclared);
        for backup in nobodys {
            let Some(accounts) = backup.source.accounts_left_out() else { continue };
            let is_held = |other: &Backup| other.source.holds_accounts_of(&backup.source);
            if backups.values().any(is_held) {
                continue;
            }
            let name = &backup.name;
            self.warning(
                "accounts-left-out",
                &path(["backup", name.as_str(), backup.source.kind()]),
                format!("{accounts} do not come along with backup `{name}`: a new server would have none of them"),
                "have something make them, such as a playbook of the recovery, and say `accounts = \"elsewhere\"`",
            );
        }
    }
}
