//! The way back of a log: over the server, or into a file for `mongorestore --oplogReplay`.

use std::{fs, io, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use bson::{Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use bytes::Bytes;

use super::{
    super::{
        ANSWER, COMMAND, Failure,
        access::Access,
        answer, depth,
        metadata::portable,
        reader::{Item, Items, Stream, damaged},
    },
    Changes, Missing, Operation, Replaced, Unknown,
    entry::{self, Mark},
};
use crate::{
    artifact::{position::LogPosition, until::Until},
    sources::Replay,
};

/// The file of the entries, beside the archive.
const FILE: &str = "oplog.bson";

/// Replays over the server.
pub(in super::super) async fn over_original(
    access: &Access,
    stream: Stream<'_>,
    replay: &Replay,
) -> Result<String, Failure> {
    must_be_of_all_databases(access)?;
    let mut entries = Entries::read(stream, replay)?;
    let mut changes = Changes::new(Missing::Refused);
    while let Some(raw) = entries.next().await? {
        let entry = depth::decoded(&raw).map_err(|error| damaged(&error.to_string()))?;
        let unknown =
            |Unknown(what)| Failure::Refused(format!("the log can't be replayed any further: {what}"));
        for operation in Operation::read(&entry).map_err(unknown)? {
            apply(access, operation, &mut changes, raw.as_bytes().len()).await?;
        }
    }
    changes.send(access).await?;
    let until = replay.until.as_ref().map_or_else(String::new, |until| format!(" as of {until}"));
    Ok(format!("the databases of the archive{until}"))
}

/// Refuses a replay over the server that is not declared as a whole, or whose user may not do what the log tells. Nothing is changed.
pub(in super::super) async fn must_be_replayable(access: &Access) -> Result<(), Failure> {
    must_be_of_all_databases(access)?;
    if access.tells_commands() {
        // Without operations it does nothing, and is refused to whoever may not run it.
        answer(ANSWER, access.database("admin").run_command(doc! { "applyOps": [] })).await?;
    }
    Ok(())
}

fn must_be_of_all_databases(access: &Access) -> Result<(), Failure> {
    if access.databases.is_empty() {
        return Ok(());
    }
    let why = "the log tells of all databases, and some are declared; leave `databases` out, or restore to a folder";
    Err(Failure::Refused(why.to_owned()))
}

async fn apply(
    access: &Access,
    operation: Operation,
    changes: &mut Changes,
    length: usize,
) -> Result<(), Failure> {
    if let Operation::Change { namespace, change, .. } = operation {
        return changes.add(access, namespace, change, length).await;
    }
    changes.send(access).await?;
    for (database, command) in commands(operation) {
        match answer(COMMAND, access.database(&database).run_command(command.clone())).await {
            Err(failure) if is_gone_already(&command, failure.code()) => {}
            done => drop(done?),
        }
    }
    Ok(())
}

/// Codes of a command on a collection, or an index, that is not there.
const NAMESPACE_NOT_FOUND: i32 = 26;
const INDEX_NOT_FOUND: i32 = 27;

/// Whether what a command drops was not there.
fn is_gone_already(command: &Document, code: Option<i32>) -> bool {
    match code {
        Some(NAMESPACE_NOT_FOUND) => command.contains_key("drop"),
        Some(INDEX_NOT_FOUND) => command.contains_key("dropIndexes"),
        _ => false,
    }
}

/// What a server is told so that it does again what the log tells.
fn commands(operation: Operation) -> Vec<(String, Document)> {
    let one = |database: String, command| vec![(database, command)];
    match operation {
        Operation::Change { .. } => Vec::new(),
        Operation::Create { namespace: (database, name), options, .. } => {
            let mut command = doc! { "create": name };
            command.extend(options.into_iter().filter(|(key, _)| key != "autoIndexId"));
            one(database, command)
        }
        Operation::Drop { namespace: (database, name), .. } | Operation::DropView((database, name)) => {
            one(database, doc! { "drop": name })
        }
        Operation::CreateIndexes { namespace: (database, name), indexes, .. } => {
            let indexes: Vec<Document> = indexes.iter().map(portable).collect();
            one(database, doc! { "createIndexes": name, "indexes": indexes })
        }
        Operation::DropIndex { namespace: (database, name), index, .. } => {
            one(database, doc! { "dropIndexes": name, "index": index })
        }
        Operation::Modify { namespace: (database, _), command } => one(database, command),
        Operation::Rename { from, to, replaced, .. } => {
            let drop = (to.0.clone(), doc! { "drop": &to.1 });
            let names = (format!("{}.{}", from.0, from.1), format!("{}.{}", to.0, to.1));
            let rename = ("admin".to_owned(), doc! { "renameCollection": names.0, "to": names.1 });
            match replaced {
                Replaced::Dropped => vec![drop, rename],
                Replaced::Nothing => vec![rename],
            }
        }
        Operation::DropDatabase(database) => one(database, doc! { "dropDatabase": 1 }),
    }
}

/// Puts the entries beside the archive, behind those that are there.
pub(in super::super) async fn to_folder(
    stream: Stream<'_>,
    folder: &Path,
    replay: &Replay,
) -> Result<String, Failure> {
    let path = folder.join(FILE);
    let unwritable = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut options = fs::OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(&path).map_err(unwritable)?;
    let mut file = io::BufWriter::new(file);
    let mut entries = Entries::read(stream, replay)?;
    while let Some(entry) = entries.next().await? {
        file.write_all(entry.as_bytes()).map_err(unwritable)?;
    }
    let file = file.into_inner().map_err(|error| unwritable(error.into_error()))?;
    file.sync_all().map_err(unwritable)?;
    Ok(format!("{}: restore the archive, then replay {FILE}", folder.display()))
}

/// The entries of a log that are to be replayed.
struct Entries<'a> {
    items: Items<'a>,
    limits: Limits,
    /// Whether the transaction happened within the limits of which the next entries are parts.
    transaction: Option<bool>,
    /// How many there were.
    count: u64,
}

/// What is replayed.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Only what is behind this entry.
    behind: Timestamp,
    /// Only what is before this one, which need not be there.
    before: Option<Timestamp>,
}

impl Limits {
    fn of(replay: &Replay) -> Result<Self, Failure> {
        let from = LogPosition::parse(&replay.from).and_then(|place| stamp(&place));
        let behind = from.ok_or_else(|| no_place(&replay.from))?;
        let before = replay.until.as_ref().map(end).transpose()?;
        Ok(Self { behind, before })
    }

    fn hold(self, stamp: Timestamp) -> bool {
        stamp > self.behind && self.before.is_none_or(|before| stamp < before)
    }
}

fn end(until: &Until) -> Result<Timestamp, Failure> {
    match until {
        Until::Moment(at) => {
            // Before 1970 and after 2106 there is nothing in an oplog.
            let time = u32::try_from(at.as_second().max(0)).unwrap_or(u32::MAX);
            Ok(Timestamp { time, increment: 0 })
        }
        Until::Place(place) => {
            let stamp = place.position().and_then(|place| stamp(&place));
            stamp.ok_or_else(|| no_place(&place.to_string()))
        }
        Until::Transaction(_) | Until::Named(_) => Err(Failure::Refused(format!("an oplog has no {until}"))),
    }
}

fn stamp(place: &LogPosition<'_>) -> Option<Timestamp> {
    match place {
        LogPosition::Oplog(place) => Some(Timestamp { time: place.time, increment: place.increment }),
        _ => None,
    }
}

fn no_place(text: &str) -> Failure {
    Failure::Refused(format!("{text:?} is no place in an oplog"))
}

impl<'a> Entries<'a> {
    fn read(stream: Stream<'a>, replay: &Replay) -> Result<Self, Failure> {
        let limits = Limits::of(replay)?;
        Ok(Self { items: Items::of(stream), limits, transaction: None, count: 0 })
    }

    /// The next within the limits; `None` at the end, which must be where the log says that it is.
    async fn next(&mut self) -> Result<Option<RawDocumentBuf>, Failure> {
        while let Some(bytes) = self.item().await? {
            let entry = RawDocument::from_bytes(&bytes).map_err(|error| damaged(&error.to_string()))?;
            let holds = self.limits.hold(entry::stamp(entry)?);
            match Mark::of(entry) {
                Some(Mark::End { entries }) => return self.end(entries).await.map(|()| None),
                Some(Mark::Transaction) => self.transaction = Some(holds),
                None => {
                    let is_part = is_part(entry);
                    let wanted = if is_part || ends_transaction(entry) { self.transaction } else { None };
                    if is_part && wanted.is_none() {
                        return Err(damaged("a part of a transaction that is not told to have happened"));
                    }
                    if !is_part {
                        self.transaction = None;
                    }
                    if wanted.unwrap_or(holds) {
                        self.count += 1;
                        return Ok(Some(entry.to_owned()));
                    }
                }
            }
            self.count += 1;
        }
        Err(Failure::Incomplete("the log ends before its end; what was restored is incomplete".to_owned()))
    }

    async fn item(&mut self) -> Result<Option<Bytes>, Failure> {
        match self.items.next().await? {
            Some(Item::Document(bytes)) => Ok(Some(bytes)),
            Some(Item::Terminator) => Err(damaged("the end of a block, which no log has")),
            None => Ok(None),
        }
    }

    async fn end(&mut self, entries: u64) -> Result<(), Failure> {
        match (entries == self.count, self.item().await?) {
            (true, None) => Ok(()),
            (false, _) => Err(damaged(&format!("{} entries, and {entries} are told", self.count))),
            (true, Some(_)) => Err(damaged("entries behind its end")),
        }
    }
}

fn is_part(entry: &RawDocument) -> bool {
    matches!(entry::Step::of(entry), Ok(entry::Step::Part))
}

fn ends_transaction(entry: &RawDocument) -> bool {
    matches!(entry::Step::of(entry), Ok(entry::Step::Decided { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 2 }
    }

    fn insert(time: u32) -> Document {
        doc! { "ts": at(time), "op": "i", "ns": "shop.a", "o": { "_id": i64::from(time) } }
    }

    fn part(time: u32, more: Document) -> Document {
        let mut command = doc! { "applyOps": [] };
        command.extend(more);
        let previous = doc! { "ts": at(time - 1), "t": 1_i64 };
        let (lsid, number) = (doc! { "id": 1 }, 4_i64);
        doc! { "ts": at(time), "op": "c", "ns": "admin.$cmd", "o": command, "lsid": lsid, "txnNumber": number, "prevOpTime": previous }
    }

    fn log(entries: &[Document]) -> Vec<u8> {
        let mut all = entries.to_vec();
        all.push(entry::end(at(99), entries.len() as u64));
        all.iter().flat_map(|entry| entry.to_vec().unwrap()).collect()
    }

    async fn replayed(mut bytes: &[u8], from: u32, until: Option<i64>) -> Result<Vec<u32>, Failure> {
        let until = until.map(|until| Until::Moment(jiff::Timestamp::from_second(until).unwrap()));
        let replay = Replay { from: format!("oplog {from}:2 of x"), until };
        let mut entries = Entries::read(&mut bytes, &replay)?;
        let mut stamps = Vec::new();
        while let Some(entry) = entries.next().await? {
            stamps.push(entry::stamp(&entry)?.time);
        }
        Ok(stamps)
    }

    #[tokio::test]
    async fn what_was_before_or_comes_after_is_left_out() {
        let log = log(&[insert(5), insert(6), insert(7), insert(8)]);
        assert_eq!(replayed(&log, 5, None).await.unwrap(), [6, 7, 8]);
        assert_eq!(replayed(&log, 5, Some(8)).await.unwrap(), [6, 7]);
        assert_eq!(replayed(&log, 5, Some(6)).await.unwrap(), [0_u32; 0]);
        assert_eq!(replayed(&log, 8, None).await.unwrap(), [0_u32; 0]);
    }

    #[test]
    fn a_replay_ends_before_a_second_or_a_place_and_nowhere_else() {
        let place = |text: &str| Until::Place(text.parse().unwrap());
        assert_eq!(
            end(&Until::Moment("1970-01-01T00:00:09.9Z".parse().unwrap())).unwrap(),
            Timestamp { time: 9, increment: 0 }
        );
        assert_eq!(end(&place("oplog 7:8 of x")).unwrap(), Timestamp { time: 7, increment: 8 });
        assert!(matches!(end(&place("0/300")), Err(Failure::Refused(_))));
        assert!(matches!(end(&Until::Named("release".parse().unwrap())), Err(Failure::Refused(_))));
    }

    #[tokio::test]
    async fn a_transaction_counts_as_a_whole_when_it_happened() {
        let partial = doc! { "partialTxn": true };
        let all = [insert(4), entry::transaction(at(7)), part(3, partial), part(7, doc! {}), insert(8)];
        assert_eq!(replayed(&log(&all), 4, None).await.unwrap(), [3, 7, 8], "also what stood before the log");
        assert_eq!(replayed(&log(&all), 4, Some(7)).await.unwrap(), [0_u32; 0], "it had not happened yet");
        assert_eq!(replayed(&log(&all), 7, None).await.unwrap(), [8], "it is in the data already");
        let lost = [part(3, doc! { "partialTxn": true })];
        assert!(matches!(replayed(&log(&lost), 0, None).await, Err(Failure::Incomplete(_))));
    }

    #[tokio::test]
    async fn a_log_that_ends_anywhere_before_its_end_is_not_whole() {
        let whole = log(&[insert(5), insert(6)]);
        for length in 0..whole.len() {
            replayed(&whole[..length], 0, None).await.expect_err("it is cut short");
        }
        let one_less = [insert(5).to_vec().unwrap(), entry::end(at(9), 2).to_vec().unwrap()].concat();
        assert!(matches!(replayed(&one_less, 0, None).await, Err(Failure::Incomplete(_))));
        let more = [whole.clone(), whole].concat();
        assert!(matches!(replayed(&more, 0, None).await, Err(Failure::Incomplete(_))));
    }

    #[test]
    fn only_what_is_dropped_may_be_gone_already() {
        let (collection, index) = (doc! { "drop": "a" }, doc! { "dropIndexes": "a", "index": "x_1" });
        assert!(is_gone_already(&collection, Some(NAMESPACE_NOT_FOUND)));
        assert!(is_gone_already(&index, Some(INDEX_NOT_FOUND)));
        assert!(!is_gone_already(&index, Some(NAMESPACE_NOT_FOUND)), "its collection must be there");
        assert!(!is_gone_already(&doc! { "createIndexes": "a" }, Some(INDEX_NOT_FOUND)));
        assert!(!is_gone_already(&collection, None));
    }

    #[test]
    fn a_rename_over_another_collection_drops_that_first() {
        let name = |name: &str| ("shop".to_owned(), name.to_owned());
        let rename =
            |replaced| Operation::Rename { from: name("a"), to: name("b"), collection: None, replaced };
        let drop = ("shop".to_owned(), doc! { "drop": "b" });
        let renamed = ("admin".to_owned(), doc! { "renameCollection": "shop.a", "to": "shop.b" });
        assert_eq!(commands(rename(Replaced::Dropped)), [drop, renamed.clone()]);
        assert_eq!(commands(rename(Replaced::Nothing)), [renamed]);
        let index = doc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
        let created =
            Operation::CreateIndexes { namespace: name("a"), collection: None, indexes: vec![index] };
        let expect = doc! { "createIndexes": "a", "indexes": [{ "key": { "x": 1 }, "name": "x_1" }] };
        assert_eq!(commands(created), [("shop".to_owned(), expect)]);
    }
}
