//! The way back into a running cluster: each key of the snapshot, over the API. Nothing is sent before the snapshot was proved whole and
//! read through; what the cluster holds besides is removed at the end.

use std::{fs::File, io, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{io::AsyncRead, sync::mpsc};

use super::{
    EtcdSource, Failure,
    client::unexpected,
    file::FileCheck,
    keys::{Entry, Index},
    member::Member,
};
use crate::sources::{
    aside::staged,
    existing::{self, Existing},
};

/// How many keys go in one transaction: a member takes 128 (`--max-txn-ops`).
const MOST: usize = 100;

/// How many bytes go in one transaction, unless a single key has more: a member takes 1.5 MiB (`--max-request-bytes`).
const LONGEST: usize = 512 * 1024;

/// How many keys of the cluster are looked at in one question.
const LOOKED: usize = 200;

/// How often a question is asked again, and how much longer is waited each time.
const MOST_TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// How many transactions may wait to be sent.
const DEPTH: usize = 4;

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Puts what the stream holds in the place of what the cluster holds. Returns what to tell of it.
pub(super) async fn over_original(source: &EtcdSource, stream: Stream<'_>) -> Result<String, Failure> {
    let mut check = FileCheck::default();
    let file = staged(stream, &source.scratch, |bytes| check.look(bytes)).await.map_err(Failure::Stream)?;
    check.finish().map_err(Failure::Incomplete)?;
    let index = Arc::new(read_through(&file).await?);
    let member = source.member().await?;
    let held = member.keys().await?;
    if source.existing == Existing::Refused && held > 0 {
        return Err(Failure::Place(existing::by_now(&format!("{held} keys"))));
    }
    let sending = Sending { source, member, index: &index, granted: Default::default(), kept: 0 };
    let kept = sending.all(&file, held).await.map_err(|why| Failure::Partly(Box::new(why)))?;
    Ok(told(&source.subject(), &index, kept))
}

fn told(place: &str, index: &Index, kept: u64) -> String {
    let mut told = format!("{place} ({} keys", index.keys());
    if index.leased > 0 {
        told.push_str(&format!(", {} of them with leases that begin anew", index.leased));
    }
    told.push(')');
    if kept > 0 {
        told.push_str(&format!(
            "; {kept} leases were there already and run on as they were: their keys go when those end"
        ));
    }
    if index.has_users {
        told.push_str(
            "; users and roles are left out: they come back only where a new cluster is made of the snapshot",
        );
    }
    told
}

/// Reads a snapshot's keys, on a thread that may block.
pub(super) async fn read_through(file: &File) -> Result<Index, Failure> {
    let file = file.try_clone().map_err(Failure::Stream)?;
    let read = tokio::task::spawn_blocking(move || Index::of(file)).await;
    read.map_err(io::Error::other).and_then(|read| read).map_err(|why| match why.kind() {
        io::ErrorKind::InvalidData => Failure::Refused(why.to_string()),
        _ => Failure::Stream(why),
    })
}

/// Keys that go together.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, entry: &Entry) -> bool {
        self.entries.is_empty() || self.entries.len() < MOST && self.bytes + length(entry) <= LONGEST
    }

    fn push(&mut self, entry: Entry) {
        self.bytes += length(&entry);
        self.entries.push(entry);
    }
}

fn length(entry: &Entry) -> usize {
    entry.key.len() + entry.value.len()
}

/// What a snapshot holds, read on a thread of its own, which ends when nobody takes it any more.
fn batches(file: &File, index: &Arc<Index>) -> Result<mpsc::Receiver<io::Result<Batch>>, Failure> {
    let (file, index) = (file.try_clone().map_err(Failure::Stream)?, index.clone());
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        let give =
            |batch| sender.blocking_send(Ok(batch)).map_err(|_| io::Error::other("the restore was given up"));
        let mut batch = Batch::default();
        let read = index.entries(file, |entry| {
            if !batch.has_room_for(&entry) {
                give(std::mem::take(&mut batch))?;
            }
            batch.push(entry);
            Ok(())
        });
        if let Err(why) = read.and_then(|()| give(batch)) {
            // Nobody listens any more where this fails.
            let _ = sender.blocking_send(Err(why));
        }
    });
    Ok(receiver)
}

/// A restore under way.
struct Sending<'a> {
    source: &'a EtcdSource,
    member: Member,
    index: &'a Arc<Index>,
    granted: std::collections::HashSet<i64>,
    /// How many leases the cluster had already.
    kept: u64,
}

impl Sending<'_> {
    /// Returns how many leases the cluster had already.
    async fn all(mut self, file: &File, held: u64) -> Result<u64, Failure> {
        let mut batches = batches(file, self.index)?;
        while let Some(batch) = batches.recv().await {
            self.put(&batch.map_err(Failure::Stream)?.entries).await?;
        }
        if held > 0 {
            self.remove_others().await?;
        }
        let (there, lasting) = (self.keys().await?, self.index.keys() - self.index.leased);
        if there < lasting {
            return Err(Failure::Incomplete(format!(
                "the cluster holds {there} keys, and {lasting} that have no lease were put into it: somebody removes them"
            )));
        }
        Ok(self.kept)
    }

    async fn put(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        let puts: Vec<Value> = entries.iter().map(|entry| json!({ "request_put": put(entry) })).collect();
        let unless = match self.source.existing {
            Existing::Refused => entries,
            Existing::Replaced => &[],
        };
        let compare: Vec<Value> = unless.iter().map(absent).collect();
        let question = json!({ "compare": compare, "success": puts });
        self.grant(entries).await?;
        let put = match self.holds_true(&question).await {
            // A short lease may have ended since its first key was put.
            Err(Failure::Answer(said)) if said.contains("lease not found") => {
                for entry in entries {
                    self.granted.remove(&entry.lease);
                }
                self.grant(entries).await?;
                self.holds_true(&question).await
            }
            put => put,
        };
        match put? {
            true => Ok(()),
            false => self.must_be_ours(unless).await,
        }
    }

    /// Refuses keys that are there already, unless they are what was put: of a question that was asked again the first answer may
    /// have been lost.
    async fn must_be_ours(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        let compare: Vec<Value> = entries.iter().map(equal).collect();
        match self.holds_true(&json!({ "compare": compare })).await? {
            true => Ok(()),
            false => Err(Failure::Place(
                "somebody else writes to the cluster meanwhile; keep writers away until it is restored"
                    .to_owned(),
            )),
        }
    }

    /// Sees that the leases of these keys are there. One that the cluster has already is left as it is.
    async fn grant(&mut self, entries: &[Entry]) -> Result<(), Failure> {
        for lease in entries.iter().map(|entry| entry.lease).filter(|lease| *lease != 0) {
            if self.granted.contains(&lease) {
                continue;
            }
            let seconds = self.index.leases.get(&lease);
            let seconds = seconds.ok_or_else(|| {
                Failure::Refused("the snapshot holds a key whose lease it does not hold".to_owned())
            })?;
            let question = json!({ "ID": lease.to_string(), "TTL": seconds.to_string() });
            match self.ask("lease/grant", &question).await {
                Ok(_) => {}
                Err(Failure::Answer(said)) if said.contains("lease already exists") => self.kept += 1,
                Err(failure) => return Err(failure),
            }
            self.granted.insert(lease);
        }
        Ok(())
    }

    /// Removes what the snapshot does not hold.
    async fn remove_others(&mut self) -> Result<(), Failure> {
        let mut from = vec![0];
        loop {
            let question = json!({
                "key": STANDARD.encode(&from), "range_end": "AA==", "keys_only": true, "limit": LOOKED.to_string()
            });
            let keys = keys_of(&self.ask("kv/range", &question).await?)?;
            let Some(last) = keys.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            let others = keys.iter().filter(|key| !self.index.has(key));
            let others: Vec<Value> = others
                .map(|key| json!({ "request_delete_range": { "key": STANDARD.encode(key) } }))
                .collect();
            for some in others.chunks(MOST) {
                self.transact(&json!({ "success": some })).await?;
            }
        }
    }

    async fn transact(&mut self, question: &Value) -> Result<(), Failure> {
        match self.holds_true(question).await? {
            true => Ok(()),
            false => Err(unexpected("kv/txn")),
        }
    }

    /// Whether all that a transaction compares is so, and it was done. What is false the gateway leaves out.
    async fn holds_true(&mut self, question: &Value) -> Result<bool, Failure> {
        let answer = self.ask("kv/txn", question).await?;
        match (answer["header"].is_object(), &answer["succeeded"]) {
            (true, Value::Bool(succeeded)) => Ok(*succeeded),
            (true, Value::Null) => Ok(false),
            _ => Err(unexpected("kv/txn")),
        }
    }

    /// Asks again where it may: nothing that is asked here does harm when it is done twice.
    async fn ask(&mut self, call: &str, question: &Value) -> Result<Value, Failure> {
        let mut tries = 0;
        loop {
            let Member { client, endpoint, token, .. } = &self.member;
            let failure = match client.ask(endpoint, call, token.as_ref(), question).await {
                Err(Failure::Answer(said)) => said,
                other => return other,
            };
            self.mend(failure, tries).await?;
            tries += 1;
        }
    }

    /// How many keys there are.
    async fn keys(&mut self) -> Result<u64, Failure> {
        let mut tries = 0;
        loop {
            let failure = match self.member.keys().await {
                Err(Failure::Answer(said)) => said,
                other => return other,
            };
            self.mend(failure, tries).await?;
            tries += 1;
        }
    }

    /// Does what may help against a refusal.
    async fn mend(&mut self, said: String, tries: u32) -> Result<(), Failure> {
        match remedy(&said, tries) {
            Some(Remedy::LogIn) => self.member = self.source.member().await?,
            Some(Remedy::Wait(pause)) => tokio::time::sleep(pause).await,
            None => return Err(Failure::Answer(said)),
        }
        Ok(())
    }
}

/// What may help against a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Remedy {
    /// Tokens end after some minutes, and a simple one with its member.
    LogIn,
    Wait(Duration),
}

/// Source of the words: etcd, `api/v3rpc/rpctypes/error.go`.
fn remedy(said: &str, tries: u32) -> Option<Remedy> {
    let passes = ["leader changed", "no leader", "request timed out", "too many requests"];
    match tries {
        MOST_TRIES.. => None,
        _ if said.contains("invalid auth token") => Some(Remedy::LogIn),
        _ if passes.iter().any(|part| said.contains(part)) => Some(Remedy::Wait(PAUSE * (tries + 1))),
        _ => None,
    }
}

/// That nobody has made the key (etcd, `rpc.proto`, "Compare": a key that is not there was created at revision 0).
fn absent(entry: &Entry) -> Value {
    let key = STANDARD.encode(&entry.key);
    json!({ "result": "EQUAL", "target": "CREATE", "key": key, "create_revision": "0" })
}

/// That the key has this value.
fn equal(entry: &Entry) -> Value {
    let (key, value) = (STANDARD.encode(&entry.key), STANDARD.encode(&entry.value));
    json!({ "result": "EQUAL", "target": "VALUE", "key": key, "value": value })
}

fn put(entry: &Entry) -> Value {
    let (key, value) = (STANDARD.encode(&entry.key), STANDARD.encode(&entry.value));
    json!({ "key": key, "value": value, "lease": entry.lease.to_string() })
}

fn keys_of(answer: &Value) -> Result<Vec<Vec<u8>>, Failure> {
    if !answer["header"].is_object() {
        return Err(unexpected("kv/range"));
    }
    let pairs = answer["kvs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let key = |pair: &Value| pair["key"].as_str().and_then(|key| STANDARD.decode(key).ok());
    pairs.iter().map(|pair| key(pair).ok_or_else(|| unexpected("kv/range"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_ended_is_replaced_and_what_passes_is_waited_for() {
        let token = "401 Unauthorized: etcdserver: invalid auth token";
        assert_eq!(remedy(token, 0), Some(Remedy::LogIn));
        assert_eq!(remedy("503: etcdserver: leader changed", 2), Some(Remedy::Wait(3 * PAUSE)));
        assert_eq!(remedy(token, MOST_TRIES), None);
        assert_eq!(remedy("etcdserver: mvcc: database space exceeded", 0), None);
    }

    #[test]
    fn leases_that_were_there_are_told() {
        assert_eq!(told("etcd", &Index::default(), 0), "etcd (0 keys)");
        assert!(told("etcd", &Index::default(), 2).contains("; 2 leases were there already"));
    }

    #[test]
    fn a_transaction_takes_no_more_than_a_member_does_and_a_long_key_goes_alone() {
        let entry = |bytes: usize| Entry { key: b"k".to_vec(), value: vec![0; bytes], lease: 0 };
        let mut batch = Batch::default();
        assert!(batch.has_room_for(&entry(2 * LONGEST)));
        batch.push(entry(2 * LONGEST));
        assert!(!batch.has_room_for(&entry(1)));
        let mut batch = Batch::default();
        while batch.has_room_for(&entry(1)) {
            batch.push(entry(1));
        }
        assert_eq!(batch.entries.len(), MOST);
    }
}
