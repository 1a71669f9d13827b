//! Machines, recoveries and drills.

use super::{Lower, below, cadence_of, word};
use crate::spec::{
    Ansible, Drill, DrillPoint, DrillSubject, Recovery, RecoveryAction, RecoveryStep, Vm,
    names::{DrillName, RecoveryName, VmName},
    places::{Path, path},
    schema,
    suggest::closest,
    values::{Name, Text},
    walk::show,
};

impl Lower<'_> {
    pub(super) fn vm(&mut self, _: &VmName, vm: schema::Vm) -> Option<Vm> {
        let provisioner = match vm {
            schema::Vm { cloudformation: Some(table), .. } => ("cloudformation".to_owned(), table),
            schema::Vm { libvirt: Some(table), .. } => ("libvirt".to_owned(), table),
            schema::Vm { terraform: Some(table), .. } => ("terraform".to_owned(), table),
            _ => return None,
        };
        let ansible = vm.configure.and_then(|configure| configure.ansible).and_then(|ansible| {
            Some(Ansible { playbook: ansible.playbook?.0.0, limit: word(ansible.limit) })
        });
        Some(Vm { template: vm.template?.0.0, vars: vm.vars.into_iter().collect(), provisioner, ansible })
    }

    pub(super) fn recovery(&mut self, name: &RecoveryName, recovery: schema::Recovery) -> Option<Recovery> {
        let at = path(["recovery", name.as_str(), "steps"]);
        let declared = recovery.steps?;
        let subjects: Vec<Option<String>> = declared.iter().map(subject).collect();
        let mut steps = Vec::new();
        for (number, step) in declared.into_iter().enumerate() {
            let at = below(&at, [&number.to_string()]);
            let after = self.after(&at, step.after.as_deref().unwrap_or_default(), &subjects);
            if let Some(action) = self.action(&at, step) {
                steps.push(RecoveryStep { action, after });
            }
        }
        Some(Recovery { steps })
    }

    fn after(&mut self, at: &Path, after: &[Text<Name>], subjects: &[Option<String>]) -> Vec<String> {
        let known = || subjects.iter().flatten().map(String::as_str);
        for (number, Text(Name(name))) in after.iter().enumerate() {
            if known().any(|subject| subject == name) {
                continue;
            }
            let at = below(at, ["after", &number.to_string()]);
            let message = format!("`{}` waits for `{name}`, which no step rebuilds or restores", show(&at));
            let hint = match closest(name, known()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add a step that rebuilds or restores `{name}`"),
            };
            self.error("unknown-name", &at, message, hint);
        }
        after.iter().map(|Text(Name(name))| name.clone()).collect()
    }

    fn action(&mut self, at: &Path, step: schema::RecoveryStep) -> Option<RecoveryAction> {
        let text = |name: Option<Text<Name>>| name.map(|Text(Name(name))| name);
        if let Some(vm) = text(step.rebuild) {
            return self.reference("vm", &below(at, ["rebuild"]), &vm).map(RecoveryAction::Rebuild);
        }
        if let Some(backup) = text(step.restore) {
            return self.reference("backup", &below(at, ["restore"]), &backup).map(RecoveryAction::Restore);
        }
        let command = step.run?;
        match text(step.on) {
            Some(vm) => {
                let on = self.reference("vm", &below(at, ["on"]), &vm)?;
                Some(RecoveryAction::Run { command, on })
            }
            None => {
                let message = format!("`{}` needs `on`", show(at));
                self.error("missing-key", at, message, "`on`: name of the machine that `run` runs on");
                None
            }
        }
    }

    pub(super) fn drill(&mut self, name: &DrillName, drill: schema::Drill) -> Option<Drill> {
        let at = path(["drill", name.as_str()]);
        let subject = match (drill.backup, drill.recovery) {
            (Some(Text(Name(name))), _) => {
                self.reference("backup", &below(&at, ["backup"]), &name).map(DrillSubject::Backup)
            }
            (None, Some(Text(Name(name)))) => {
                self.reference("recovery", &below(&at, ["recovery"]), &name).map(DrillSubject::Recovery)
            }
            (None, None) => None,
        };
        Some(Drill {
            subject: subject?,
            schedule: cadence_of(drill.schedule?),
            at: match drill.at.unwrap_or_default() {
                schema::DrillPoint::Latest => DrillPoint::Latest,
                schema::DrillPoint::Random => DrillPoint::Random,
            },
            checks: drill.check,
        })
    }
}

/// What later steps wait for by name.
fn subject(step: &schema::RecoveryStep) -> Option<String> {
    step.rebuild.as_ref().or(step.restore.as_ref()).map(|Text(Name(name))| name.clone())
}
