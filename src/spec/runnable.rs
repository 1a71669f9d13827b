//! What this build can run. The rest of the format is read and checked all the same, and stands as "cannot run here".

use std::fmt;

use super::{
    Drill, DrillSubject, LogFrom, MysqlMethod, PostgresMethod, Recovery, Source, Spec, StorePlace,
    Unmakeable,
    names::{BackupName, DrillName, RecoveryName, StoreName, VmName},
};
use crate::artifact::Kind;

const SOURCES: [&str; 13] = [
    "files",
    "sqlite",
    "mysql",
    "postgres",
    "mongodb",
    "influxdb",
    "influxdb2",
    "redis",
    "etcd",
    "dynamodb",
    "rds",
    "atlas",
    "s3",
];
/// Sources whose logs are captured.
const LOGS: [&str; 3] = ["mysql", "postgres", "mongodb"];
const STORES: [&str; 3] = ["local", "sftp", "s3"];

/// A resource that is declared and that this build cannot run, whole or in part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CannotRun {
    /// What it is.
    pub resource: Resource,
    /// The kind of artifact that can't be made, when others can.
    pub kind: Option<Kind>,
    /// Why.
    pub why: String,
}

/// The name of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// A backup.
    Backup(BackupName),
    /// A store.
    Store(StoreName),
    /// A machine.
    Vm(VmName),
    /// A recovery.
    Recovery(RecoveryName),
    /// A drill.
    Drill(DrillName),
}

impl Resource {
    /// The table of the declaration that it stands in, and its name there.
    pub fn key(&self) -> [&str; 2] {
        match self {
            Resource::Backup(name) => ["backup", name.as_str()],
            Resource::Store(name) => ["store", name.as_str()],
            Resource::Vm(name) => ["vm", name.as_str()],
            Resource::Recovery(name) => ["recovery", name.as_str()],
            Resource::Drill(name) => ["drill", name.as_str()],
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [section, name] = self.key();
        write!(f, "{section} `{name}`")
    }
}

impl Spec {
    /// Everything that this build cannot run, in the order of resources.
    pub fn cannot_run(&self) -> Vec<CannotRun> {
        let whole = |resource, why: &str| CannotRun { resource, kind: None, why: why.to_owned() };
        let mut all: Vec<CannotRun> = self.backups.values().filter_map(backup).collect();
        all.extend(self.stores.values().filter(|s| !STORES.contains(&s.place.kind())).map(|store| {
            CannotRun {
                resource: Resource::Store(store.name.clone()),
                kind: None,
                why: format!("this build has no driver for stores of the kind `{}`", store.place.kind()),
            }
        }));
        let recoveries = self.recoveries.iter().filter_map(|(name, it)| Some((name, self.recovery(it)?)));
        all.extend(recoveries.map(|(name, why)| whole(Resource::Recovery(name.clone()), &why)));
        let drills = self.drills.iter().filter_map(|(name, drill)| Some((name, self.drill(name, drill)?)));
        all.extend(drills.map(|(name, why)| whole(Resource::Drill(name.clone()), &why)));
        all
    }

    /// Why this build can't run a recovery, if it can't.
    fn recovery(&self, recovery: &Recovery) -> Option<String> {
        recovery.steps.iter().find_map(|step| cannot_restore(self.backups.get(step.action.restores()?)?))
    }

    /// Why this build can't run a drill, if it can't.
    fn drill(&self, name: &DrillName, drill: &Drill) -> Option<String> {
        let backup = match &drill.subject {
            DrillSubject::Recovery(rehearsal) => {
                return rehearsal.tried(self, name).into_iter().find_map(cannot_restore);
            }
            DrillSubject::Backup(name) => self.backups.get(name)?,
        };
        if let Some(cannot) = self::backup(backup).filter(|cannot| cannot.kind.is_none()) {
            return Some(cannot.why);
        }
        drill.checks.iter().find_map(|check| match check.unmakeable(&backup.source)? {
            Unmakeable::Here(why) => Some(why),
            // The validator refuses it.
            Unmakeable::Ever(why) => Some(format!("{check}: {why}")),
        })
    }
}

fn cannot_restore(backup: &super::Backup) -> Option<String> {
    let cannot = self::backup(backup).filter(|cannot| cannot.kind.is_none())?;
    Some(format!("it restores {}, and {}", backup.name, cannot.why))
}

fn backup(backup: &super::Backup) -> Option<CannotRun> {
    let resource = Resource::Backup(backup.name.clone());
    let source = backup.source.kind();
    if !SOURCES.contains(&source) {
        let why = format!("this build has no driver for sources of the kind `{source}`");
        return Some(CannotRun { resource, kind: None, why });
    }
    let has_log = backup.policy.schedules.contains_key(&Kind::Log) && backup.source.has_log();
    (has_log && !LOGS.contains(&source)).then(|| CannotRun {
        resource,
        kind: Some(Kind::Log),
        why: format!("this build captures no logs of `{source}`"),
    })
}

impl StorePlace {
    /// The key of the place's table in a declaration.
    pub fn kind(&self) -> &'static str {
        match self {
            StorePlace::Local { .. } => "local",
            StorePlace::Sftp(_) => "sftp",
            StorePlace::S3(_) => "s3",
            StorePlace::Azblob { .. } => "azblob",
            StorePlace::Gcs { .. } => "gcs",
        }
    }
}

impl Source {
    /// Whether what is captured stands at paths, so that a part of it can be restored by itself.
    pub fn has_paths(&self) -> bool {
        matches!(self, Source::Files(_) | Source::S3(_))
    }

    /// Whether the server keeps its log for us until it is captured.
    pub fn has_slot(&self) -> bool {
        matches!(self, Source::Postgres(it) if matches!(it.method, PostgresMethod::Physical { log: LogFrom::Slot(_), .. }))
    }

    /// Whether the server archives its log for us.
    pub fn has_archive(&self) -> bool {
        matches!(self, Source::Postgres(it) if matches!(it.method, PostgresMethod::Physical { log: LogFrom::Archive, .. }))
    }

    /// Whether its log can be read as it is written.
    pub fn has_readable_log(&self) -> bool {
        self.has_slot() || matches!(self, Source::Mysql(_))
    }

    /// Whether increments hold only what changed since the data that they build on, so that a restore of one requires that
    /// data. Increments of other sources are whole captures that share segments.
    pub fn has_native_increments(&self) -> bool {
        match self {
            Source::Mysql(mysql) => mysql.method != MysqlMethod::Logical,
            _ => false,
        }
    }

    /// Whether the engine keeps a log that can be captured and replayed.
    pub fn has_log(&self) -> bool {
        match self {
            Source::Postgres(postgres) => postgres.method != PostgresMethod::Logical,
            Source::Mysql(_)
            | Source::Mongodb(_)
            | Source::Dynamodb(_)
            | Source::Rds(_)
            | Source::Atlas(_) => true,
            Source::Files(_)
            | Source::Sqlite { .. }
            | Source::Influxdb(_)
            | Source::Influxdb2(_)
            | Source::Redis(_)
            | Source::Etcd(_)
            | Source::S3(_) => false,
        }
    }
}
