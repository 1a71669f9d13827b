//! What an earlier attempt of a copy that was cut off left under the artifact's own name.

use std::collections::BTreeMap;

use super::objects;
use crate::{
    apply::transfer,
    artifact::{
        Manifest,
        layout::{self, Object, ObjectName},
    },
    committed::BackupFolder,
    keys::Keys,
    stores::StoreError,
};

/// Objects under the name of an artifact that is not committed, which no manifest of the store names: nobody needs them.
/// They may be replaced, as nothing else in a store ever is.
pub(super) struct Leftovers(BTreeMap<ObjectName, Fit>);

/// Whether an object is what the artifact's manifest names, as far as a listing tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Size,
    No,
}

impl Leftovers {
    /// What is left in `to` of a copy of `original`. Where a manifest there cannot be read, which may name any pack, only
    /// the index counts: a manifest names none but its own.
    pub(super) async fn find(
        to: &BackupFolder,
        original: &Manifest,
        keys: &Keys,
    ) -> Result<Self, StoreError> {
        let listed = to.store.list(&to.packs_of(original.artifact)).await?;
        if listed.is_empty() {
            return Ok(Self(BTreeMap::new()));
        }
        let named = transfer::named_packs(to, keys).await?;
        let sizes: BTreeMap<ObjectName, u64> =
            objects(to, original).map(|(object, stored)| (object, stored.size)).collect();
        let is_needed = |object: &ObjectName| match layout::classify(&to.fleet, object) {
            Some(Object::Pack(_, pack)) => named.as_ref().is_none_or(|named| named.contains(&pack)),
            Some(Object::Index(..)) => false,
            _ => true,
        };
        let left = listed.into_iter().filter(|object| !is_needed(&object.name)).map(|object| {
            let fit = if sizes.get(&object.name) == Some(&object.size) { Fit::Size } else { Fit::No };
            (object.name, fit)
        });
        Ok(Self(left.collect()))
    }

    /// Whether the object may be replaced.
    pub(super) fn is_one(&self, object: &ObjectName) -> bool {
        self.0.contains_key(object)
    }

    /// Removes what the original has nothing of, such as packs of an attempt that encrypted anew.
    pub(super) async fn remove_misfits(&self, to: &BackupFolder) -> Result<(), StoreError> {
        for (object, _) in self.0.iter().filter(|(_, fit)| **fit == Fit::No) {
            to.store.delete(object).await?;
        }
        Ok(())
    }

    /// Removes all of it.
    pub(super) async fn remove_all(&self, to: &BackupFolder) -> Result<(), StoreError> {
        for object in self.0.keys() {
            to.store.delete(object).await?;
        }
        Ok(())
    }
}
