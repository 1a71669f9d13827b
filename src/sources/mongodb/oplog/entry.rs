//! Entries of an oplog as they are read: when they happened, and what becomes of them in a log.
//!
//! Source: MongoDB's `src/mongo/db/repl/oplog_entry.idl` and mongo-tools' `common/txn`. A large or prepared transaction is
//! several entries, each of which names the one before it; it happened only where and when the last of them tells so.

use bson::{Document, RawBsonRef, RawDocument, Timestamp, doc};

use super::super::{Failure, catalog::OWN};

/// When an entry happened.
pub(super) fn stamp(entry: &RawDocument) -> Result<Timestamp, Failure> {
    entry.get_timestamp("ts").map_err(|error| unreadable(&error))
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It changes nothing that is captured.
    Nothing,
    /// It stands alone.
    Whole,
    /// A part of a transaction of which it is not known yet whether it happens.
    Part,
    /// A transaction happens, of which this one and those before are parts.
    Decided {
        /// The part before it.
        after: Timestamp,
    },
}

impl Step {
    /// Of an entry.
    pub fn of(entry: &RawDocument) -> Result<Self, Failure> {
        let operation = entry.get_str("op").map_err(|error| unreadable(&error))?;
        if operation == "c" {
            return Self::of_command(entry);
        }
        let namespace = entry.get_str("ns").map_err(|error| unreadable(&error))?;
        match operation == "n" || OWN.contains(&database(namespace)) {
            true => Ok(Step::Nothing),
            false => Ok(Step::Whole),
        }
    }

    fn of_command(entry: &RawDocument) -> Result<Self, Failure> {
        let command = entry.get_document("o").map_err(|error| unreadable(&error))?;
        let namespace = entry.get_str("ns").map_err(|error| unreadable(&error))?;
        let name = match command.iter().next() {
            Some(Ok((name, _))) => name.as_str(),
            _ => return Err(Failure::Answer("an entry of the oplog is a command without a name".to_owned())),
        };
        let is_set = |key: &str| command.get_bool(key).unwrap_or(false);
        match (name, previous(entry)?) {
            ("abortTransaction", _) => Ok(Step::Nothing),
            ("commitTransaction", Some(after)) => Ok(Step::Decided { after }),
            ("applyOps", _) if is_set("partialTxn") || is_set("prepare") => Ok(Step::Part),
            ("applyOps", Some(after)) if is_of_a_transaction(entry) => Ok(Step::Decided { after }),
            ("applyOps", _) => Ok(Step::Whole),
            _ if OWN.contains(&database(namespace)) => Ok(Step::Nothing),
            _ => Ok(Step::Whole),
        }
    }
}

/// Retried writes are groups of entries as well, which name those before them and yet stand alone.
fn is_of_a_transaction(entry: &RawDocument) -> bool {
    let is_there = |key| matches!(entry.get(key), Ok(Some(_)));
    let stands_alone = matches!(entry.get("multiOpType"), Ok(Some(RawBsonRef::Int32(1))));
    is_there("lsid") && is_there("txnNumber") && !stands_alone
}

/// The entry before it of the same transaction, where there is one.
pub(super) fn previous(entry: &RawDocument) -> Result<Option<Timestamp>, Failure> {
    match entry.get("prevOpTime") {
        Ok(Some(RawBsonRef::Document(previous))) => {
            let stamp = stamp(previous)?;
            Ok((stamp.time != 0).then_some(stamp))
        }
        _ => Ok(None),
    }
}

/// The database of a namespace.
pub(super) fn database(namespace: &str) -> &str {
    namespace.split_once('.').map_or(namespace, |(database, _)| database)
}

/// What an entry tells of some databases; `None` where that is nothing.
pub(super) fn of_databases(entry: Document, databases: &[String]) -> Option<Document> {
    let is_declared = |namespace: &str| databases.iter().any(|declared| declared == database(namespace));
    let mut entry = entry;
    if let Some(nested) =
        entry.get_document_mut("o").ok().and_then(|command| command.get_array_mut("applyOps").ok())
    {
        nested.retain(|operation| {
            let namespace = operation.as_document().and_then(|operation| operation.get_str("ns").ok());
            namespace.is_some_and(is_declared)
        });
        return Some(entry);
    }
    let is_end = entry.get_document("o").is_ok_and(|command| command.contains_key("commitTransaction"));
    (is_end || entry.get_str("ns").is_ok_and(is_declared)).then_some(entry)
}

/// Stands before the entries of a transaction that happened at `stamp`. To other readers it is nothing.
pub(super) fn transaction(stamp: Timestamp) -> Document {
    nothing(stamp, doc! { "msg": TRANSACTION })
}

/// Stands at the end of a log: behind it there is no more, and before it so many entries, with those that are nothing.
pub(super) fn end(stamp: Timestamp, entries: u64) -> Document {
    let entries = i64::try_from(entries).unwrap_or(i64::MAX);
    nothing(stamp, doc! { "msg": END, "entries": entries })
}

const TRANSACTION: &str = "backstay: a transaction";
const END: &str = "backstay: the end of the log";

fn nothing(stamp: Timestamp, what: Document) -> Document {
    doc! { "ts": stamp, "t": 1_i64, "v": 2_i64, "op": "n", "ns": "", "o": what }
}

/// What a log says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Transaction,
    End { entries: u64 },
}

impl Mark {
    /// The mark that an entry is.
    pub fn of(entry: &RawDocument) -> Option<Self> {
        let what = entry.get_document("o").ok().filter(|_| entry.get_str("op").is_ok_and(|op| op == "n"))?;
        match what.get_str("msg").ok()? {
            TRANSACTION => Some(Mark::Transaction),
            END => Some(Mark::End { entries: what.get_i64("entries").ok()?.try_into().ok()? }),
            _ => None,
        }
    }
}

pub(super) fn unreadable(why: &dyn std::fmt::Display) -> Failure {
    Failure::Answer(format!("an entry of the oplog can't be read: {why}"))
}

#[cfg(test)]
mod tests {
    use bson::RawDocumentBuf;

    use super::*;

    fn raw(entry: &Document) -> RawDocumentBuf {
        RawDocumentBuf::try_from(entry).unwrap()
    }

    fn at(time: u32) -> Timestamp {
        Timestamp { time, increment: 1 }
    }

    fn command(command: Document, more: Document) -> Document {
        let mut entry = doc! { "ts": at(9), "op": "c", "ns": "admin.$cmd", "o": command };
        entry.extend(more);
        entry
    }

    fn in_transaction(before: u32) -> Document {
        doc! { "lsid": { "id": 1 }, "txnNumber": 4_i64, "prevOpTime": { "ts": at(before), "t": 1_i64 } }
    }

    #[test]
    fn a_transaction_happens_where_its_last_entry_stands() {
        let first = doc! { "lsid": { "id": 1 }, "txnNumber": 4_i64, "prevOpTime": { "ts": Timestamp { time: 0, increment: 0 }, "t": -1_i64 } };
        let retried = {
            let mut more = in_transaction(5);
            more.insert("multiOpType", 1);
            more
        };
        for (entry, expect) in [
            (command(doc! { "applyOps": [], "partialTxn": true }, first.clone()), Step::Part),
            (command(doc! { "applyOps": [], "prepare": true }, in_transaction(5)), Step::Part),
            (
                command(doc! { "applyOps": [], "count": 9_i64 }, in_transaction(5)),
                Step::Decided { after: at(5) },
            ),
            (command(doc! { "commitTransaction": 1 }, in_transaction(6)), Step::Decided { after: at(6) }),
            (command(doc! { "abortTransaction": 1 }, in_transaction(6)), Step::Nothing),
            (command(doc! { "applyOps": [] }, first), Step::Whole),
            (command(doc! { "applyOps": [] }, retried), Step::Whole),
            (command(doc! { "applyOps": [] }, doc! {}), Step::Whole),
            (doc! { "op": "c", "ns": "shop.$cmd", "o": { "drop": "a" } }, Step::Whole),
            (doc! { "op": "c", "ns": "config.$cmd", "o": { "drop": "a" } }, Step::Nothing),
            (doc! { "op": "i", "ns": "shop.a", "o": {} }, Step::Whole),
            (doc! { "op": "u", "ns": "config.transactions", "o": {} }, Step::Nothing),
            (doc! { "op": "i", "ns": "admin.system.users", "o": {} }, Step::Nothing),
            (doc! { "op": "n", "ns": "", "o": { "msg": "periodic noop" } }, Step::Nothing),
        ] {
            assert_eq!(Step::of(&raw(&entry)).unwrap(), expect, "{entry}");
        }
        assert!(Step::of(&raw(&doc! { "op": "c", "ns": "a.$cmd", "o": {} })).is_err());
        assert!(Step::of(&raw(&doc! { "ts": at(1) })).is_err());
    }

    #[test]
    fn only_what_happened_in_the_declared_databases_is_kept() {
        let declared = ["shop".to_owned()];
        let nested = |ns: &str| doc! { "op": "i", "ns": ns, "o": { "_id": 1 } };
        let all = command(doc! { "applyOps": [nested("shop.a"), nested("shopping.a")] }, in_transaction(5));
        let kept = of_databases(all, &declared).unwrap();
        let kept = kept.get_document("o").unwrap().get_array("applyOps").unwrap();
        assert_eq!(*kept, [nested("shop.a").into()]);
        assert!(of_databases(nested("shop.a"), &declared).is_some());
        assert_eq!(of_databases(nested("shopping.a"), &declared), None);
        assert!(of_databases(command(doc! { "commitTransaction": 1 }, doc! {}), &declared).is_some());
    }

    #[test]
    fn marks_are_told_from_what_others_wrote() {
        assert_eq!(Mark::of(&raw(&transaction(at(1)))), Some(Mark::Transaction));
        assert_eq!(Mark::of(&raw(&end(at(1), 7))), Some(Mark::End { entries: 7 }));
        assert_eq!(Mark::of(&raw(&doc! { "op": "n", "o": { "msg": "periodic noop" } })), None);
        assert_eq!(Mark::of(&raw(&doc! { "op": "i", "o": { "msg": END, "entries": 7_i64 } })), None);
    }
}
