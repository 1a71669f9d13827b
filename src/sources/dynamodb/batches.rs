//! Items that are written in batches, some at once. What the server does not take is sent again, more and more slowly.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use backon::BackoffBuilder;
use tokio::task::{Id, JoinSet};

use super::{Failure, reach::Reach, table::Key, value::Item};
use crate::stores::retry::Attempts;

/// The most items of a batch; all together have 10 MB at most, and a request takes 16.
const BATCH: usize = 25;

/// Batches that are sent at once.
const AT_ONCE: usize = 8;

/// How often the server may take nothing of a batch, and how long it is given between two attempts.
const PATIENCE: Attempts = Attempts {
    more: 12,
    first_pause: std::time::Duration::from_millis(100),
    longest_pause: std::time::Duration::from_secs(20),
};

/// Writes items into one table.
pub(super) struct Batches<'a> {
    reach: &'a Reach,
    table: &'a str,
    keys: &'a [Key],
    items: Vec<Item>,
    under_way: JoinSet<Result<(), Failure>>,
    /// The keys of each batch that is under way.
    keys_under_way: HashMap<Id, Vec<KeyValues>>,
    put: u64,
}

/// What an item is told apart by, in the order of the table's keys.
type KeyValues = Vec<AttributeValue>;

impl<'a> Batches<'a> {
    /// Into `table`, whose items are told apart by `keys`.
    pub(super) fn new(reach: &'a Reach, table: &'a str, keys: &'a [Key]) -> Self {
        Self {
            reach,
            table,
            keys,
            items: Vec::new(),
            under_way: JoinSet::new(),
            keys_under_way: HashMap::new(),
            put: 0,
        }
    }

    /// Writes one more item; waits where the server is slower than the stream.
    pub(super) async fn add(&mut self, item: Item) -> Result<(), Failure> {
        if let Some(missing) = self.keys.iter().find(|key| !item.contains_key(&key.attribute_name)) {
            let missing = missing.attribute_name.escape_debug();
            return Err(Failure::malformed(format!("an item has no `{missing}`, which is part of its key")));
        }
        // Of items with one key the later holds: a request must not name both, and batches that are under way end in any order.
        self.wait_for(&key_of(self.keys, &item)).await?;
        let same = |other: &Item| {
            self.keys.iter().all(|key| other.get(&key.attribute_name) == item.get(&key.attribute_name))
        };
        self.put += 1;
        match self.items.iter().position(same) {
            Some(position) => self.items[position] = item,
            None => self.items.push(item),
        }
        if self.items.len() == BATCH { self.send().await } else { Ok(()) }
    }

    /// How many items were written, once all of them are.
    pub(super) async fn finish(mut self) -> Result<u64, Failure> {
        if !self.items.is_empty() {
            self.send().await?;
        }
        while !self.under_way.is_empty() {
            self.join().await?;
        }
        Ok(self.put)
    }

    /// Waits until no item with this key is under way.
    async fn wait_for(&mut self, key: &KeyValues) -> Result<(), Failure> {
        while self.keys_under_way.values().any(|keys| keys.contains(key)) {
            self.join().await?;
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        while self.under_way.len() >= AT_ONCE {
            self.join().await?;
        }
        let items = std::mem::take(&mut self.items);
        let keys = items.iter().map(|item| key_of(self.keys, item)).collect();
        let requests: Result<Vec<WriteRequest>, Failure> = items.into_iter().map(put).collect();
        let (reach, table, requests) = (self.reach.clone(), self.table.to_owned(), requests?);
        let batch = self.under_way.spawn(async move { write(&reach, &table, requests).await });
        self.keys_under_way.insert(batch.id(), keys);
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Failure> {
        let (batch, written) = match self.under_way.join_next_with_id().await {
            None => return Ok(()),
            Some(Ok(ended)) => ended,
            Some(Err(died)) => (died.id(), Err(Failure::Wrong(died.to_string()))),
        };
        self.keys_under_way.remove(&batch);
        written
    }
}

fn key_of(keys: &[Key], item: &Item) -> KeyValues {
    keys.iter().filter_map(|key| item.get(&key.attribute_name).cloned()).collect()
}

fn put(item: Item) -> Result<WriteRequest, Failure> {
    let put = PutRequest::builder().set_item(Some(item)).build();
    let put = put.map_err(|error| Failure::malformed(error.to_string()))?;
    Ok(WriteRequest::builder().put_request(put).build())
}

/// Writes a batch, until the server has taken all of it.
async fn write(reach: &Reach, table: &str, mut requests: Vec<WriteRequest>) -> Result<(), Failure> {
    let mut pauses = PATIENCE.pauses().build();
    loop {
        let sent = requests.len();
        let batch = HashMap::from([(table.to_owned(), requests)]);
        let answer =
            reach.answer(reach.client.batch_write_item().set_request_items(Some(batch)).send()).await?;
        requests = answer.unprocessed_items.unwrap_or_default().into_values().flatten().collect();
        if requests.is_empty() {
            return Ok(());
        }
        if requests.len() < sent {
            pauses = PATIENCE.pauses().build();
        }
        let pause = pauses.next().ok_or(Failure::Throttled)?;
        tracing::debug!(left = requests.len(), ?pause, "the rest of a batch is sent again");
        tokio::time::sleep(pause).await;
    }
}
