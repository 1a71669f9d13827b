//! Drills of whole recoveries: the machines that are made for them, and what is asked of those.

use std::collections::BTreeMap;

use super::{Lower, below, word};
use crate::spec::{
    Endpoint, Rehearsal, RehearsalCheck, StandIn,
    names::VmName,
    places::Path,
    schema,
    values::{Name, Text, Word},
    walk::show,
};

impl Lower<'_> {
    pub(super) fn rehearsal(
        &mut self,
        at: &Path,
        recovery: &str,
        stand_ins: BTreeMap<String, schema::StandIn>,
        checks: Vec<schema::DrillCheck>,
    ) -> Option<Rehearsal> {
        let recovery = self.reference("recovery", &below(at, ["recovery"]), recovery);
        let stand_ins = stand_ins.into_iter().filter_map(|(name, stand_in)| {
            let at = below(at, ["stand_in", &name]);
            let vm: VmName = self.reference("vm", &at, &name)?;
            Some((vm, self.stand_in(&at, stand_in)))
        });
        let stand_ins = stand_ins.collect();
        let checks = checks
            .into_iter()
            .enumerate()
            .filter_map(|(n, check)| self.rehearsal_check(&below(at, ["check", &n.to_string()]), check));
        Some(Rehearsal { checks: checks.collect(), recovery: recovery?, stand_ins })
    }

    /// The drill of a backup makes no machines.
    pub(super) fn has_no_stand_ins(&mut self, at: &Path, stand_ins: &BTreeMap<String, schema::StandIn>) {
        if let Some(name) = stand_ins.keys().next() {
            let at = below(at, ["stand_in", name]);
            let message = format!("`{}` is of no use: the drill of a backup makes no machines", show(&at));
            self.error("drill-stand-in", &at, message, "leave it out, or drill a recovery");
        }
    }

    fn stand_in(&mut self, at: &Path, stand_in: schema::StandIn) -> StandIn {
        let ssh = stand_in.ssh.unwrap_or_default();
        let reach = stand_in.reach.into_iter().filter_map(|(declared, Text(Word(found)))| {
            let at = below(at, ["reach", &declared]);
            Some((self.endpoint(&at, &declared)?, self.endpoint(&at, &found)?))
        });
        StandIn {
            reach: reach.collect(),
            names: stand_in.names.into_iter().map(|Text(Word(name))| name).collect(),
            vars: stand_in.vars.into_iter().collect(),
            network: word(stand_in.network),
            parameters: stand_in.parameters,
            variables: stand_in.variables,
            host: word(ssh.host),
            port: ssh.port,
        }
    }

    fn endpoint(&mut self, at: &Path, text: &str) -> Option<Endpoint> {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => Some(endpoint),
            Err(why) => {
                let message = format!("`{}` does not tell where something listens: {why}", show(at));
                self.error("drill-stand-in", at, message, "write \"pavroto-2:3306\" = \"10.9.0.2:3306\"");
                None
            }
        }
    }

    fn rehearsal_check(&mut self, at: &Path, mut check: schema::DrillCheck) -> Option<RehearsalCheck> {
        let backup = match check.backup.take() {
            Some(Text(Name(backup))) => Some(self.reference("backup", &below(at, ["backup"]), &backup)?),
            None => None,
        };
        Some(RehearsalCheck { backup, check: self.check(at, check)? })
    }
}
