//! Items that are written in batches, some at once. What the server does not take is sent again, more and more slowly.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use backon::BackoffBuilder;
use tokio::task::JoinSet;

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
    put: u64,
}

impl<'a> Batches<'a> {
    /// Into `table`, whose items are told apart by `keys`.
    pub(super) fn new(reach: &'a Reach, table: &'a str, keys: &'a [Key]) -> Self {
        Self { reach, table, keys, items: Vec::new(), under_way: JoinSet::new(), put: 0 }
    }

    /// Writes one more item; waits where the server is slower than the stream.
    pub(super) async fn add(&mut self, item: Item) -> Result<(), Failure> {
        if let Some(missing) = self.keys.iter().find(|key| !item.contains_key(&key.attribute_name)) {
            let missing = missing.attribute_name.escape_debug();
            return Err(Failure::malformed(format!("an item has no `{missing}`, which is part of its key")));
        }
        // A request must not name a key twice. A scan gives an item twice where it moved meanwhile: the later one holds.
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

    async fn send(&mut self) -> Result<(), Failure> {
        while self.under_way.len() >= AT_ONCE {
            self.join().await?;
        }
        let requests: Result<Vec<WriteRequest>, Failure> =
            std::mem::take(&mut self.items).into_iter().map(put).collect();
        let (reach, table, requests) = (self.reach.clone(), self.table.to_owned(), requests?);
        self.under_way.spawn(async move { write(&reach, &table, requests).await });
        Ok(())
    }

    async fn join(&mut self) -> Result<(), Failure> {
        match self.under_way.join_next().await {
            None => Ok(()),
            Some(done) => done.unwrap_or_else(|died| Err(Failure::Wrong(died.to_string()))),
        }
    }
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
