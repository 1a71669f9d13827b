//! What the newest bundle in each store holds: the tips that the next one may rest on.
//!
//! A cache in the state directory, `infra-tips/<store>.json`. A record that is missing, damaged, or of another artifact
//! than the newest one in the store means no more than that the next bundle is a complete one.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use git2::Repository;
use serde::{Deserialize, Serialize};

use super::{bundle, tips::Tips};
use crate::{artifact::ArtifactId, durable, spec::names::StoreName};

const FOLDER: &str = "infra-tips";
const FORMAT: &str = "backstay.infra-tips/1";

/// The records of one state directory.
#[derive(Clone, Debug)]
pub struct StoredTips {
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: String,
    artifact: ArtifactId,
    tips: Tips,
}

impl StoredTips {
    /// The records in `state_dir`.
    pub fn new(state_dir: &Path) -> Self {
        Self { folder: state_dir.join(FOLDER) }
    }

    /// Notes that `artifact`, now the newest bundle in `store`, holds `tips`. To be called once its manifest is durable.
    pub fn record(&self, store: &StoreName, artifact: &ArtifactId, tips: &Tips) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let record = Record { format: FORMAT.to_owned(), artifact: *artifact, tips: tips.clone() };
        durable::write_json(&self.path(store), &record)
    }

    /// The tips that a bundle on top of `base`, the newest one in `store`, may rest on: those that `base` is known to
    /// hold, if the mirror in `mirror` has all of them. `None`: make a complete bundle.
    pub fn usable(&self, store: &StoreName, base: &ArtifactId, mirror: &Path) -> Option<Tips> {
        let record: Record = durable::read_json(&self.path(store))?;
        let known = record.format == FORMAT && record.artifact == *base && !record.tips.is_empty();
        (known && bundle::holds(&Repository::open_bare(mirror).ok()?, &record.tips)).then_some(record.tips)
    }

    fn path(&self, store: &StoreName) -> PathBuf {
        self.folder.join(format!("{store}.json"))
    }
}
