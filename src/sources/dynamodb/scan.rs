//! All items of a table: segments of a scan, some read at once, handed on in their order, so that what did not change between two
//! captures comes in the same place. Reads are strongly consistent.

use std::{collections::VecDeque, mem};

use bytes::Bytes;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinSet,
    time::Instant,
};

use super::{Failure, lines::Line, reach::Reach, value::Item};
use crate::sources::Sink;

/// Bytes of a segment, about: few enough that a whole one may wait in memory while those before it are handed on.
const SEGMENT: u64 = 4 << 20;

/// The most segments of a scan, of those that are a power of two; beyond, segments are larger, and one waits for its turn.
const MOST_SEGMENTS: u64 = 1 << 19;

/// Segments that are read at once.
const AT_ONCE: usize = 4;

/// Pages of a segment that may wait for their turn. A page is a mebibyte at most.
const PAGES: usize = 4;

/// What a segment's reader hands on.
enum Message {
    Page(Page),
    /// All of the segment was read.
    End,
}

/// Lines of items.
struct Page {
    lines: Bytes,
    items: u64,
}

/// Hands all items of `table`, which has about `bytes`, on to `sink`. Returns how many there were.
pub(super) async fn scan(
    reach: &Reach,
    table: &str,
    bytes: u64,
    sink: &mut dyn Sink,
) -> Result<u64, Failure> {
    let total = segments(bytes);
    let mut readers = Readers::new(reach, table, total);
    let mut items = 0;
    while let Some(mut segment) = readers.next() {
        items += hand_on(&mut segment, sink).await?;
    }
    Ok(items)
}

/// How many segments a table of so many bytes is read in. A power of two, so that it seldom changes.
fn segments(bytes: u64) -> i32 {
    let segments = bytes.div_ceil(SEGMENT).clamp(1, MOST_SEGMENTS).next_power_of_two();
    i32::try_from(segments).unwrap_or(i32::MAX)
}

/// The segments, in their order; some of those that come next are read already. Dropping it ends all readers.
struct Readers<'a> {
    reach: &'a Reach,
    table: &'a str,
    total: i32,
    next: i32,
    ahead: VecDeque<Receiver<Result<Message, Failure>>>,
    tasks: JoinSet<()>,
}

impl<'a> Readers<'a> {
    fn new(reach: &'a Reach, table: &'a str, total: i32) -> Self {
        Self { reach, table, total, next: 0, ahead: VecDeque::new(), tasks: JoinSet::new() }
    }

    fn next(&mut self) -> Option<Receiver<Result<Message, Failure>>> {
        // What ended was heard of by its channel: only its remains are cleared away.
        while self.tasks.try_join_next().is_some() {}
        while self.ahead.len() < AT_ONCE && self.next < self.total {
            let (sender, receiver) = mpsc::channel(PAGES);
            let segment = Segment {
                reach: self.reach.clone(),
                table: self.table.to_owned(),
                number: self.next,
                total: self.total,
            };
            self.tasks.spawn(async move { segment.report(sender).await });
            self.ahead.push_back(receiver);
            self.next += 1;
        }
        self.ahead.pop_front()
    }
}

/// Hands a segment on, as a run of its own. Only its last message proves that it was read whole.
async fn hand_on(
    segment: &mut Receiver<Result<Message, Failure>>,
    sink: &mut dyn Sink,
) -> Result<u64, Failure> {
    let (mut items, mut begun) = (0, false);
    loop {
        match segment.recv().await {
            Some(Ok(Message::Page(page))) => {
                if !mem::replace(&mut begun, true) {
                    sink.run(None).await?;
                }
                sink.write(page.lines).await?;
                items += page.items;
            }
            Some(Ok(Message::End)) => return Ok(items),
            Some(Err(failure)) => return Err(failure),
            None => return Err(Failure::Wrong("reading a segment ended without a result".to_owned())),
        }
    }
}

struct Segment {
    reach: Reach,
    table: String,
    number: i32,
    total: i32,
}

impl Segment {
    async fn report(self, sender: Sender<Result<Message, Failure>>) {
        let end = self.read(&sender).await.map(|()| Message::End);
        // Nobody listens any more where the capture has failed already.
        let _ = sender.send(end).await;
    }

    async fn read(&self, sender: &Sender<Result<Message, Failure>>) -> Result<(), Failure> {
        let mut from: Option<Item> = None;
        let (mut keys, mut gave) = (Keys::default(), Instant::now());
        loop {
            let scan = self.reach.client.scan().table_name(&self.table).consistent_read(true);
            let scan = scan.segment(self.number).total_segments(self.total).set_exclusive_start_key(from);
            let answer = self.reach.answer(scan.send()).await?;
            let page = page(answer.items(), answer.count())?;
            if page.items > 0 {
                if sender.send(Ok(Message::Page(page))).await.is_err() {
                    return Ok(());
                }
                gave = Instant::now();
            }
            let Some(key) = answer.last_evaluated_key.filter(|key| !key.is_empty()) else { return Ok(()) };
            if gave.elapsed() >= self.reach.stall {
                return Err(Failure::Wrong("the server gives pages without items and no end".to_owned()));
            }
            keys.must_be_new(&key)?;
            from = Some(key);
        }
    }
}

/// The keys where a scan goes on. None comes twice but where it would never end: each is compared with one that came before, which
/// is chosen anew whenever twice as many came, so that any circle is found (R. P. Brent, "An improved Monte Carlo factorization
/// algorithm", 1980).
#[derive(Default)]
struct Keys {
    before: Option<Item>,
    came: u64,
    next_choice: u64,
}

impl Keys {
    fn must_be_new(&mut self, key: &Item) -> Result<(), Failure> {
        if self.before.as_ref() == Some(key) {
            return Err(Failure::Wrong("the server's scan goes on where it was before".to_owned()));
        }
        if self.came == self.next_choice {
            self.before = Some(key.clone());
            self.next_choice = self.came.saturating_mul(2).max(1);
        }
        self.came += 1;
        Ok(())
    }
}

/// Lines of what a server gave, which must be as many items as it says.
fn page(items: &[Item], count: i32) -> Result<Page, Failure> {
    if usize::try_from(count) != Ok(items.len()) {
        return Err(Failure::Wrong(format!("the server says {count} items and gives {}", items.len())));
    }
    let mut lines = Vec::new();
    for item in items {
        Line::Item(item).write(&mut lines)?;
    }
    Ok(Page { lines: lines.into(), items: items.len() as u64 })
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::AttributeValue;

    use super::*;

    #[test]
    fn the_number_of_segments_grows_with_the_table_and_seldom_changes() {
        let mib = |n: u64| n << 20;
        let cases =
            [(0, 1), (1, 1), (mib(4), 1), (mib(5), 2), (mib(100), 32), (mib(127), 32), (mib(129), 64)];
        for (bytes, expected) in cases {
            assert_eq!(segments(bytes), expected, "{bytes}");
        }
        assert_eq!(segments(u64::MAX), 1 << 19);
    }

    #[test]
    fn a_scan_that_goes_in_a_circle_is_found_and_one_that_goes_on_is_not() {
        let key = |n: u64| Item::from([("id".to_owned(), AttributeValue::N(n.to_string()))]);
        for (before, length) in [(0, 1), (0, 2), (5, 3), (100, 7), (3, 100)] {
            let mut keys = Keys::default();
            let place = |n| if n < before { n } else { before + (n - before) % length };
            let found = (0..1000).position(|n| keys.must_be_new(&key(place(n))).is_err());
            assert!(
                found.is_some_and(|found| found as u64 >= before + length),
                "{before}, {length}: {found:?}"
            );
        }
        let mut keys = Keys::default();
        assert!((0..10_000).all(|n| keys.must_be_new(&key(n)).is_ok()));
    }

    #[test]
    fn a_page_that_lacks_items_is_none() {
        assert!(page(&[Item::new()], 2).is_err());
        assert!(page(&[], -1).is_err());
        assert_eq!(page(&[Item::new()], 1).unwrap().items, 1);
    }
}
