//! What was read from stores and found trusted, kept so that it need not be read again. A cache: it may be lost.
//!
//! Objects never change under their name, so that an entry holds as long as a listing shows the same name, size and time.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use rusqlite::{Connection, params};

use crate::{artifact::layout::ObjectName, spec::names::StoreName, stores::Listed};

/// What is kept of objects: by store, and by the object's name, size and time.
pub trait ObjectCache: Send + Sync {
    /// Everything kept of the objects directly or deeper in `folder`.
    fn load(&self, store: &StoreName, folder: &ObjectName) -> Vec<(Listed, Vec<u8>)>;

    /// Keeps what was read, and forgets what is gone. That it can't is no error: it will be read again.
    fn update(&self, store: &StoreName, read: &[(Listed, Vec<u8>)], gone: &[ObjectName]);
}

/// Entries of one store, by the object's name.
type Entries = BTreeMap<String, (Listed, Vec<u8>)>;

/// A cache that lives as long as the process.
#[derive(Default)]
pub struct MemoryCache {
    stores: Mutex<BTreeMap<StoreName, Entries>>,
}

impl ObjectCache for MemoryCache {
    fn load(&self, store: &StoreName, folder: &ObjectName) -> Vec<(Listed, Vec<u8>)> {
        let stores = lock(&self.stores);
        let (first, end) = bounds(folder);
        let Some(entries) = stores.get(store) else { return Vec::new() };
        entries.range(first..end).map(|(_, entry)| entry.clone()).collect()
    }

    fn update(&self, store: &StoreName, read: &[(Listed, Vec<u8>)], gone: &[ObjectName]) {
        let mut stores = lock(&self.stores);
        let entries = stores.entry(store.clone()).or_default();
        for name in gone {
            entries.remove(name.as_str());
        }
        entries.extend(read.iter().map(|entry| (entry.0.name.as_str().to_owned(), entry.clone())));
    }
}

/// A cache in a file of the state directory.
pub struct SqliteCache {
    connection: Mutex<Connection>,
}

impl SqliteCache {
    /// Opens the cache, and makes it where it is missing. What it holds was found trusted under `trusted_keys`; under
    /// others it is forgotten.
    pub fn open(path: &Path, trusted_keys: &[String]) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // The loss of power may cost the cache, and nothing else.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             CREATE TABLE IF NOT EXISTS trust (keys TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS objects (
                 store TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, modified TEXT NOT NULL,
                 content BLOB NOT NULL, PRIMARY KEY (store, name)) WITHOUT ROWID;",
        )?;
        let keys = trusted_keys.join("\n");
        let known: i64 =
            connection.query_row("SELECT count(*) FROM trust WHERE keys = ?1", [&keys], |row| row.get(0))?;
        if known == 0 {
            connection.execute_batch("DELETE FROM objects; DELETE FROM trust;")?;
            connection.execute("INSERT INTO trust VALUES (?1)", [&keys])?;
        }
        Ok(Self { connection: Mutex::new(connection) })
    }

    fn read(&self, store: &StoreName, folder: &ObjectName) -> rusqlite::Result<Vec<(Listed, Vec<u8>)>> {
        let connection = lock(&self.connection);
        let mut query = connection.prepare_cached(
            "SELECT name, size, modified, content FROM objects WHERE store = ?1 AND name >= ?2 AND name < ?3",
        )?;
        let (first, end) = bounds(folder);
        let mut rows = query.query(params![store.as_str(), first, end])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, modified): (String, String) = (row.get(0)?, row.get(2)?);
            let size: i64 = row.get(1)?;
            if let (Ok(name), Ok(modified)) = (ObjectName::parse(&name), modified.parse::<Timestamp>()) {
                found.push((Listed { name, size: size.cast_unsigned(), modified }, row.get(3)?));
            }
        }
        Ok(found)
    }

    fn write(
        &self,
        store: &StoreName,
        read: &[(Listed, Vec<u8>)],
        gone: &[ObjectName],
    ) -> rusqlite::Result<()> {
        let mut connection = lock(&self.connection);
        let transaction = connection.transaction()?;
        {
            let mut forget =
                transaction.prepare_cached("DELETE FROM objects WHERE store = ?1 AND name = ?2")?;
            for name in gone {
                forget.execute(params![store.as_str(), name.as_str()])?;
            }
            let mut keep =
                transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for (Listed { name, size, modified }, content) in read {
                let modified = modified.to_string();
                keep.execute(params![store.as_str(), name.as_str(), size.cast_signed(), modified, content])?;
            }
        }
        transaction.commit()
    }
}

impl ObjectCache for SqliteCache {
    fn load(&self, store: &StoreName, folder: &ObjectName) -> Vec<(Listed, Vec<u8>)> {
        self.read(store, folder).unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to read the cache of objects; reading the store instead");
            Vec::new()
        })
    }

    fn update(&self, store: &StoreName, read: &[(Listed, Vec<u8>)], gone: &[ObjectName]) {
        if read.is_empty() && gone.is_empty() {
            return;
        }
        if let Err(error) = self.write(store, read, gone) {
            tracing::warn!(%error, "failed to write the cache of objects; check the space of state_dir");
        }
    }
}

/// The first name in `folder`, and the first one behind it: `0` follows `/`.
fn bounds(folder: &ObjectName) -> (String, String) {
    (format!("{folder}/"), format!("{folder}0"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, size: u64) -> (Listed, Vec<u8>) {
        let modified = "2026-11-20T01:00:00.25Z".parse().unwrap();
        (Listed { name: ObjectName::parse(name).unwrap(), size, modified }, name.as_bytes().to_vec())
    }

    fn check(cache: &dyn ObjectCache) {
        let (vault, other): (StoreName, StoreName) = ("vault".parse().unwrap(), "other".parse().unwrap());
        let folder = ObjectName::parse("f/a").unwrap();
        cache.update(&vault, &[entry("f/a/x", 1), entry("f/a/y/z", u64::MAX), entry("f/ab/x", 3)], &[]);
        cache.update(&other, &[entry("f/a/x", 4)], &[]);
        assert_eq!(cache.load(&vault, &folder), [entry("f/a/x", 1), entry("f/a/y/z", u64::MAX)]);
        cache.update(&vault, &[entry("f/a/x", 5)], &[entry("f/a/y/z", 0).0.name]);
        assert_eq!(cache.load(&vault, &folder), [entry("f/a/x", 5)]);
        assert_eq!(cache.load(&other, &folder), [entry("f/a/x", 4)]);
    }

    #[test]
    fn entries_are_kept_by_store_and_folder() {
        check(&MemoryCache::default());
        let dir = tempfile::tempdir().unwrap();
        check(&SqliteCache::open(&dir.path().join("cache"), &[]).unwrap());
    }

    #[test]
    fn a_file_outlives_the_process_but_not_a_change_of_trusted_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cache");
        let (store, folder) = ("vault".parse().unwrap(), ObjectName::parse("f").unwrap());
        let open = |keys: &[&str]| {
            SqliteCache::open(&path, &keys.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
        };
        open(&["a"]).update(&store, &[entry("f/x", 1)], &[]);
        assert_eq!(open(&["a"]).load(&store, &folder).len(), 1);
        assert_eq!(open(&["b"]).load(&store, &folder).len(), 0);
        assert_eq!(open(&["a"]).load(&store, &folder).len(), 0);
    }
}
