//! A bucket that is a source must not hold the artifacts that are made of it: each would capture all before it.

use super::Lint;
use crate::spec::{S3, Source, StorePlace, places::path};

impl Lint<'_> {
    pub(super) fn buckets_hold_no_store(&mut self) {
        let spec = &self.lowered.spec;
        let mut found = Vec::new();
        for backup in spec.backups.values() {
            let Source::S3(source) = &backup.source else { continue };
            let held = spec
                .stores
                .values()
                .filter(|store| matches!(&store.place, StorePlace::S3(place) if holds(source, place)));
            found.extend(held.map(|store| (backup.name.clone(), store.name.clone())));
        }
        for (backup, store) in found {
            let message =
                format!("backup `{backup}` captures what store `{store}` holds, artifacts of itself, too");
            let hint = "give the source a prefix, or the store a bucket of its own";
            self.error("store-in-source", &path(["backup", backup.as_str(), "s3"]), message, hint);
        }
    }
}

/// Whether `store` lies in what `source` captures.
fn holds(source: &S3, store: &S3) -> bool {
    let below = |prefix: &str| if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
    source.bucket == store.bucket
        && source.endpoint == store.endpoint
        && below(&store.prefix).starts_with(&below(&source.prefix))
}
