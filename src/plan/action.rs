//! The closed list of everything that a plan can do to the world.

mod recover;
mod rehearse;

use std::{collections::BTreeSet, fmt, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    artifact::{
        ArtifactId, Depth, Kind,
        manifest::{Edge, Manual},
        until::Until,
    },
    inventory::{ArmedSchedule, PreviewMark},
    spec::{
        DrillCheck, DrillHow, MysqlMethod, PointInTime, PostgresMethod, Protection, SnapshotRule, Source,
        lost_snapshots,
        names::{BackupName, DrillName, StoreName, VmName},
    },
};

pub use recover::{Existing, KeptBy, Recover, Remains, Renew, Work};
pub use rehearse::{RehearsalPart, Rehearse, RehearsedPoint};

/// One effect. Complete: the executor chooses nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// Arms a schedule in the controller's timetable.
    Arm(ArmedSchedule),
    /// Disarms one.
    Disarm(ArmedSchedule),
    /// Captures a source into a store.
    Capture(Capture),
    /// Copies a committed artifact into a further store: byte for byte, or encrypted anew for its recipients.
    Copy {
        /// The backup.
        backup: BackupName,
        /// The artifact.
        artifact: ArtifactId,
        /// Where it is read.
        from: StoreName,
        /// Where it is written.
        to: StoreName,
    },
    /// Deletes an artifact: its manifest first, and then those of its packs that no other manifest can name.
    Delete {
        /// The backup.
        backup: BackupName,
        /// The artifact.
        artifact: ArtifactId,
        /// Where.
        store: StoreName,
    },
    /// Checks an artifact where it is stored.
    Verify {
        /// The backup.
        backup: BackupName,
        /// The artifact.
        artifact: ArtifactId,
        /// Where.
        store: StoreName,
        /// How thoroughly.
        depth: Depth,
    },
    /// Writes damaged or missing objects anew from another store's good ones, under a manifest that supersedes.
    Repair {
        /// The backup.
        backup: BackupName,
        /// The damaged artifact.
        artifact: ArtifactId,
        /// Where it is damaged.
        store: StoreName,
        /// Where a good copy is.
        from: StoreName,
    },
    /// Records packs that no manifest names, so that a sweep a day later may delete them.
    RecordUnreferenced {
        /// The backup.
        backup: BackupName,
        /// Where.
        store: StoreName,
        /// The captures that wrote them.
        captures: Vec<ArtifactId>,
    },
    /// Deletes packs that two complete listings, at least a day apart, found unreferenced.
    Sweep {
        /// The backup.
        backup: BackupName,
        /// Where.
        store: StoreName,
        /// The captures that wrote them.
        captures: Vec<ArtifactId>,
    },
    /// Removes what an interrupted capture or copy of this very controller left behind.
    CleanUp {
        /// The backup.
        backup: BackupName,
        /// Where.
        store: StoreName,
        /// The name under which it wrote.
        artifact: ArtifactId,
    },
    /// Has a provider delete what a drill had it make that was cut off, and leaves the store alone from which the drill read.
    DeleteDrillCopy {
        /// The drill.
        drill: DrillName,
        /// The backup that it tried.
        backup: BackupName,
        /// Where it read: its lease there lapses by itself.
        store: StoreName,
        /// The name under which it read.
        artifact: ArtifactId,
    },
    /// Ends what was interrupted after its commit: gives back the lease, and closes the entry in the journal.
    Settle {
        /// The backup.
        backup: BackupName,
        /// Where.
        store: StoreName,
        /// The artifact that was committed.
        artifact: ArtifactId,
    },
    /// Pushes the infra repo to a mirror, without deletion.
    Push {
        /// The mirror's URL.
        mirror: String,
    },
    /// Sets what a provider keeps by itself of the data that it hosts.
    Protect(Protect),
    /// Has a provider make something new of the data as it was at a moment.
    Rewind {
        /// The backup.
        backup: BackupName,
        /// The moment.
        at: Timestamp,
        /// The name of what is made: a table, an instance or a cluster that does not exist yet.
        to: String,
    },
    /// Restores an artifact, and before it those that it requires.
    Restore(Restore),
    /// Restores into a sandbox, checks what came back, and removes it again.
    Drill(Box<Drill>),
    /// Tries a whole recovery on machines of its own.
    Rehearse(Box<Rehearse>),
    /// Removes machines that a drill left behind that was cut off.
    ClearAway {
        /// The drill.
        drill: DrillName,
        /// The machines, by the names of the declared ones.
        vms: Vec<VmName>,
        /// The commit that declares them, where this host remembers that; else the one in force.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
    },
    /// Removes what previews of machines left that were cut off.
    ClearPreviews {
        /// What that is known by.
        mark: PreviewMark,
        /// The machines.
        vms: Vec<VmName>,
        /// The commit that declares them.
        revision: String,
    },
    /// Brings back a part of what a recovery declares.
    Recover(Box<Recover>),
}

impl Action {
    /// The only backup whose artifacts it makes, reads or deletes.
    pub fn backup(&self) -> Option<&BackupName> {
        match self {
            Action::Capture(capture) => Some(&capture.backup),
            Action::Restore(restore) => Some(&restore.backup),
            Action::Drill(drill) => Some(&drill.backup),
            Action::Protect(protect) => Some(&protect.backup),
            Action::Rewind { backup, .. }
            | Action::Copy { backup, .. }
            | Action::Delete { backup, .. }
            | Action::Verify { backup, .. }
            | Action::Repair { backup, .. }
            | Action::RecordUnreferenced { backup, .. }
            | Action::Sweep { backup, .. }
            | Action::CleanUp { backup, .. }
            | Action::DeleteDrillCopy { backup, .. }
            | Action::Settle { backup, .. } => Some(backup),
            Action::Recover(recover) => recover.work.restores(),
            Action::Arm(_)
            | Action::Disarm(_)
            | Action::Push { .. }
            | Action::Rehearse(_)
            | Action::ClearAway { .. }
            | Action::ClearPreviews { .. } => None,
        }
    }

    /// The stores that it reads or writes.
    pub fn stores(&self) -> Vec<&StoreName> {
        match self {
            Action::Capture(capture) => vec![&capture.store],
            Action::Restore(restore) => vec![&restore.store],
            Action::Drill(drill) => vec![&drill.store],
            Action::Recover(recover) => {
                recover.work.reads().into_iter().map(|restore| &restore.store).collect()
            }
            Action::Copy { from, to, .. } => vec![from, to],
            Action::Repair { store, from, .. } => vec![store, from],
            Action::Delete { store, .. }
            | Action::Verify { store, .. }
            | Action::RecordUnreferenced { store, .. }
            | Action::Sweep { store, .. }
            | Action::CleanUp { store, .. }
            | Action::Settle { store, .. } => vec![store],
            Action::Rehearse(rehearse) => rehearse.restores().map(|restore| &restore.store).collect(),
            Action::Arm(_)
            | Action::Disarm(_)
            | Action::Push { .. }
            | Action::Protect(_)
            | Action::Rewind { .. }
            | Action::DeleteDrillCopy { .. }
            | Action::ClearAway { .. }
            | Action::ClearPreviews { .. } => Vec::new(),
        }
    }
}

/// A capture, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// The backup.
    pub backup: BackupName,
    /// What is made.
    pub kind: Kind,
    /// The slot that it fills.
    pub slot: Option<Timestamp>,
    /// The person's request, if it is manual.
    pub manual: Option<Manual>,
    /// Where it is written.
    pub store: StoreName,
    /// The artifact whose segments are shared; `None` opens an epoch.
    pub base: Option<ArtifactId>,
    /// For logs: the place in the engine's log that they go on from. For increments that hold only what changed since their base:
    /// where that stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Edge>,
}

/// A change of what a provider keeps by itself, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protect {
    /// The backup whose source the provider hosts.
    pub backup: BackupName,
    /// How far back any second could be brought when this was decided; a provider that is set otherwise is left alone.
    pub from: PointInTime,
    /// The snapshots that the provider made by itself when this was decided, where others are to be made; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots_from: Option<BTreeSet<SnapshotRule>>,
    /// What is set: what differs from the declaration, and nothing else.
    pub to: Protection,
}

impl Protect {
    /// Whether it gives up seconds that can be brought back, or snapshots that would be made.
    pub fn loses(&self) -> bool {
        let snapshots = self.snapshots_from.as_ref().zip(self.to.snapshots.as_ref());
        self.to.point_in_time.is_some_and(|to| self.from.loses(to))
            || snapshots.is_some_and(|(made, wanted)| !lost_snapshots(made, wanted).is_empty())
    }
}

/// A restore, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restore {
    /// The backup.
    pub backup: BackupName,
    /// The artifacts to apply, in this order; the last one is the restore point, or what logs go on from. Never empty.
    pub artifacts: Vec<ArtifactId>,
    /// Logs to replay after them, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<ArtifactId>,
    /// What logs are replayed up to; all of them where it is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// Where they are read.
    pub store: StoreName,
    /// What of the data is restored: what stands at these paths, and below them. All of it where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Where the data goes.
    pub to: Destination,
}

/// A drill, decided in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drill {
    /// Its name in the declaration.
    pub drill: DrillName,
    /// The slot that it fills; `None` when a person asks for it.
    pub slot: Option<Timestamp>,
    /// The backup.
    pub backup: BackupName,
    /// The artifacts to restore, in this order. Never empty.
    pub artifacts: Vec<ArtifactId>,
    /// Logs to replay after them, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<ArtifactId>,
    /// What logs are replayed up to; all of them where it is `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Until>,
    /// The moment that this brings back.
    pub point: Timestamp,
    /// Whether that is the newest moment that could be brought back: only then its age says something.
    pub is_newest: bool,
    /// Where they are read.
    pub store: StoreName,
    /// What they are restored into.
    pub sandbox: SandboxKind,
    /// How.
    #[serde(default)]
    pub how: DrillHow,
    /// What must hold afterwards.
    pub checks: Vec<DrillCheck>,
}

/// What a drill restores into: gone afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SandboxKind {
    /// A folder.
    Folder,
    /// A folder with a database of SQLite.
    Sqlite,
    /// A server of MariaDB, into which databases are loaded.
    Mariadb,
    /// A server of MariaDB on the restored files of another.
    MariadbFiles,
    /// A server of MySQL, into which databases are loaded.
    Mysql,
    /// A server of InfluxDB 1.x, into which databases are loaded.
    Influxdb,
    /// A server of InfluxDB 2.x, into which buckets are loaded.
    Influxdb2,
    /// A server of Redis on the restored file.
    Redis,
    /// A new cluster of etcd, made of the restored snapshot.
    Etcd,
    /// A server of PostgreSQL, into which databases are loaded.
    Postgres,
    /// A server of PostgreSQL on the restored files of a cluster.
    PostgresCluster,
    /// A table or an instance that the source's provider makes.
    Provider,
}

impl SandboxKind {
    /// The sandbox for what a source restores.
    pub fn of(source: &Source) -> Self {
        match source {
            native if native.is_native() => SandboxKind::Provider,
            Source::Mysql(mysql) => match mysql.method {
                MysqlMethod::Logical => SandboxKind::Mariadb,
                MysqlMethod::Physical { .. } => SandboxKind::MariadbFiles,
            },
            Source::Postgres(postgres) => match postgres.method {
                PostgresMethod::Logical => SandboxKind::Postgres,
                PostgresMethod::Physical { .. } => SandboxKind::PostgresCluster,
            },
            Source::Influxdb(_) => SandboxKind::Influxdb,
            Source::Influxdb2(_) => SandboxKind::Influxdb2,
            Source::Redis(_) => SandboxKind::Redis,
            Source::Etcd(_) => SandboxKind::Etcd,
            Source::Sqlite { .. } => SandboxKind::Sqlite,
            _ => SandboxKind::Folder,
        }
    }

    /// The sandbox for what a server of this version told when it was captured: which of two engines it is no declaration tells.
    pub fn for_server(self, version: &str) -> Self {
        match self {
            SandboxKind::Mariadb if !version.contains("MariaDB") => SandboxKind::Mysql,
            kind => kind,
        }
    }
}

/// Where restored data goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Destination {
    /// A folder that does not exist yet, or is empty.
    Folder(PathBuf),
    /// A file that does not exist yet.
    File(PathBuf),
    /// A database that does not exist yet.
    Database(String),
    /// A bucket that exists, on the original's own server.
    Bucket {
        /// Its name.
        bucket: String,
        /// A folder in it; may be empty.
        prefix: String,
    },
    /// Over the original.
    InPlace,
}

impl Destination {
    /// Reads a place as people write it: `database:NAME` (or `table:`, `instance:`, `cluster:`, whatever the source calls it), `bucket:NAME` or `bucket:NAME/FOLDER`, or a path. What is restored as many files goes into a folder of
    /// that path, unless the path ends in `.tar` or `.bundle`; what is one stream goes into a file, unless the path ends
    /// in `/`. `source` is that of the backup, where it is still declared.
    pub fn parse(place: &str, backup: &BackupName, source: Option<&Source>) -> Self {
        let mut names = ["database:", "table:", "instance:", "cluster:"].into_iter();
        if let Some(name) = names.find_map(|kind| place.strip_prefix(kind)) {
            return Destination::Database(name.to_owned());
        }
        if let Some(place) = place.strip_prefix("bucket:") {
            let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
            return Destination::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        }
        let many = backup.is_infra() || matches!(source, Some(Source::Files(_) | Source::S3(_)));
        let one = [".tar", ".bundle"].iter().any(|ending| place.ends_with(ending));
        if place.ends_with('/') || (many && !one) {
            return Destination::Folder(place.into());
        }
        Destination::File(place.into())
    }
}

/// What is done, for people: `copy agama 20261120T010000Z-3k7qz0m4xw from vault to offsite`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Arm(armed) => write!(f, "arm {} of {}", armed.kind, armed.backup),
            Action::Disarm(armed) => write!(f, "disarm {} of {}", armed.kind, armed.backup),
            Action::Capture(Capture { backup, kind, store, .. }) => {
                write!(f, "capture {kind} of {backup} into {store}")
            }
            Action::Copy { backup, artifact, from, to } => {
                write!(f, "copy {backup} {artifact} from {from} to {to}")
            }
            Action::Delete { backup, artifact, store } => write!(f, "delete {backup} {artifact} in {store}"),
            Action::Verify { backup, artifact, store, depth } => {
                write!(f, "verify {depth} of {backup} {artifact} in {store}")
            }
            Action::Repair { backup, artifact, store, from } => {
                write!(f, "repair {backup} {artifact} in {store} from {from}")
            }
            Action::RecordUnreferenced { backup, store, captures } => {
                write!(f, "record unreferenced packs of {} of {backup} in {store}", Captures(captures.len()))
            }
            Action::Sweep { backup, store, captures } => {
                write!(f, "sweep packs of {} of {backup} in {store}", Captures(captures.len()))
            }
            Action::CleanUp { backup, store, artifact } => {
                write!(f, "clean up after {backup} {artifact} in {store}")
            }
            Action::DeleteDrillCopy { drill, backup, .. } => {
                write!(f, "delete what drill {drill} had the provider of {backup} make")
            }
            Action::Settle { backup, store, artifact } => write!(f, "settle {backup} {artifact} in {store}"),
            Action::Push { mirror } => write!(f, "push to {mirror}"),
            Action::Protect(Protect { backup, to, .. }) => write!(f, "set the provider of {backup}: {to}"),
            Action::Rewind { backup, at, to } => {
                write!(f, "have the provider of {backup} make {to} of {at:.0}")
            }
            Action::Restore(restore) => restore.fmt(f),
            Action::Recover(recover) => recover.work.fmt(f),
            Action::Rehearse(rehearse) => rehearse.fmt(f),
            Action::ClearAway { drill, vms, .. } => {
                let vms: Vec<&str> = vms.iter().map(VmName::as_str).collect();
                write!(f, "remove what drill {drill} left of {}", vms.join(", "))
            }
            Action::ClearPreviews { vms, .. } => {
                let vms: Vec<&str> = vms.iter().map(VmName::as_str).collect();
                write!(f, "remove what a preview left of {}", vms.join(", "))
            }
            Action::Drill(drill) => {
                write!(f, "drill {}: {} ", drill.drill, drill.backup)?;
                drill.artifacts.last().map_or(Ok(()), |point| write!(f, "{point} "))?;
                if !drill.logs.is_empty() {
                    write!(f, "with {} logs ", drill.logs.len())?;
                    drill.until.as_ref().map_or(Ok(()), |until| write!(f, "up to {until} "))?;
                }
                write!(f, "from {}", drill.store)
            }
        }
    }
}

impl fmt::Display for Restore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "restore {} ", self.backup)?;
        self.artifacts.last().map_or(Ok(()), |point| write!(f, "{point} "))?;
        if !self.logs.is_empty() {
            write!(f, "with {} logs ", self.logs.len())?;
            self.until.as_ref().map_or(Ok(()), |until| write!(f, "up to {until} "))?;
        }
        if !self.paths.is_empty() {
            write!(f, "({} only) ", self.paths.join(", "))?;
        }
        write!(f, "from {} to {}", self.store, self.to)
    }
}

struct Captures(usize);

impl fmt::Display for Captures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} capture{}", self.0, if self.0 == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Folder(path) => write!(f, "folder {}", path.display()),
            Destination::File(path) => write!(f, "file {}", path.display()),
            Destination::Database(name) => write!(f, "database {name}"),
            Destination::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Destination::InPlace => f.write_str("the original"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Files;

    #[test]
    fn a_place_is_read_as_what_suits_the_source() {
        let shop = "shop".parse().unwrap();
        let files = Source::Files(Files { paths: vec!["/srv".into()], exclude: Vec::new() });
        let sqlite = Source::Sqlite { path: "/srv/shop.db".into() };
        let check = |place: &str, backup: &BackupName, source, expect| {
            assert_eq!(Destination::parse(place, backup, source), expect, "{place}");
        };
        check("out", &shop, Some(&files), Destination::Folder("out".into()));
        check("out.tar", &shop, Some(&files), Destination::File("out.tar".into()));
        check("out", &shop, Some(&sqlite), Destination::File("out".into()));
        check("out/", &shop, Some(&sqlite), Destination::Folder("out/".into()));
        check("out", &BackupName::infra(), None, Destination::Folder("out".into()));
        for place in ["database:copy", "table:copy", "instance:copy", "cluster:copy"] {
            check(place, &shop, None, Destination::Database("copy".to_owned()));
        }
        let bucket = |bucket: &str, prefix: &str| Destination::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        check("bucket:copy", &shop, None, bucket("copy", ""));
        check("bucket:copy/of/it", &shop, None, bucket("copy", "of/it"));
    }
}
