//! What is declared and this build can't do.

use super::CannotRun;
use crate::spec::Spec;

/// Everything that `spec` declares and this build has no driver for. It never keeps the rest from running.
pub fn by_this_build(spec: &Spec) -> Vec<CannotRun> {
    let cannot = spec.cannot_run().into_iter().map(|it| {
        let [section, name] = it.resource.key();
        let resource = match it.kind {
            Some(_) => logs_of(name),
            None => format!("{section}.{name}"),
        };
        CannotRun { resource, why: format!("{}; everything else of the revision is in force", it.why) }
    });
    cannot.collect()
}

/// The logs of a backup, as a resource that can't run while the backup itself can.
pub(super) fn logs_of(backup: &str) -> String {
    format!("backup.{backup}.log")
}
