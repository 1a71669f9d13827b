//! What is declared and this build can't do.

use super::CannotRun;
use crate::{
    artifact::Kind,
    spec::{Source, Spec, StorePlace},
};

/// Everything that `spec` declares and this build has no driver for. It never keeps the rest from running.
pub fn by_this_build(spec: &Spec) -> Vec<CannotRun> {
    let mut found: Vec<CannotRun> = Vec::new();
    for (name, store) in &spec.stores {
        if let Some(place) = missing_store(&store.place) {
            found.push(cannot(format!("store.{name}"), format!("stores of kind `{place}`")));
        }
    }
    for (name, backup) in &spec.backups {
        if !has_driver(&backup.source) {
            let kind = backup.source.kind();
            found.push(cannot(format!("backup.{name}"), format!("sources of kind `{kind}`")));
        } else if backup.policy.schedules.contains_key(&Kind::Log) {
            let kind = backup.source.kind();
            found.push(cannot(logs_of(name.as_str()), format!("logs of `{kind}` sources")));
        }
    }
    found.extend(spec.vms.keys().map(|name| cannot(format!("vm.{name}"), "machines".to_owned())));
    found.extend(
        spec.recoveries.keys().map(|name| cannot(format!("recovery.{name}"), "recoveries".to_owned())),
    );
    found.extend(spec.drills.keys().map(|name| cannot(format!("drill.{name}"), "drills".to_owned())));
    found
}

/// The logs of a backup, as a resource that can't run while the backup itself can.
pub(super) fn logs_of(backup: &str) -> String {
    format!("backup.{backup}.log")
}

fn cannot(resource: String, what: String) -> CannotRun {
    let why = format!("this build has no driver for {what} yet; everything else of the revision is in force");
    CannotRun { resource, why }
}

fn missing_store(place: &StorePlace) -> Option<&'static str> {
    match place {
        StorePlace::Local { .. } | StorePlace::Sftp(_) | StorePlace::S3(_) => None,
        StorePlace::Azblob { .. } => Some("azblob"),
        StorePlace::Gcs { .. } => Some("gcs"),
    }
}

fn has_driver(source: &Source) -> bool {
    match source {
        Source::Files(_) | Source::Sqlite { .. } | Source::Mysql(_) => true,
        Source::Postgres(_)
        | Source::Influxdb { .. }
        | Source::Mongodb(_)
        | Source::Dynamodb { .. }
        | Source::Rds { .. }
        | Source::S3(_) => false,
    }
}
