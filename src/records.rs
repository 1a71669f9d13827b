//! The chain of signed records in a store: what must outlive the controller.
//!
//! A record names the SHA-256 of the one before it, so that one that was altered or taken away shows. Numbers rise. A
//! number may stay unused where a writer was cut off between signature and record; and of two writers at once both may
//! name the same one before: neither breaks the chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::{
    artifact::{
        layout::{self, ObjectName},
        record::{Event, FORMAT, Mark, Record, SIGNATURE_NAMESPACE},
    },
    inventory::Chronicle,
    keys::Keys,
    observe::{
        cache::ObjectCache,
        listing::{FleetListing, RecordListing},
    },
    spec::names::{FleetName, StoreName},
    stores::{ErrorKind, Listed, Put, Store, StoreError},
};

/// A record is never longer, bytes.
const LONGEST_RECORD: u64 = 16 << 20;

/// A signature is never longer, bytes.
const LONGEST_SIGNATURE: u64 = 16 << 10;

/// Records that are read at once.
const READS: usize = 8;

/// How often another writer may be faster before an append gives up.
const ATTEMPTS: usize = 16;

/// A fleet's records in one store.
#[derive(Clone)]
pub struct Records {
    /// The store's name, for people and for the cache.
    pub name: StoreName,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whose records they are.
    pub fleet: FleetName,
}

/// A chain as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The trusted records, oldest first.
    pub records: Vec<Record>,
    /// What they tell of this store's past and of the others'.
    pub chronicle: Chronicle,
    /// Why the chain may not be believed to be whole, unless a person adopted the store since.
    pub broken: Option<String>,
}

/// A record that could not be written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others were faster, every time.
    #[error(
        "failed to append a record in {store}: other controllers write there all the time; let only one run"
    )]
    Contended {
        /// Where.
        store: StoreName,
    },
}

/// A record as it is kept: its digest and what it says.
struct Link {
    digest: String,
    /// Or why it is not believed.
    record: Result<Record, String>,
}

/// A record that was read from the store.
struct Read {
    sequence: u64,
    listed: Listed,
    bytes: Bytes,
    link: Link,
}

impl Records {
    /// Reads the chain that `listing` shows. Only what `cache` does not hold is read from the store.
    pub async fn read(
        &self,
        listing: &BTreeMap<u64, RecordListing>,
        keys: &Keys,
        cache: &dyn ObjectCache,
    ) -> Result<Chain, StoreError> {
        let mut cached: BTreeMap<ObjectName, (Listed, Vec<u8>)> = cache
            .load(&self.name, &layout::records(&self.fleet))
            .into_iter()
            .map(|entry| (entry.0.name.clone(), entry))
            .collect();
        let mut links: BTreeMap<u64, Link> = BTreeMap::new();
        let mut unread: Vec<(u64, Listed)> = Vec::new();
        for (sequence, object) in listing {
            let Some(record) = &object.record else { continue };
            let kept = cached.remove(&record.name).filter(|(listed, _)| listed == record);
            match kept.and_then(|(_, bytes)| believe(&self.fleet, *sequence, &bytes).ok().map(|r| (r, bytes)))
            {
                Some((record, bytes)) => {
                    links.insert(*sequence, Link { digest: digest(&bytes), record: Ok(record) });
                }
                None => unread.push((*sequence, record.clone())),
            }
        }
        let fresh = self.read_links(unread, keys).await?;
        let trusted = || fresh.iter().filter(|read| read.link.record.is_ok());
        // An adoption that was not known yet came after all that is gone.
        let adopted = trusted().any(|read| read.link.record.as_ref().is_ok_and(is_adoption));
        let keep: Vec<(Listed, Vec<u8>)> =
            trusted().map(|read| (read.listed.clone(), read.bytes.to_vec())).collect();
        links.extend(fresh.into_iter().map(|read| (read.sequence, read.link)));
        let vanished: Vec<ObjectName> = cached.into_keys().collect();
        let chain = judge(links, if adopted { 0 } else { vanished.len() });
        let forget: &[ObjectName] = if chain.broken.is_none() { &vanished } else { &[] };
        cache.update(&self.name, &keep, forget);
        Ok(chain)
    }

    async fn read_links(&self, unread: Vec<(u64, Listed)>, keys: &Keys) -> Result<Vec<Read>, StoreError> {
        let read = |(sequence, listed): (u64, Listed)| async move {
            let bytes = self.store.get(&listed.name, None, LONGEST_RECORD).await?;
            let record = self.trust(sequence, &bytes, keys).await?;
            Ok(Read { sequence, listed, link: Link { digest: digest(&bytes), record }, bytes })
        };
        stream::iter(unread).map(read).buffer_unordered(READS).try_collect().await
    }

    async fn trust(
        &self,
        sequence: u64,
        bytes: &[u8],
        keys: &Keys,
    ) -> Result<Result<Record, String>, StoreError> {
        let signature = layout::record_signature(&self.fleet, sequence);
        let signature = match self.store.get(&signature, None, LONGEST_SIGNATURE).await {
            Ok(signature) => signature,
            Err(error) if error.kind == ErrorKind::NotFound => {
                return Ok(Err(format!("record {sequence} has no signature")));
            }
            Err(error) => return Err(error),
        };
        Ok(keys
            .verify(SIGNATURE_NAMESPACE, bytes, &signature)
            .map_err(|untrusted| format!("record {sequence} cannot be trusted: {untrusted}"))
            .and_then(|_| believe(&self.fleet, sequence, bytes)))
    }

    /// Appends a record of `events`, signed. Whoever calls has seen that the store is ours, or writes its adoption.
    pub async fn append(
        &self,
        keys: &Keys,
        at: Timestamp,
        events: Vec<Event>,
    ) -> Result<Record, AppendError> {
        self.append_knowing(keys, at, events, BTreeMap::new()).await
    }

    /// The same, in knowledge of those records of the other stores.
    pub async fn append_knowing(
        &self,
        keys: &Keys,
        at: Timestamp,
        events: Vec<Event>,
        siblings: BTreeMap<StoreName, Mark>,
    ) -> Result<Record, AppendError> {
        for _ in 0..ATTEMPTS {
            let listed = self.store.list(&layout::records(&self.fleet)).await?;
            let listing = FleetListing::sort(&self.fleet, listed).records;
            let record = Record {
                format: FORMAT.to_owned(),
                fleet: self.fleet.clone(),
                sequence: listing.keys().next_back().map_or(0, |last| last + 1),
                previous: self.last_digest(&listing).await?,
                at,
                events: events.clone(),
                siblings: siblings.clone(),
            };
            if self.put(&record, keys).await? {
                return Ok(record);
            }
        }
        Err(AppendError::Contended { store: self.name.clone() })
    }

    async fn last_digest(
        &self,
        listing: &BTreeMap<u64, RecordListing>,
    ) -> Result<Option<String>, StoreError> {
        let Some(last) = listing.values().rev().find_map(|object| object.record.as_ref()) else {
            return Ok(None);
        };
        Ok(Some(digest(&self.store.get(&last.name, None, LONGEST_RECORD).await?)))
    }

    /// Puts the signature and then the record; `false` where another writer took the number.
    async fn put(&self, record: &Record, keys: &Keys) -> Result<bool, StoreError> {
        let bytes = Bytes::from(to_bytes(record));
        let signature = Bytes::from(keys.sign(SIGNATURE_NAMESPACE, &bytes));
        let objects = [
            (layout::record_signature(&self.fleet, record.sequence), signature, LONGEST_SIGNATURE),
            (layout::record(&self.fleet, record.sequence), bytes, LONGEST_RECORD),
        ];
        for (name, content, limit) in objects {
            let ours = match self.store.put_if_absent(&name, content.clone()).await? {
                Put::Created => true,
                // The answer to our own put may have been lost.
                Put::Existed => self.store.get(&name, None, limit).await? == content,
            };
            if !ours {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn to_bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain values have a JSON form")
}

/// The digest by which other records name this one.
pub fn digest_of(record: &Record) -> String {
    digest(&to_bytes(record))
}

/// What a record's bytes say, if they are what belongs under its number.
fn believe(fleet: &FleetName, sequence: u64, bytes: &[u8]) -> Result<Record, String> {
    let record: Record =
        serde_json::from_slice(bytes).map_err(|e| format!("record {sequence} cannot be understood: {e}"))?;
    if record.format != FORMAT || record.fleet != *fleet || record.sequence != sequence {
        return Err(format!(
            "record {sequence} belongs elsewhere: to {} of {}",
            record.sequence, record.fleet
        ));
    }
    Ok(record)
}

/// Whether the links make a chain, of which `vanished` records were seen earlier and are no more.
fn judge(links: BTreeMap<u64, Link>, vanished: usize) -> Chain {
    let mut chain = Chain::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let anything = !links.is_empty();
    for (sequence, link) in links {
        match link.record {
            Ok(record) => {
                let joins = match &record.previous {
                    Some(previous) => seen.contains(previous),
                    None => seen.is_empty(),
                };
                if !joins {
                    let gap = || format!("the record before number {sequence} is altered or gone");
                    chain.broken.get_or_insert_with(gap);
                }
                if is_adoption(&record) {
                    chain.broken = None;
                }
                chain.chronicle.add(&record, link.digest.clone());
                chain.records.push(record);
            }
            Err(why) => {
                chain.broken.get_or_insert(why);
            }
        }
        seen.insert(link.digest);
    }
    // Of an empty store nobody can say more than that it is empty.
    if vanished > 0 && anything {
        chain.broken.get_or_insert_with(|| format!("{vanished} records that were here are gone"));
    }
    chain
}

fn is_adoption(record: &Record) -> bool {
    record.events.iter().any(|event| matches!(event, Event::Adopted { .. }))
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
