//! Machines, recoveries and drills.

use super::{Lower, below, cadence_of, word};
use crate::spec::{
    Ansible, Drill, DrillCheck, DrillPoint, DrillSubject, Expected, Recovery, RecoveryAction, RecoveryStep,
    Vm,
    names::{DrillName, RecoveryName, VmName},
    places::{Path, path},
    schema,
    suggest::closest,
    values::{InnerPath, Name, Size, Text},
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
            checks: {
                let at = below(&at, ["check"]);
                let checks = drill.check.into_iter().enumerate();
                checks.filter_map(|(n, check)| self.check(&below(&at, [&n.to_string()]), check)).collect()
            },
        })
    }

    fn check(&mut self, at: &Path, check: schema::DrillCheck) -> Option<DrillCheck> {
        let bounds = [
            ("min", check.min.is_some()),
            ("max", check.max.is_some()),
            ("equals", check.equals.is_some()),
            ("database", check.database.is_some()),
        ];
        let of_files = [("min_bytes", check.min_bytes.is_some()), ("sha256", check.sha256.is_some())];
        let strangers = |keys: &[(&'static str, bool)]| keys.iter().find(|(_, given)| *given).map(|it| it.0);
        if let Some(sql) = check.sql {
            let expect = match (check.equals, check.min, check.max) {
                (Some(text), None, None) => Some(Expected::Equals(text)),
                (None, min, max) if min.is_some() || max.is_some() => Some(Expected::Within { min, max }),
                _ => None,
            };
            let stranger = strangers(&of_files);
            return match (expect, stranger) {
                (Some(Expected::Within { min: Some(min), max: Some(max) }), _) if min > max => {
                    self.bad_check(at, "allows no number: `min` is more than `max`", "exchange them")
                }
                (_, Some(stranger)) => {
                    self.bad_check(at, &format!("asks with `sql`, which has no `{stranger}`"), "leave it out")
                }
                (None, _) => self.bad_check(
                    at,
                    "needs what its answer must be: `equals`, or `min` or `max` or both",
                    "say what the answer must be, such as min = 1",
                ),
                (Some(expect), None) => Some(DrillCheck::Sql { sql, database: word(check.database), expect }),
            };
        }
        if let Some(Text(InnerPath(path))) = check.file {
            let sha256 = word(check.sha256).map(|sum| sum.to_ascii_lowercase());
            let is_sum = |sum: &String| sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit());
            return match strangers(&bounds) {
                Some(stranger) => {
                    self.bad_check(at, &format!("is of a file, which has no `{stranger}`"), "leave it out")
                }
                None if !sha256.as_ref().is_none_or(is_sum) => self.bad_check(
                    at,
                    "has a `sha256` that is none",
                    "give the 64 hexadecimal digits that sha256sum prints",
                ),
                None => {
                    let min_bytes = check.min_bytes.map(|Text(Size(bytes))| bytes);
                    Some(DrillCheck::File { path, min_bytes, sha256 })
                }
            };
        }
        check.counts?;
        match strangers(&bounds).or(strangers(&of_files)) {
            Some(stranger) => {
                self.bad_check(at, &format!("is of counts, which have no `{stranger}`"), "leave it out")
            }
            None => Some(DrillCheck::Counts),
        }
    }

    fn bad_check(&mut self, at: &Path, why: &str, hint: &str) -> Option<DrillCheck> {
        self.error("drill-check", at, format!("`{}` {why}", show(at)), hint);
        None
    }
}

/// What later steps wait for by name.
fn subject(step: &schema::RecoveryStep) -> Option<String> {
    step.rebuild.as_ref().or(step.restore.as_ref()).map(|Text(Name(name))| name.clone())
}
