//! Drills of whole recoveries: whether machines can be made for them that reach nobody's work, and what they leave out.

use std::collections::BTreeSet;

use super::Lint;
use crate::spec::{
    Ansible, Backup, DrillCheck, DrillSubject, Provision, RecoveryAction, Rehearsal, Spec, StandIns,
    Unmakeable,
    names::{DrillName, VmName},
    places::{Path, path},
};

impl Lint<'_> {
    pub(super) fn recoveries_can_be_drilled(&mut self) {
        let lowered = self.lowered;
        for (name, drill) in &lowered.spec.drills {
            let DrillSubject::Recovery(rehearsal) = &drill.subject else { continue };
            let at = path(["drill", name.as_str()]);
            let stand_ins = match StandIns::of(&lowered.spec, name, rehearsal) {
                Ok(stand_ins) => stand_ins,
                Err(why) => {
                    let message = format!("drill `{name}` can't make its machines: {why}");
                    let hint = "drill the backups that the recovery restores, each by itself";
                    self.error("drill-stand-in", &at, message, hint);
                    continue;
                }
            };
            self.stand_ins_are_of_the_recovery(name, rehearsal, &stand_ins);
            self.stand_ins_take_no_name(&at, name, &stand_ins);
            self.playbooks_reach_stand_ins_only(&at, name, rehearsal);
            self.stand_ins_are_apart(&at, name, rehearsal, &stand_ins);
            self.restores_that_are_left_out(&at, name, rehearsal, &stand_ins);
            self.rehearsals_can_check(name, rehearsal, &stand_ins);
        }
    }

    fn stand_ins_are_of_the_recovery(
        &mut self,
        name: &DrillName,
        rehearsal: &Rehearsal,
        made: &StandIns<'_>,
    ) {
        let known: BTreeSet<&VmName> = made.vms().map(|(vm, _)| vm).collect();
        for vm in rehearsal.stand_ins.keys().filter(|vm| !known.contains(vm)) {
            let at = path(["drill", name.as_str(), "stand_in", vm.as_str()]);
            let message = format!(
                "drill `{name}` makes no machine {vm}: recovery `{}` rebuilds none",
                rehearsal.recovery
            );
            self.error("drill-stand-in", &at, message, "leave it out, or have the recovery rebuild it");
        }
    }

    fn stand_ins_take_no_name(&mut self, at: &Path, name: &DrillName, made: &StandIns<'_>) {
        let lowered = self.lowered;
        for (vm, stand_in) in made.vms() {
            if lowered.spec.vms.contains_key(&stand_in.name) {
                let message = format!(
                    "drill `{name}` would make {} in the place of {vm}, which is declared",
                    stand_in.name
                );
                self.error("drill-stand-in", at, message, "give the drill another name");
            }
            let other =
                lowered.spec.drills.iter().filter(|(other, _)| *other < name).find(|(other, drill)| {
                    let DrillSubject::Recovery(rehearsal) = &drill.subject else { return false };
                    let made = StandIns::of(&lowered.spec, other, rehearsal);
                    made.is_ok_and(|made| made.vms().any(|(_, theirs)| theirs.name == stand_in.name))
                });
            if let Some((other, _)) = other {
                let message =
                    format!("drills `{name}` and `{other}` would both make a machine {}", stand_in.name);
                self.error("drill-stand-in", at, message, "give one of them another name");
            }
        }
    }

    /// An inventory of the infra repo names the machines that people work with.
    fn playbooks_reach_stand_ins_only(&mut self, at: &Path, name: &DrillName, rehearsal: &Rehearsal) {
        let lowered = self.lowered;
        let reaching = playbooks(&lowered.spec, rehearsal).find(|ansible| ansible.inventory.is_some());
        if let Some(ansible) = reaching {
            let message = format!(
                "drill `{name}` can't run playbook {}: its inventory is the infra repo's, which names the machines themselves",
                ansible.playbook
            );
            let hint = "leave `inventory` out, so that one of the machines is made that run";
            self.error("drill-inventory", at, message, hint);
        }
    }

    fn stand_ins_are_apart(
        &mut self,
        at: &Path,
        name: &DrillName,
        rehearsal: &Rehearsal,
        made: &StandIns<'_>,
    ) {
        let lowered = self.lowered;
        for (vm, stand_in) in made.vms() {
            let (Some(Provision::Libvirt(declared)), Provision::Libvirt(libvirt)) =
                (lowered.spec.vms.get(vm).map(|vm| &vm.provision), &stand_in.provision)
            else {
                continue;
            };
            if rehearsal.stand_ins.get(vm).is_none_or(|it| it.network.is_none()) {
                let message = format!(
                    "drill `{name}` does not say in which network the machine is that stands in for {vm}"
                );
                let hint = format!(
                    "name one without a way to what people work with: [drill.{name}.stand_in.{vm}] network = \"drills\""
                );
                self.error("drill-network", at, message, hint);
            } else if declared.network == libvirt.network {
                let message = format!(
                    "drill `{name}` makes a machine like {vm} in the network `{}`, where it can reach those that people work with",
                    libvirt.network
                );
                let hint = format!(
                    "name one without a way to them: [drill.{name}.stand_in.{vm}] network = \"drills\""
                );
                self.warning("drill-network", at, message, hint);
            }
        }
    }

    fn restores_that_are_left_out(
        &mut self,
        at: &Path,
        name: &DrillName,
        rehearsal: &Rehearsal,
        made: &StandIns<'_>,
    ) {
        let lowered = self.lowered;
        let Some(recovery) = lowered.spec.recoveries.get(&rehearsal.recovery) else { return };
        let stands_in = |action: &RecoveryAction, backup: &Backup| {
            matches!(action, RecoveryAction::Restore(_)) && made.have(&backup.source)
        };
        for step in &recovery.steps {
            let backup = step.action.restores().and_then(|name| lowered.spec.backups.get(name));
            let Some(backup) = backup.filter(|backup| !stands_in(&step.action, backup)) else { continue };
            let (why, hint) = match step.action {
                RecoveryAction::RestoreTo(_) => (
                    "its provider makes something new of it, on none of the drill's machines".to_owned(),
                    "give the backup a drill of its own; of Atlas, drill a second backup of its databases",
                ),
                _ => (
                    format!("nothing tells that it is on a machine of recovery `{}`", rehearsal.recovery),
                    "say where it is on the stand-in (`reach`), or give the backup a drill of its own",
                ),
            };
            let message = format!("drill `{name}` leaves out the restore of {}: {why}", backup.name);
            self.warning("drill-leaves-out", at, message, hint);
        }
    }

    fn rehearsals_can_check(&mut self, name: &DrillName, rehearsal: &Rehearsal, made: &StandIns<'_>) {
        let lowered = self.lowered;
        for (number, check) in rehearsal.checks.iter().enumerate() {
            let why = match rehearsal.asked(&lowered.spec, check) {
                _ if matches!(check.check, DrillCheck::File { .. } | DrillCheck::Command(_)) => Some(
                    "nothing is restored on this host; have the recovery look by a `run` step".to_owned(),
                ),
                Err(why) => Some(why),
                Ok(None) => match check.check.endpoint() {
                    Some(endpoint) if !made.know(endpoint) => {
                        Some(format!("nothing tells that {endpoint} is on a machine of the recovery"))
                    }
                    _ => None,
                },
                Ok(Some(backup)) if !made.have(&backup.source) => {
                    Some(format!("the restore of {} is left out", backup.name))
                }
                Ok(Some(backup)) => match check.check.unmakeable(&backup.source) {
                    Some(Unmakeable::Ever(why) | Unmakeable::Here(why)) => Some(why),
                    None => None,
                },
            };
            if let Some(why) = why {
                let at = path(["drill", name.as_str(), "check", &number.to_string()]);
                let message = format!("check {} of drill `{name}` can't be made: {why}", number + 1);
                self.error("drill-check", &at, message, "leave it out, or check something else");
            }
        }
    }
}

/// Every playbook that a recovery runs.
fn playbooks<'a>(spec: &'a Spec, rehearsal: &Rehearsal) -> impl Iterator<Item = &'a Ansible> {
    let steps = spec.recoveries.get(&rehearsal.recovery).into_iter().flat_map(|recovery| &recovery.steps);
    steps.filter_map(|step| match &step.action {
        RecoveryAction::Rebuild(vm) => spec.vms.get(vm)?.ansible.as_ref(),
        RecoveryAction::Deploy(ansible, _) => Some(ansible),
        _ => None,
    })
}
