//! The drill of one backup.

use jiff::Timestamp;

use super::{
    super::{
        Action,
        action::{Destination, Drill, SandboxKind},
        facts::Facts,
        retention::Expiry,
    },
    point::{Choice, Chosen, Wanted, choose},
};
use crate::{
    inventory::DrillHistory,
    spec::{
        self, Backup, DrillHow, MysqlMethod, Source,
        names::{BackupName, DrillName},
    },
};

/// A drill of one backup, with what is known of it.
pub(super) struct OfBackup<'a> {
    name: &'a DrillName,
    drill: &'a spec::Drill,
    pub(super) backup: &'a Backup,
    pub(super) history: DrillHistory,
}

impl<'a> OfBackup<'a> {
    /// `None` where the backup is not declared.
    pub(super) fn of(
        facts: &Facts<'a>,
        name: &'a DrillName,
        drill: &'a spec::Drill,
        backup: &BackupName,
    ) -> Option<Self> {
        let backup = facts.spec.backups.get(backup)?;
        let history = facts.inventory.drill_history(name, &facts.spec.moved.folder(&backup.name));
        Some(Self { name, drill, backup, history })
    }

    pub(super) fn decide(
        &self,
        facts: &Facts<'_>,
        how: DrillHow,
        wanted: &Wanted,
        expired: Option<&Expiry<'_>>,
        slot: Option<Timestamp>,
    ) -> Result<Action, String> {
        let is_native = self.backup.source.is_native();
        if is_native && how == DrillHow::ByHand {
            return Err(
                "a provider's own backup is restored by its provider alone; try it without `by-hand`"
                    .to_owned(),
            );
        }
        let replays = self.replays();
        let choice = Choice {
            backup: self.backup,
            at: self.drill.at,
            drilled: &self.history.stores,
            replays,
            // Into a folder logs are replayed, into a file never.
            to: match replays {
                _ if is_native => Destination::Database("new".to_owned()),
                true => Destination::Folder("/".into()),
                false => Destination::File("/".into()),
            },
        };
        let Chosen { restore, point, is_newest } = choose(facts, &choice, wanted.clone(), expired)?;
        Ok(Action::Drill(Box::new(Drill {
            drill: self.name.clone(),
            slot,
            backup: restore.backup,
            artifacts: restore.artifacts,
            logs: restore.logs,
            until: restore.until,
            point,
            is_newest,
            store: restore.store,
            sandbox: SandboxKind::of(&self.backup.source),
            how,
            checks: self.drill.checks.clone(),
        })))
    }

    /// Whether logs can be replayed in the sandbox. The log of a server tells of all its databases.
    fn replays(&self) -> bool {
        match &self.backup.source {
            Source::Mysql(mysql) => mysql.method != MysqlMethod::Logical || mysql.server.databases.is_empty(),
            source => SandboxKind::of(source) == SandboxKind::PostgresCluster,
        }
    }
}
