//! Documents changed again, many at a time: by `applyOps`, which takes what an oplog tells as it is, or by ordinary commands on a
//! server that has no such command and tells whole documents.

use bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;

use super::{
    super::{COMMAND, Failure, access::Access, answer},
    operation::{Change, Namespace},
};

/// How much is sent at once at most: bytes, unless one document is longer, and changes.
const BATCH: (usize, usize) = (4 * 1024 * 1024, 1000);

/// What becomes of an update of a document that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Missing {
    /// It was read after it was deleted, and is deleted again soon.
    LeftOut,
    /// What it is done to is not what it was done to.
    Refused,
}

/// Changes that wait to be sent, in their order.
pub(in super::super) struct Changes {
    missing: Missing,
    batch: Vec<(Namespace, Change)>,
    length: usize,
}

impl Changes {
    pub fn new(missing: Missing) -> Self {
        Self { missing, batch: Vec::new(), length: 0 }
    }

    /// Adds a change of `length` bytes in the collection `place`.
    pub async fn add(
        &mut self,
        access: &Access,
        place: Namespace,
        change: Change,
        length: usize,
    ) -> Result<(), Failure> {
        self.length += length;
        self.batch.push((place, change));
        match self.length >= BATCH.0 || self.batch.len() >= BATCH.1 {
            true => self.send(access).await,
            false => Ok(()),
        }
    }

    /// Sends what there is.
    pub async fn send(&mut self, access: &Access) -> Result<(), Failure> {
        self.length = 0;
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return Ok(());
        }
        match access.tells_commands() {
            true => self.by_apply_ops(access, &batch).await,
            false => self.by_commands(access, &batch).await,
        }
    }

    async fn by_apply_ops(&self, access: &Access, batch: &[(Namespace, Change)]) -> Result<(), Failure> {
        match apply(access, batch).await {
            // What was done again before the one that failed can be done once more.
            Err(failure) if self.missing == Missing::LeftOut && is_of_a_missing_document(&failure) => {
                for change in batch {
                    match apply(access, std::slice::from_ref(change)).await {
                        Err(failure) if is_of_a_missing_document(&failure) => {}
                        other => other?,
                    }
                }
                Ok(())
            }
            other => other,
        }
    }

    async fn by_commands(&self, access: &Access, batch: &[(Namespace, Change)]) -> Result<(), Failure> {
        let mut rest = batch;
        while let Some(((namespace, change), _)) = rest.split_first() {
            let verb = Verb::of(change);
            let is_alike = |other: &&(Namespace, Change)| other.0 == *namespace && Verb::of(&other.1) == verb;
            let alike = rest.iter().take_while(is_alike).count();
            let (now, later) = rest.split_at(alike);
            let statements =
                now.iter().map(|(_, change)| statement(change)).collect::<Result<Vec<_>, Failure>>()?;
            let sent = statements.len();
            let command = verb.command(&namespace.1, statements);
            let told = answer(COMMAND, access.database(&namespace.0).run_command(command)).await?;
            self.must_be_done(&told, verb, sent)?;
            rest = later;
        }
        Ok(())
    }

    fn must_be_done(&self, told: &Document, verb: Verb, sent: usize) -> Result<(), Failure> {
        if let Some(first) = told.get_array("writeErrors").ok().and_then(|errors| errors.first()) {
            let message = first.as_document().and_then(|error| error.get_str("errmsg").ok());
            let message = message.unwrap_or("it does not say why");
            return Err(Failure::Answer(format!("the server refused a change: {message}")));
        }
        let done = match told.get("n") {
            Some(Bson::Int32(done)) => usize::try_from(*done).unwrap_or(0),
            Some(Bson::Int64(done)) => usize::try_from(*done).unwrap_or(0),
            _ => 0,
        };
        match verb == Verb::Update && self.missing == Missing::Refused && done < sent {
            true => Err(Failure::Answer(diverged(sent - done))),
            false => Ok(()),
        }
    }
}

fn diverged(documents: usize) -> String {
    format!("{documents} documents that the log changes are not there; what was restored is incomplete")
}

/// Code of an update by `applyOps` without its document.
const UPDATE_OPERATION_FAILED: i32 = 117;

fn is_of_a_missing_document(failure: &Failure) -> bool {
    failure.code() == Some(UPDATE_OPERATION_FAILED)
}

async fn apply(access: &Access, batch: &[(Namespace, Change)]) -> Result<(), Failure> {
    let operations: Vec<Document> =
        batch.iter().map(|(namespace, change)| operation(namespace, change)).collect();
    let command = apply_ops(operations, access.version.release());
    let told = answer(COMMAND, access.database("admin").run_command(command)).await?;
    let refused = told.get_array("results").is_ok_and(|all| all.contains(&Bson::Boolean(false)));
    match refused {
        true => Err(Failure::Answer("the server refused a change and does not say why".to_owned())),
        false => Ok(()),
    }
}

/// A server before 6.1 would make up the document that an update misses, if it were not told otherwise; newer ones never do, and
/// know the word only to refuse it (MongoDB's `jstests/core/apply_ops2.js`).
fn apply_ops(operations: Vec<Document>, release: Option<(u32, u32)>) -> Document {
    let mut command = doc! { "applyOps": operations, "bypassDocumentValidation": true };
    if release.is_some_and(|release| release < (6, 1)) {
        command.insert("alwaysUpsert", false);
    }
    command
}

/// As an oplog tells it, without what belongs to the server that told it.
fn operation((database, name): &Namespace, change: &Change) -> Document {
    let namespace = format!("{database}.{name}");
    match change {
        Change::Insert(document) => doc! { "op": "i", "ns": namespace, "o": document },
        Change::Update { of, with } => doc! { "op": "u", "ns": namespace, "o2": of, "o": with },
        Change::Delete(which) => doc! { "op": "d", "ns": namespace, "o": which },
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Update,
    Delete,
}

impl Verb {
    fn of(change: &Change) -> Self {
        match change {
            Change::Insert(_) | Change::Update { .. } => Verb::Update,
            Change::Delete(_) => Verb::Delete,
        }
    }

    fn command(self, collection: &str, statements: Vec<Document>) -> Document {
        match self {
            Verb::Update => {
                doc! { "update": collection, "updates": statements, "bypassDocumentValidation": true }
            }
            Verb::Delete => doc! { "delete": collection, "deletes": statements },
        }
    }
}

fn statement(change: &Change) -> Result<Document, Failure> {
    match change {
        Change::Insert(document) => Ok(doc! { "q": identified(document)?, "u": document, "upsert": true }),
        Change::Update { of, with } => Ok(doc! { "q": identified(of)?, "u": whole(of, with)? }),
        Change::Delete(which) => Ok(doc! { "q": identified(which)?, "limit": 1 }),
    }
}

fn identified(document: &Document) -> Result<Document, Failure> {
    let id = document
        .get("_id")
        .ok_or_else(|| Failure::Answer("a change of a document without _id".to_owned()))?;
    // A pattern or an operator would be one in a filter; of anything else servers look in their index.
    match id {
        Bson::Document(_) | Bson::RegularExpression(_) => Ok(doc! { "_id": { "$eq": id } }),
        plain => Ok(doc! { "_id": plain }),
    }
}

/// The document that an update left. Such a server writes all of it behind `$set`.
fn whole(of: &Document, with: &Document) -> Result<Document, Failure> {
    let partial = || {
        let why =
            "the log tells what was changed in a document, and the server has no applyOps that could do so";
        Failure::Refused(why.to_owned())
    };
    let document = match with.get_document("$set") {
        Ok(document) => document,
        Err(_) if with.keys().all(|key| !key.starts_with('$')) => with,
        Err(_) => return Err(partial()),
    };
    match document.get("_id") == of.get("_id") && of.contains_key("_id") && !with.contains_key("$unset") {
        true => Ok(document.clone()),
        false => Err(partial()),
    }
}

impl Failure {
    /// The code of a refused command.
    pub(in super::super) fn code(&self) -> Option<i32> {
        match self {
            Failure::Server(error) => match error.kind.as_ref() {
                ErrorKind::Command(refused) => Some(refused.code),
                _ => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_becomes_the_whole_document_or_is_refused() {
        let of = doc! { "_id": 1 };
        let document = doc! { "_id": 1, "x": { "y": 2 } };
        assert_eq!(whole(&of, &doc! { "$v": 1, "$set": document.clone() }).unwrap(), document);
        assert_eq!(whole(&of, &document).unwrap(), document);
        for partial in [
            doc! { "$v": 1, "$set": { "x": 2 } },
            doc! { "$v": 1, "$set": { "_id": 2, "x": 2 } },
            doc! { "$v": 2, "diff": { "u": { "x": 2 } } },
            doc! { "$v": 1, "$set": { "_id": 1 }, "$unset": { "x": true } },
            doc! { "x": 2 },
        ] {
            assert!(matches!(whole(&of, &partial), Err(Failure::Refused(_))), "{partial}");
        }
    }

    #[test]
    fn changes_are_told_without_what_belongs_to_the_server_that_told_them() {
        let place = ("shop".to_owned(), "a.b".to_owned());
        let update = Change::Update { of: doc! { "_id": 1 }, with: doc! { "$v": 2, "diff": {} } };
        let expect = doc! { "op": "u", "ns": "shop.a.b", "o2": { "_id": 1 }, "o": { "$v": 2, "diff": {} } };
        assert_eq!(operation(&place, &update), expect);
        let delete = statement(&Change::Delete(doc! { "_id": { "$gt": 0 } })).unwrap();
        assert_eq!(delete, doc! { "q": { "_id": { "$eq": { "$gt": 0 } } }, "limit": 1 });
        let insert = statement(&Change::Insert(doc! { "_id": 7, "x": 1 })).unwrap();
        assert_eq!(insert, doc! { "q": { "_id": 7 }, "u": { "_id": 7, "x": 1 }, "upsert": true });
        assert!(statement(&Change::Insert(doc! { "x": 1 })).is_err());
    }

    #[test]
    fn no_server_makes_up_the_document_that_an_update_misses() {
        for (release, expect) in
            [((4, 4), Some(false)), ((6, 0), Some(false)), ((6, 1), None), ((10, 0), None)]
        {
            assert_eq!(
                apply_ops(Vec::new(), Some(release)).get_bool("alwaysUpsert").ok(),
                expect,
                "{release:?}"
            );
        }
        assert!(!apply_ops(Vec::new(), None).contains_key("alwaysUpsert"));
    }

    #[test]
    fn a_document_that_is_missing_is_only_left_out_where_it_is_deleted_later() {
        let told = doc! { "n": 1, "ok": 1 };
        assert!(Changes::new(Missing::LeftOut).must_be_done(&told, Verb::Update, 2).is_ok());
        assert!(Changes::new(Missing::Refused).must_be_done(&told, Verb::Update, 2).is_err());
        assert!(Changes::new(Missing::Refused).must_be_done(&told, Verb::Delete, 2).is_ok());
        let refused = doc! { "n": 2, "writeErrors": [{ "errmsg": "too long" }] };
        assert!(Changes::new(Missing::LeftOut).must_be_done(&refused, Verb::Update, 2).is_err());
    }
}
