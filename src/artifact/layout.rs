//! Names of objects in a store. Everything that Backstay writes into a store is named here.
//!
//! ```text
//! <fleet>/<backup>/artifacts/<id>.json, <id>.json.sig   the manifest, written last
//! <fleet>/<backup>/packs/<id>/<n>, packs/<id>/index     what artifact <id> wrote
//! <fleet>/<backup>/open/<id>.<n>.json                   lease of a capture, copy or repair under way
//! <fleet>/<backup>/open/read-<id>.<n>.json              lease of a restore or check that reads
//! <fleet>/records/<sequence>.json, .json.sig            signed, chained records
//! <fleet>/RESTORE.md                                    how to restore without Backstay
//! ```
//!
//! Nothing is ever overwritten, so a lease is renewed by its next turn `<n + 1>`, and its turns up to `<n - 1>` are removed
//! after that: at every moment one that is live is there, also for a listing that takes a while. The newest turn counts.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ArtifactId;
use crate::spec::names::{FleetName, FolderName};

/// The name of one object in a store: relative, `/` between its parts, none of them empty or beginning with `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName(String);

/// A text that names no object of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not the name of an object in a store", .0.escape_debug())]
pub struct InvalidObjectName(pub String);

impl ObjectName {
    /// Parses what a store listed.
    pub fn parse(text: &str) -> Result<Self, InvalidObjectName> {
        let part = |p: &str| {
            !p.is_empty()
                && !p.starts_with('.')
                && p.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if text.split('/').all(part) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidObjectName(text.to_owned()))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The name of one pack: the artifact that wrote it, and its number. `20261120T010000Z-3k7qz0m4xw/0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackName {
    /// The artifact that wrote the pack.
    pub artifact: ArtifactId,
    /// Its number among the artifact's packs, from 0.
    pub number: u32,
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.artifact, self.number)
    }
}

impl TryFrom<String> for PackName {
    type Error = InvalidObjectName;

    fn try_from(text: String) -> Result<Self, InvalidObjectName> {
        let parsed = text.split_once('/').and_then(|(artifact, number)| {
            let pack = PackName { artifact: artifact.parse().ok()?, number: number.parse().ok()? };
            (pack.number.to_string() == number).then_some(pack)
        });
        parsed.ok_or(InvalidObjectName(text))
    }
}

impl From<PackName> for String {
    fn from(pack: PackName) -> String {
        pack.to_string()
    }
}

/// The folder of everything that a fleet keeps in a store.
pub fn fleet(fleet: &FleetName) -> ObjectName {
    ObjectName(fleet.to_string())
}

/// The folder of one backup.
pub fn backup(fleet: &FleetName, backup: &FolderName) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}"))
}

/// An artifact's manifest.
pub fn manifest(fleet: &FleetName, backup: &FolderName, id: &ArtifactId) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/artifacts/{id}.json"))
}

/// The signature of an artifact's manifest, put before the manifest.
pub fn manifest_signature(fleet: &FleetName, backup: &FolderName, id: &ArtifactId) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/artifacts/{id}.json.sig"))
}

/// The folder of every pack and index of one backup.
pub fn packs(fleet: &FleetName, backup: &FolderName) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/packs"))
}

/// The folder of the packs and the index that one artifact wrote.
pub fn packs_of(fleet: &FleetName, backup: &FolderName, id: &ArtifactId) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/packs/{id}"))
}

/// A pack.
pub fn pack(fleet: &FleetName, backup: &FolderName, pack: &PackName) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/packs/{pack}"))
}

/// The segments of an artifact, in the order of its stream.
pub fn index(fleet: &FleetName, backup: &FolderName, id: &ArtifactId) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/packs/{id}/index"))
}

/// Who holds a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A capture, copy or repair, by the name of the artifact that it writes.
    Writer(ArtifactId),
    /// A restore or a check, by a name of its own that is made as artifacts' are.
    Reader(ArtifactId),
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Writer(id) => write!(f, "{id}"),
            Holder::Reader(id) => write!(f, "read-{id}"),
        }
    }
}

impl Holder {
    /// Reads `<id>.<n>.json` and `read-<id>.<n>.json`.
    fn parse(file: &str) -> Option<(Self, u32)> {
        let (holder, number) = file.strip_suffix(".json")?.rsplit_once('.')?;
        let turn: u32 = number.parse().ok()?;
        let holder = match holder.strip_prefix("read-") {
            Some(reader) => Holder::Reader(reader.parse().ok()?),
            None => Holder::Writer(holder.parse().ok()?),
        };
        (turn.to_string() == number).then_some((holder, turn))
    }
}

/// The folder of a backup's leases.
pub fn open(fleet: &FleetName, backup: &FolderName) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/open"))
}

/// A turn of a lease, from 0.
pub fn lease(fleet: &FleetName, backup: &FolderName, holder: &Holder, turn: u32) -> ObjectName {
    ObjectName(format!("{fleet}/{backup}/open/{holder}.{turn}.json"))
}

/// The folder of the fleet's signed records.
pub fn records(fleet: &FleetName) -> ObjectName {
    ObjectName(format!("{fleet}/records"))
}

/// A signed record.
pub fn record(fleet: &FleetName, sequence: u64) -> ObjectName {
    ObjectName(format!("{fleet}/records/{sequence:010}.json"))
}

/// The signature of a record, put before the record.
pub fn record_signature(fleet: &FleetName, sequence: u64) -> ObjectName {
    ObjectName(format!("{fleet}/records/{sequence:010}.json.sig"))
}

/// How to restore without Backstay.
pub fn restore_page(fleet: &FleetName) -> ObjectName {
    ObjectName(format!("{fleet}/RESTORE.md"))
}

/// What an object in a fleet's folder is, read off its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// `artifacts/<id>.json`
    Manifest(FolderName, ArtifactId),
    /// `artifacts/<id>.json.sig`
    ManifestSignature(FolderName, ArtifactId),
    /// `packs/<id>/<n>`
    Pack(FolderName, PackName),
    /// `packs/<id>/index`
    Index(FolderName, ArtifactId),
    /// `open/<id>.<n>.json` or `open/read-<id>.<n>.json`
    Lease(FolderName, Holder, u32),
    /// `records/<sequence>.json`
    Record(u64),
    /// `records/<sequence>.json.sig`
    RecordSignature(u64),
    /// `RESTORE.md`
    RestorePage,
}

/// Reads an object's name in the folder of `fleet`; `None` when it is nothing that Backstay writes.
pub fn classify(fleet: &FleetName, name: &ObjectName) -> Option<Object> {
    let parts: Vec<&str> =
        name.as_str().strip_prefix(fleet.as_str())?.strip_prefix('/')?.split('/').collect();
    match parts.as_slice() {
        ["RESTORE.md"] => Some(Object::RestorePage),
        ["records", file] => match file.strip_suffix(".sig") {
            Some(file) => sequence(file).map(Object::RecordSignature),
            None => sequence(file).map(Object::Record),
        },
        [backup, "artifacts", file] => match file.strip_suffix(".sig") {
            Some(file) => Some(Object::ManifestSignature(
                backup.parse().ok()?,
                file.strip_suffix(".json")?.parse().ok()?,
            )),
            None => Some(Object::Manifest(backup.parse().ok()?, file.strip_suffix(".json")?.parse().ok()?)),
        },
        [backup, "packs", id, "index"] => Some(Object::Index(backup.parse().ok()?, id.parse().ok()?)),
        [backup, "packs", id, number] => {
            Some(Object::Pack(backup.parse().ok()?, PackName::try_from(format!("{id}/{number}")).ok()?))
        }
        [backup, "open", file] => {
            let (holder, turn) = Holder::parse(file)?;
            Some(Object::Lease(backup.parse().ok()?, holder, turn))
        }
        _ => None,
    }
}

/// Reads `<sequence>.json` as [`record`] writes it: another number of zeros is another object.
fn sequence(file: &str) -> Option<u64> {
    let digits = file.strip_suffix(".json")?;
    let sequence: u64 = digits.parse().ok()?;
    (format!("{sequence:010}") == digits).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_as_what_it_is() {
        let (f, b): (FleetName, FolderName) = ("pavroto".parse().unwrap(), "agama".parse().unwrap());
        let id = ArtifactId::new("2026-11-20T01:00:00Z".parse().unwrap(), 7);
        let p = PackName { artifact: id, number: 12 };
        let cases = [
            (manifest(&f, &b, &id), Object::Manifest(b.clone(), id)),
            (manifest_signature(&f, &b, &id), Object::ManifestSignature(b.clone(), id)),
            (pack(&f, &b, &p), Object::Pack(b.clone(), p)),
            (index(&f, &b, &id), Object::Index(b.clone(), id)),
            (lease(&f, &b, &Holder::Writer(id), 0), Object::Lease(b.clone(), Holder::Writer(id), 0)),
            (lease(&f, &b, &Holder::Reader(id), 41), Object::Lease(b.clone(), Holder::Reader(id), 41)),
            (record(&f, 3), Object::Record(3)),
            (record_signature(&f, 3), Object::RecordSignature(3)),
            (restore_page(&f), Object::RestorePage),
        ];
        for (name, object) in cases {
            assert_eq!(classify(&f, &name), Some(object), "{name}");
            assert_eq!(ObjectName::parse(name.as_str()), Ok(name));
        }
    }

    #[test]
    fn names_that_escape_or_are_foreign_are_nothing_of_ours() {
        for bad in ["", "/", "a//b", "../x", "a/../b", "a/.b", "a/b\0", "a b"] {
            assert!(ObjectName::parse(bad).is_err(), "{bad:?}");
        }
        let fleet = "pavroto".parse().unwrap();
        let records = ["3.json", "+000000003.json", "00000000003.json", "3.json.sig", "00000000003.json.sig"];
        let records = records.map(|file| format!("pavroto/records/{file}"));
        for foreign in ["pavroto/agama/notes.txt"].into_iter().chain(records.iter().map(String::as_str)) {
            // A store may list names that nobody can write.
            let name = ObjectName(foreign.to_owned());
            assert_eq!(classify(&fleet, &name), None, "{foreign}");
        }
    }
}
