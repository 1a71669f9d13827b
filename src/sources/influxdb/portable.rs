//! A portable backup as `influxd backup` leaves it in a folder, and the proof that it is whole.
//!
//! The program says 0 though the server was killed in the middle of a shard, whose archive is then cut short. So
//! nothing of it counts before each shard's archive was read to its closing blocks, the manifest names exactly the files
//! that are there with their sizes, and the metadata know the database.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Failure,
    metadata::{Metadata, Span},
    names::DatabaseName,
    record,
};
use crate::sources::pax::Reader;

/// What the name of a manifest ends with.
const MANIFEST: &str = ".manifest";

/// The largest manifest, bytes: some hundred thousand shards.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What is in a folder, once it is proved whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Portable {
    /// Its files, sorted by name.
    pub files: BTreeMap<String, Content>,
    /// How many shards the manifest lists.
    pub listed: usize,
    /// Those of them that hold data.
    pub shards: BTreeSet<Span>,
    /// How many shards note deletions that the server has not worked into their files yet. Its restore passes over such
    /// notes, and what they deleted is back.
    pub undeleted: usize,
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// The manifest, the metadata, or the record.
    Notes,
    /// The archive of a shard.
    Shard {
        /// Of the archive before it was compressed: it is the same as long as the shard is.
        digest: [u8; 32],
        /// When the newest of its files changed, seconds since the Unix epoch.
        modified: i64,
    },
}

#[derive(Deserialize)]
struct Manifest {
    meta: Listed,
    /// The engine writes `null` where a database has no shard.
    files: Option<Vec<Shard>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    file_name: String,
    size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    database: String,
    #[serde(rename = "shardID")]
    shard_id: u64,
    file_name: String,
    /// Bytes of the archive before it was compressed.
    size: u64,
}

/// Proves that `folder` holds a whole backup of `database`. Calls `alive` now and then, and ends where that fails.
pub(super) fn prove(
    folder: &Path,
    database: &DatabaseName,
    mut alive: impl FnMut() -> Result<(), Failure>,
) -> Result<Portable, Failure> {
    let incomplete = |why: String| Failure::Incomplete(format!("the backup of database {database}: {why}"));
    let files = names(folder).map_err(Failure::Stage)?;
    let manifest =
        manifest_in(&files).and_then(|name| parsed::<Manifest>(&folder.join(name))).map_err(incomplete)?;
    let shards = manifest.files.unwrap_or_default();
    listed(&files, &manifest.meta.file_name, &shards, database).map_err(incomplete)?;
    let known = known(folder, &manifest.meta, database, &shards).map_err(incomplete)?;
    let mut portable = Portable { listed: shards.len(), ..Portable::default() };
    portable.files.extend(files.into_iter().map(|name| (name, Content::Notes)));
    for (shard, span) in shards.into_iter().zip(known) {
        alive()?;
        let whole = whole(&folder.join(&shard.file_name), shard.size, &mut alive)?;
        portable.files.insert(shard.file_name, whole.content);
        portable.undeleted += usize::from(whole.deletions == Deletions::Noted);
        if whole.held == Held::Data {
            portable.shards.insert(span);
        }
    }
    Ok(portable)
}

/// Takes the time of the backup out of the names of its files, so that what did not change since another is called as it
/// was there.
pub(super) fn rename(folder: &Path) -> Result<(), Failure> {
    let files = names(folder).map_err(Failure::Stage)?;
    let manifest = manifest_in(&files).map_err(Failure::Incomplete)?;
    let stem = manifest.trim_end_matches(MANIFEST);
    let renamed = |name: &str| name.strip_prefix(stem).map(|rest| format!("backup{rest}"));
    let mut content: Value = parsed(&folder.join(manifest)).map_err(Failure::Incomplete)?;
    let entries = content.get_mut("files").and_then(Value::as_array_mut).into_iter().flatten();
    for entry in entries {
        rename_in(entry, &renamed);
    }
    if let Some(metadata) = content.get_mut("meta") {
        rename_in(metadata, &renamed);
    }
    for name in &files {
        if let Some(new) = renamed(name) {
            fs::rename(folder.join(name), folder.join(new)).map_err(Failure::Stage)?;
        }
    }
    let written = serde_json::to_vec_pretty(&content).map_err(|error| Failure::Stage(error.into()))?;
    fs::write(folder.join(format!("backup{MANIFEST}")), written).map_err(Failure::Stage)
}

fn rename_in(entry: &mut Value, renamed: &impl Fn(&str) -> Option<String>) {
    let name = entry.get_mut("fileName");
    if let Some((name, new)) = name.and_then(|name| renamed(name.as_str()?).map(|new| (name, new))) {
        *name = Value::String(new);
    }
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.is_empty() || !entry.file_type()?.is_file() {
            let why = format!("{} is no file of a backup", entry.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

fn manifest_in(files: &[String]) -> Result<&str, String> {
    let manifests: Vec<_> = files.iter().filter(|name| name.ends_with(MANIFEST)).collect();
    match manifests[..] {
        [name] => Ok(name),
        _ => Err(format!("it has {} manifests", manifests.len())),
    }
}

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    serde_json::from_slice(&small(path)?).map_err(|error| format!("its manifest can't be read: {error}"))
}

/// Reads a file that is never large.
fn small(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let read = File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(format!("{name}: {error}")),
        Ok(length) if length as u64 > LARGEST => Err(format!("{name} is larger than {LARGEST} bytes")),
        Ok(_) => Ok(bytes),
    }
}

/// Whether the manifest names exactly the files that are there.
fn listed(files: &[String], metadata: &str, shards: &[Shard], database: &DatabaseName) -> Result<(), String> {
    let mut named = BTreeSet::from([metadata]);
    for shard in shards {
        if shard.database != database.as_str() {
            return Err(format!("its manifest names a shard of database {}", shard.database.escape_debug()));
        }
        if !named.insert(&shard.file_name) {
            return Err(format!("its manifest names {} twice", shard.file_name.escape_debug()));
        }
    }
    let is_ours = |name: &&str| name.ends_with(MANIFEST) || *name == record::FILE;
    let there: BTreeSet<&str> = files.iter().map(String::as_str).filter(|name| !is_ours(name)).collect();
    if let Some(absent) = named.difference(&there).next() {
        return Err(format!("{} is missing", absent.escape_debug()));
    }
    match there.difference(&named).next() {
        Some(extra) => Err(format!("{} is not named by its manifest", extra.escape_debug())),
        None => Ok(()),
    }
}

/// What each of the shards holds. The metadata must be whole, and know the database and its shards: the engine's restore
/// leaves out without a word what they do not know, such as a shard that was made between the reading of both.
fn known(
    folder: &Path,
    listed: &Listed,
    database: &DatabaseName,
    shards: &[Shard],
) -> Result<Vec<Span>, String> {
    let metadata = File::open(folder.join(&listed.file_name))
        .and_then(|file| Metadata::read(BufReader::new(file), listed.size, database.as_str()))
        .map_err(|error| format!("its metadata are empty or cut short: {error}"))?;
    let mut known = metadata.database.ok_or("its metadata do not know the database")?;
    let newest = metadata.newest_shard;
    let span = |Shard { shard_id, .. }: &Shard| match known.remove(shard_id) {
        Some(span) => Ok(span),
        None if *shard_id > newest => Err(format!("its metadata are older than shard {shard_id}")),
        None => Err(format!("its metadata do not know shard {shard_id}")),
    };
    shards.iter().map(span).collect()
}

/// A shard's archive that was read to its end.
#[derive(Debug)]
struct Whole {
    content: Content,
    held: Held,
    deletions: Deletions,
}

/// Whether a shard holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Data,
    Nothing,
}

/// Whether a shard notes deletions beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletions {
    Noted,
    None,
}

/// Decompresses all of a shard's archive and reads it to its closing blocks.
fn whole(path: &Path, size: u64, alive: impl FnMut() -> Result<(), Failure>) -> Result<Whole, Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = File::open(path).map_err(Failure::Stage)?;
    let inner = MultiGzDecoder::new(BufReader::new(file));
    let mut watched = Watched { inner, read: 0, digest: Sha256::new(), alive, ended: None };
    let members = members(&mut watched);
    if let Some(ended) = watched.ended {
        return Err(ended);
    }
    let (held, deletions, modified) = members.map_err(|error| {
        Failure::Incomplete(format!("shard file {name} is cut short or damaged: {error}"))
    })?;
    if watched.read != size {
        let read = watched.read;
        let why = format!("shard file {name} holds {read} bytes where the manifest says {size}");
        return Err(Failure::Incomplete(why));
    }
    let digest = watched.digest.finalize().into();
    Ok(Whole { content: Content::Shard { digest, modified }, held, deletions })
}

/// What an archive holds, and the newest time in it.
fn members(archive: &mut impl Read) -> io::Result<(Held, Deletions, i64)> {
    let mut reader = Reader::new(archive);
    let (mut held, mut deletions, mut newest) = (Held::Nothing, Deletions::None, 0);
    while let Some(member) = reader.next()? {
        newest = newest.max(member.meta.modified.0);
        if member.name.ends_with(b".tsm") && member.size > 0 {
            held = Held::Data;
        }
        if member.name.ends_with(b".tombstone") {
            deletions = Deletions::Noted;
        }
    }
    Ok((held, deletions, newest))
}

/// Counts and digests what is read, and tells that work goes on.
struct Watched<R, A> {
    inner: R,
    read: u64,
    digest: Sha256,
    alive: A,
    ended: Option<Failure>,
}

/// How often work that goes on is told, bytes.
const TOLD: u64 = 8 * 1024 * 1024;

impl<R: Read, A: FnMut() -> Result<(), Failure>> Read for Watched<R, A> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        let before = self.read;
        self.read += length as u64;
        self.digest.update(&into[..length]);
        if before / TOLD != self.read / TOLD
            && let Err(ended) = (self.alive)()
        {
            self.ended = Some(ended);
            return Err(io::Error::other("nobody waits for it any more"));
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
