//! The chain of signed records in a store: what must outlive the controller.
//!
//! A record names the SHA-256 of the one before it, so that one that was altered or taken away shows. Numbers rise. A
//! number may stay unused where a writer was cut off between signature and record; and of two writers at once both may
//! name the same one before: neither breaks the chain.
//!
//! What is appended is read back. A record that the store spoiled would break the chain for every reader: it is taken away
//! again, and written anew under the next number.

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

/// How often a store may spoil a record before an append gives up.
const SPOILS: usize = 3;

/// How often the newest record is read until it can be believed, or reads alike twice.
const STEADY_READS: usize = 4;

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
    /// The store gives back other bytes than it was given, every time. Nothing of it is left there.
    #[error(
        "failed to append a record in {store}: it reads back otherwise than it was written; look into that store's disk or service"
    )]
    Spoiled {
        /// Where.
        store: StoreName,
    },
    /// A spoiled record stands in the chain, which is refused from now on.
    #[error(
        "failed to take away {object}, which {store} has spoiled while it was written: {source}; delete that object, or look into the store and adopt it"
    )]
    Unrepaired {
        /// Where.
        store: StoreName,
        /// The record.
        object: ObjectName,
        /// Why it could not be deleted.
        source: StoreError,
    },
}

/// What became of an object that was put.
enum Placed {
    /// It reads back as it was put.
    Whole,
    /// Somebody else's is in its place.
    Taken,
    /// It reads back as something else.
    Spoiled,
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
        let mut spoils = 0;
        for _ in 0..ATTEMPTS {
            let listed = self.store.list(&layout::records(&self.fleet)).await?;
            let listing = FleetListing::sort(&self.fleet, listed).records;
            let record = Record {
                format: FORMAT.to_owned(),
                fleet: self.fleet.clone(),
                sequence: listing.keys().next_back().map_or(0, |last| last + 1),
                previous: self.last_digest(&listing, keys).await?,
                at,
                events: events.clone(),
                siblings: siblings.clone(),
            };
            match self.put(&record, keys).await? {
                Placed::Whole => return Ok(record),
                Placed::Taken => {}
                Placed::Spoiled => spoils += 1,
            }
            if spoils >= SPOILS {
                return Err(AppendError::Spoiled { store: self.name.clone() });
            }
        }
        Err(AppendError::Contended { store: self.name.clone() })
    }

    async fn last_digest(
        &self,
        listing: &BTreeMap<u64, RecordListing>,
        keys: &Keys,
    ) -> Result<Option<String>, AppendError> {
        let mut newest_first = listing.iter().rev();
        let newest = newest_first.find_map(|(sequence, object)| Some((*sequence, object.record.as_ref()?)));
        let Some((sequence, newest)) = newest else { return Ok(None) };
        let mut before: Option<Bytes> = None;
        for _ in 0..STEADY_READS {
            let bytes = self.store.get(&newest.name, None, LONGEST_RECORD).await?;
            // One that is not to be believed, and was adopted, is named as it is.
            if self.trust(sequence, &bytes, keys).await?.is_ok() || before.as_ref() == Some(&bytes) {
                return Ok(Some(digest(&bytes)));
            }
            before = Some(bytes);
        }
        Err(AppendError::Spoiled { store: self.name.clone() })
    }

    /// Puts the signature and then the record.
    async fn put(&self, record: &Record, keys: &Keys) -> Result<Placed, AppendError> {
        let bytes = Bytes::from(to_bytes(record));
        let signature = Bytes::from(keys.sign(SIGNATURE_NAMESPACE, &bytes));
        let name = layout::record_signature(&self.fleet, record.sequence);
        match self.place(&name, &signature, LONGEST_SIGNATURE).await? {
            Placed::Whole => {}
            // A signature without a record counts for nothing: the number stays unused.
            not_ours => return Ok(not_ours),
        }
        let name = layout::record(&self.fleet, record.sequence);
        match self.place(&name, &bytes, LONGEST_RECORD).await {
            Ok(Placed::Whole) => Ok(Placed::Whole),
            // Under our signature nothing but our record can stand.
            Ok(Placed::Taken | Placed::Spoiled) => {
                self.take_away(name).await?;
                Ok(Placed::Spoiled)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object and reads it back, whatever the answer to the put was: it may have been lost.
    async fn place(&self, name: &ObjectName, content: &Bytes, limit: u64) -> Result<Placed, StoreError> {
        let put = self.store.put_if_absent(name, content.clone()).await;
        // A second look, for a read may fail as well as a write.
        for _ in 0..2 {
            match self.store.get(name, None, limit).await {
                Ok(found) if found == *content => return Ok(Placed::Whole),
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::Protocol => {}
                Err(error) => return Err(put.err().unwrap_or(error)),
            }
        }
        match put {
            Ok(Put::Existed) => Ok(Placed::Taken),
            Ok(Put::Created) | Err(_) => Ok(Placed::Spoiled),
        }
    }

    async fn take_away(&self, object: ObjectName) -> Result<(), AppendError> {
        let Err(source) = self.store.delete(&object).await else { return Ok(()) };
        match self.store.stat(&object).await {
            // The answer was lost.
            Ok(None) => Ok(()),
            _ => Err(AppendError::Unrepaired { store: self.name.clone(), object, source }),
        }
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
