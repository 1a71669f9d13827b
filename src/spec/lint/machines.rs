//! Machines: whether what is to be done on them can be done.

use super::Lint;
use crate::spec::places::path;

impl Lint<'_> {
    /// A playbook that nothing can log in for is better known before a recovery comes to it.
    pub(super) fn machines_can_be_reached(&mut self) {
        let lowered = self.lowered;
        for (name, vm) in lowered.spec.vms.iter().filter(|(_, vm)| vm.ansible.is_some() && vm.ssh.is_none()) {
            let message =
                format!("machine `{name}` is configured by a playbook, and nothing says how to log in");
            let hint = format!("declare [vm.{name}.ssh] with the `identity`");
            self.warning("no-login", &path(["vm", vm.name.as_str(), "configure"]), message, hint);
        }
    }
}
