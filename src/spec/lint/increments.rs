//! Increments of what an engine gives as a whole only.

use super::Lint;
use crate::{
    artifact::Kind,
    spec::{Mysql, MysqlMethod, PostgresMethod, Source, places::path},
};

impl Lint<'_> {
    /// What is read is all of it; what is stored is what changed.
    pub(super) fn dumps_have_no_increments(&mut self) {
        for backup in self.lowered.spec.backups.values() {
            let Some(whole) = whole(&backup.source) else { continue };
            let kinds = [Kind::Incremental, Kind::Differential];
            let Some(kind) = kinds.into_iter().find(|kind| backup.policy.schedules.contains_key(kind)) else {
                continue;
            };
            let (name, policy) = (&backup.name, &backup.policy.name);
            let message = format!(
                "backup `{name}` has no {kind}s of its engine's own: each of policy `{policy}` reads {whole}, and stores what its \
                 full does not hold already"
            );
            let hint = "each restores by itself; reading it takes as long as a full does";
            self.note("increments-read-all", &path(["backup", name.as_str(), "policy"]), message, hint);
        }
    }
}

/// What each capture of a source reads, where its engine tells nothing of what changed.
fn whole(source: &Source) -> Option<&'static str> {
    match source {
        Source::Mysql(Mysql { method: MysqlMethod::Logical, .. }) => Some("a whole dump"),
        Source::Postgres(it) if it.method == PostgresMethod::Logical => Some("a whole dump"),
        Source::Postgres(_) => Some("the whole cluster"),
        Source::Mongodb(_) => Some("every document"),
        Source::Sqlite { .. } => Some("the whole database"),
        Source::Redis(_) => Some("every key"),
        Source::Etcd(_) => Some("a whole snapshot"),
        Source::Dynamodb(_) if !source.is_native() => Some("every item"),
        _ => None,
    }
}
