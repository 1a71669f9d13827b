//! Recoveries.

use std::{collections::BTreeMap, time::Duration};

use super::{Lower, below, length, line, machines::ansible_of, word};
use crate::spec::{
    Backup, NewPlace, Ready, Recovery, RecoveryAction, RecoveryStage, RecoveryStep, RestoreTo, RunStep,
    Source, SwitchStep, WaitStep,
    names::{BackupName, RecoveryName},
    places::{Path, path},
    schema,
    suggest::{closest, shown},
    traffic::Side,
    values::{Name, Text, Word},
    walk::show,
};

/// How long a program and a wait may take where nothing is declared.
const TIMEOUT: Duration = Duration::from_secs(600);

impl Lower<'_> {
    pub(super) fn recovery(
        &mut self,
        name: &RecoveryName,
        recovery: schema::Recovery,
        backups: &BTreeMap<BackupName, Backup>,
    ) -> Option<Recovery> {
        let owner = path(["recovery", name.as_str()]);
        let at = below(&owner, ["steps"]);
        let declared = recovery.steps?;
        let subjects: Vec<Option<String>> = declared.iter().map(subject).collect();
        let mut steps = Vec::new();
        for (number, step) in declared.into_iter().enumerate() {
            let at = below(&at, [&number.to_string()]);
            let after = step.after.as_deref().map(|after| self.after(&at, after, &subjects));
            let name = subjects[number].clone();
            if let Some(action) = self.action(&at, step, backups) {
                steps.push(RecoveryStep { name, action, after });
            }
        }
        let contact = recovery
            .contact
            .and_then(|Text(Name(contact))| self.reference("contact", &below(&owner, ["contact"]), &contact));
        Some(Recovery { description: line(recovery.description), contact, rto: length(recovery.rto), steps })
    }

    fn after(&mut self, at: &Path, after: &[Text<Name>], subjects: &[Option<String>]) -> Vec<String> {
        let known = || subjects.iter().flatten().map(String::as_str);
        for (number, Text(Name(name))) in after.iter().enumerate() {
            if known().any(|subject| subject == name) {
                continue;
            }
            let at = below(at, ["after", &number.to_string()]);
            let message = format!("`{}` waits for `{name}`, which is the name of no step", show(&at));
            let hint = match closest(name, known()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => {
                    format!("add a step that rebuilds or restores `{name}`, or that has it as its `name`")
                }
            };
            self.error("unknown-name", &at, message, hint);
        }
        after.iter().map(|Text(Name(name))| name.clone()).collect()
    }

    fn action(
        &mut self,
        at: &Path,
        step: schema::RecoveryStep,
        backups: &BTreeMap<BackupName, Backup>,
    ) -> Option<RecoveryAction> {
        let timeout = length(step.timeout).unwrap_or(TIMEOUT);
        let stage = step.stage.map(stage_of);
        let to = step.to.map(|Text(Word(to))| to);
        if let Some(Text(Name(backup))) = step.restore {
            return self.restored(at, &backup, to, backups);
        }
        if let Some(Text(Name(traffic))) = step.switch {
            return self.switched(at, &traffic, to.as_deref(), stage);
        }
        if to.is_some() {
            let message =
                format!("`{}` names a place, and neither restores nor switches", show(&below(at, ["to"])));
            self.error("unknown-key", &below(at, ["to"]), message, "leave it out");
        }
        if let Some(Text(Name(vm))) = step.rebuild {
            return self.reference("vm", &below(at, ["rebuild"]), &vm).map(RecoveryAction::Rebuild);
        }
        if let Some(playbook) = step.deploy {
            return Some(RecoveryAction::Deploy(ansible_of(playbook)?, stage));
        }
        if let Some(wait) = step.wait {
            let until = self.ready(&below(at, ["wait"]), wait)?;
            return Some(RecoveryAction::Wait(WaitStep { until, timeout, stage }));
        }
        let command = step.run?;
        let on = match step.on {
            Some(Text(Name(vm))) => Some(self.reference("vm", &below(at, ["on"]), &vm)?),
            None => None,
        };
        Some(RecoveryAction::Run(RunStep { command, on, timeout, stage }))
    }

    /// A restore over the original; or of what a provider keeps, to what it makes.
    fn restored(
        &mut self,
        at: &Path,
        backup: &str,
        to: Option<String>,
        backups: &BTreeMap<BackupName, Backup>,
    ) -> Option<RecoveryAction> {
        let backup: BackupName = self.reference("backup", &below(at, ["restore"]), backup)?;
        // What is wrong with a backup is told there.
        let Some(source) = backups.get(&backup).map(|declared| &declared.source) else {
            return Some(RecoveryAction::Restore(backup));
        };
        match to {
            Some(to) => {
                let to = self.new_place(&below(at, ["to"]), &backup, source, &to)?;
                Some(RecoveryAction::RestoreTo(RestoreTo { backup, to }))
            }
            None if source.is_native() => {
                let message = format!(
                    "`{}` does not say what backup `{backup}` is restored to: its provider keeps it, and restores over nothing",
                    show(at)
                );
                let hint = format!("add to = \"{}\", {}", source.place_of_new(), which_place(source));
                self.error("missing-key", at, message, hint);
                None
            }
            None => Some(RecoveryAction::Restore(backup)),
        }
    }

    fn new_place(&mut self, at: &Path, backup: &BackupName, source: &Source, to: &str) -> Option<NewPlace> {
        let read = match source.is_native() {
            true => NewPlace::parse(to),
            false => Err("its artifacts are in the stores, and go over the original".to_owned()),
        };
        let read = read.and_then(|to| to.refusal(source).map_or(Ok(to), Err));
        match read {
            Ok(to) => Some(to),
            Err(why) => {
                let hint = match source.is_native() {
                    true => format!("write to = \"{}\", {}", source.place_of_new(), which_place(source)),
                    false => "leave it out".to_owned(),
                };
                let message = format!("`{}` is no place for backup `{backup}`: {why}", show(at));
                self.error("restore-place", at, message, hint);
                None
            }
        }
    }

    fn switched(
        &mut self,
        at: &Path,
        traffic: &str,
        to: Option<&str>,
        stage: Option<RecoveryStage>,
    ) -> Option<RecoveryAction> {
        let named = self.reference("traffic", &below(at, ["switch"]), traffic);
        let to = match to {
            Some("primary") => Side::Primary,
            Some("standby") => Side::Standby,
            Some(other) => {
                let at = below(at, ["to"]);
                let message =
                    format!("`{}` is neither `primary` nor `standby`: `{}`", show(&at), shown(other));
                self.error(
                    "invalid-value",
                    &at,
                    message,
                    "write to = \"standby\", or \"primary\" to lead it back",
                );
                return None;
            }
            None => {
                let message = format!("`{}` does not say where it leads traffic `{traffic}`", show(at));
                self.error(
                    "missing-key",
                    at,
                    message,
                    "add to = \"standby\", or \"primary\" to lead it back",
                );
                return None;
            }
        };
        Some(RecoveryAction::Switch(SwitchStep { traffic: named?, to, stage }))
    }

    fn ready(&mut self, at: &Path, wait: schema::WaitFor) -> Option<Ready> {
        if let Some(place) = word(wait.tcp) {
            let port = place.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
            return match port {
                Some((host, Ok(1..))) if !host.is_empty() => Some(Ready::Tcp(place)),
                _ => {
                    let message = format!("`{}` is no `HOST:PORT`: `{place}`", show(&below(at, ["tcp"])));
                    self.error("bad-value", &below(at, ["tcp"]), message, "such as `pavroto-2:3306`");
                    None
                }
            };
        }
        if let Some(url) = wait.http {
            return Some(Ready::Http(url.0.0));
        }
        let Text(Name(backup)) = wait.source?;
        self.reference("backup", &below(at, ["source"]), &backup).map(Ready::Source)
    }
}

fn which_place(source: &Source) -> &'static str {
    match source {
        Source::Atlas(_) => "of a cluster that bears the tag backstay-restore, which Atlas erases",
        _ => "of what does not exist yet; the original's own name will do where that is gone",
    }
}

/// What later steps wait for by name.
fn subject(step: &schema::RecoveryStep) -> Option<String> {
    let name = step.name.as_ref().or(step.rebuild.as_ref()).or(step.restore.as_ref());
    name.map(|Text(Name(name))| name.clone())
}

fn stage_of(stage: schema::RecoveryStage) -> RecoveryStage {
    match stage {
        schema::RecoveryStage::Machines => RecoveryStage::Machines,
        schema::RecoveryStage::Databases => RecoveryStage::Databases,
        schema::RecoveryStage::Configuration => RecoveryStage::Configuration,
        schema::RecoveryStage::Files => RecoveryStage::Files,
        schema::RecoveryStage::Applications => RecoveryStage::Applications,
        schema::RecoveryStage::Traffic => RecoveryStage::Traffic,
    }
}
