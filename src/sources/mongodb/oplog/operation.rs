//! What an entry of an oplog does, for any server that is told to do it again.
//!
//! Source: MongoDB's `src/mongo/db/repl/oplog.cpp` and mongo-tools' `mongorestore/oplog.go`. Commands are made again as ordinary
//! ones: newer servers take few of them the way the oplog tells them.

use bson::{Bson, Document};

use super::{
    super::{catalog::OWN, metadata::is_reserved},
    entry,
};

/// The names of a database and of a collection in it.
pub(super) type Namespace = (String, String);

/// What is done to one collection or database.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Operation {
    Change {
        namespace: Namespace,
        collection: Option<String>,
        change: Change,
    },
    Create {
        namespace: Namespace,
        collection: Option<String>,
        options: Document,
    },
    Drop {
        namespace: Namespace,
        collection: Option<String>,
    },
    /// Of the definition of a view, which has no documents.
    DropView(Namespace),
    CreateIndexes {
        namespace: Namespace,
        collection: Option<String>,
        indexes: Vec<Document>,
    },
    /// The name of an index, or `*`. It may not be there: a build that was aborted is told like this as well.
    DropIndex {
        namespace: Namespace,
        collection: Option<String>,
        index: String,
    },
    /// The command, whose first key is `collMod`.
    Modify {
        namespace: Namespace,
        command: Document,
    },
    Rename {
        from: Namespace,
        to: Namespace,
        collection: Option<String>,
        replaced: Replaced,
    },
    DropDatabase(String),
}

/// What is done to a document.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Change {
    Insert(Document),
    Update { of: Document, with: Document },
    Delete(Document),
}

/// What was there under a collection's new name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Replaced {
    Nothing,
    Dropped,
}

/// An entry that can't be made again, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Unknown(pub String);

impl Operation {
    /// What an entry does, in this order; nothing where it concerns the engine's own databases only.
    pub fn read(entry: &Document) -> Result<Vec<Self>, Unknown> {
        let text = |key| entry.get_str(key).map_err(|error| Unknown(format!("{key}: {error}")));
        let (operation, namespace) = (text("op")?, text("ns")?);
        let command = || entry.get_document("o").map_err(|error| Unknown(format!("o: {error}")));
        if operation == "n" {
            return Ok(Vec::new());
        }
        if let Ok(nested) = command()?.get_array("applyOps")
            && operation == "c"
        {
            return nested_in(nested);
        }
        if OWN.contains(&entry::database(namespace)) {
            return Ok(Vec::new());
        }
        let collection = uuid(entry.get("ui"));
        let (database, name) = split(namespace)?;
        match operation {
            "c" => of_command(database, command()?, collection),
            _ if name == VIEWS => of_view(database, operation, command()?).map(|it| vec![it]),
            _ if is_reserved(&name) => Err(Unknown(format!("{namespace} is the engine's own"))),
            _ => {
                let change = match operation {
                    "i" => Change::Insert(command()?.clone()),
                    "d" => Change::Delete(command()?.clone()),
                    "u" => {
                        let of = entry.get_document("o2").map_err(|error| Unknown(format!("o2: {error}")))?;
                        Change::Update { of: of.clone(), with: command()?.clone() }
                    }
                    other => return Err(Unknown(format!("an entry of the kind {other:?}"))),
                };
                Ok(vec![Operation::Change { namespace: (database, name), collection, change }])
            }
        }
    }
}

/// The collection in which servers keep the definitions of a database's views.
const VIEWS: &str = "system.views";

fn nested_in(nested: &[Bson]) -> Result<Vec<Operation>, Unknown> {
    let mut all = Vec::new();
    for operation in nested {
        let operation =
            operation.as_document().ok_or_else(|| Unknown("a part of applyOps is no document".to_owned()))?;
        if operation.get_document("o").is_ok_and(|command| command.contains_key("applyOps"))
            && operation.get_str("op").is_ok_and(|op| op == "c")
        {
            return Err(Unknown("applyOps within applyOps".to_owned()));
        }
        all.extend(Operation::read(operation)?);
    }
    Ok(all)
}

/// Commands that change nothing: of builds of indexes the end counts, and of transactions their parts.
const WITHOUT_EFFECT: [&str; 4] = ["startIndexBuild", "commitTransaction", "abortTransaction", "dbCheck"];

fn of_command(
    database: String,
    command: &Document,
    collection: Option<String>,
) -> Result<Vec<Operation>, Unknown> {
    let Some((verb, object)) = command.iter().next() else {
        return Err(Unknown("a command without a name".to_owned()));
    };
    if WITHOUT_EFFECT.contains(&verb.as_str()) {
        return Ok(Vec::new());
    }
    if verb == "dropDatabase" {
        return Ok(vec![Operation::DropDatabase(database)]);
    }
    let object = object.as_str().ok_or_else(|| Unknown(format!("{verb} of something without a name")))?;
    let namespace = (database, object.to_owned());
    if verb == "create" && object == VIEWS {
        return Ok(Vec::new());
    }
    if is_reserved(object) {
        return Err(Unknown(format!("{verb} of {}.{object}, which is the engine's own", namespace.0)));
    }
    let operation = match verb.as_str() {
        "create" => {
            Operation::Create { namespace, collection, options: without(command, &["create", "idIndex"]) }
        }
        "drop" => Operation::Drop { namespace, collection },
        "createIndexes" => {
            let indexes = vec![without(command, &["createIndexes"])];
            Operation::CreateIndexes { namespace, collection, indexes }
        }
        "commitIndexBuild" => {
            Operation::CreateIndexes { namespace, collection, indexes: built(verb, command)? }
        }
        "abortIndexBuild" => return aborted(namespace, collection, built(verb, command)?),
        "dropIndexes" | "deleteIndexes" | "dropIndex" | "deleteIndex" => {
            let index = command.get_str("index").map_err(|error| Unknown(format!("{verb}: {error}")))?;
            Operation::DropIndex { namespace, collection, index: index.to_owned() }
        }
        "collMod" => Operation::Modify { namespace, command: command.clone() },
        "renameCollection" => {
            let to = command.get_str("to").map_err(|error| Unknown(format!("{verb}: {error}")))?;
            let replaced = match command.get("dropTarget") {
                None | Some(Bson::Null | Bson::Boolean(false)) => Replaced::Nothing,
                Some(_) => Replaced::Dropped,
            };
            Operation::Rename { from: split(object)?, to: split(to)?, collection, replaced }
        }
        other => return Err(Unknown(format!("the command {other} on {}.{object}", namespace.0))),
    };
    Ok(vec![operation])
}

/// The indexes of a build.
fn built(verb: &str, command: &Document) -> Result<Vec<Document>, Unknown> {
    let indexes = command.get_array("indexes").map_err(|error| Unknown(format!("{verb}: {error}")))?;
    let index = |index: &Bson| {
        index.as_document().cloned().ok_or_else(|| Unknown(format!("{verb} of an index that is no document")))
    };
    indexes.iter().map(index).collect()
}

/// What was listed while it was built is no index.
fn aborted(
    namespace: Namespace,
    collection: Option<String>,
    indexes: Vec<Document>,
) -> Result<Vec<Operation>, Unknown> {
    let dropped = |index: Document| {
        let index = index.get_str("name").map_err(|error| Unknown(format!("abortIndexBuild: {error}")))?;
        let (namespace, collection) = (namespace.clone(), collection.clone());
        Ok(Operation::DropIndex { namespace, collection, index: index.to_owned() })
    };
    indexes.into_iter().map(dropped).collect()
}

/// A change of the collection of views is one of a view.
fn of_view(database: String, operation: &str, document: &Document) -> Result<Operation, Unknown> {
    let name = document.get_str("_id").map_err(|error| Unknown(format!("a view without a name: {error}")))?;
    let (of, name) = split(name)?;
    if of != database {
        return Err(Unknown(format!("a view of {of} in {database}")));
    }
    let namespace = (database, name);
    match operation {
        "i" => Ok(Operation::Create { namespace, collection: None, options: without(document, &["_id"]) }),
        "d" => Ok(Operation::DropView(namespace)),
        _ => Err(Unknown(format!("another definition of the view {}.{}", namespace.0, namespace.1))),
    }
}

fn without(document: &Document, keys: &[&str]) -> Document {
    document.clone().into_iter().filter(|(key, _)| !keys.contains(&key.as_str())).collect()
}

fn split(namespace: &str) -> Result<Namespace, Unknown> {
    match namespace.split_once('.') {
        Some((database, name)) if !database.is_empty() && !name.is_empty() => {
            Ok((database.to_owned(), name.to_owned()))
        }
        _ => Err(Unknown(format!("{namespace:?} is no collection"))),
    }
}

/// As the catalogue writes it.
fn uuid(id: Option<&Bson>) -> Option<String> {
    match id {
        Some(Bson::Binary(id)) => Some(hex::encode(&id.bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bson::{Binary, doc, spec::BinarySubtype};

    use super::*;

    fn id() -> Binary {
        Binary { subtype: BinarySubtype::Uuid, bytes: vec![7; 2] }
    }

    fn command(command: Document) -> Document {
        doc! { "op": "c", "ns": "shop.$cmd", "ui": id(), "o": command }
    }

    fn shop(name: &str) -> Namespace {
        ("shop".to_owned(), name.to_owned())
    }

    fn check(entry: &Document, expect: Operation) {
        assert_eq!(Operation::read(entry), Ok(vec![expect]), "{entry}");
    }

    #[test]
    fn changes_of_documents_are_read_also_inside_of_a_transaction() {
        let insert = doc! { "op": "i", "ns": "shop.a.b", "ui": id(), "o": { "_id": 1 } };
        let update = doc! { "op": "u", "ns": "shop.a", "o": { "$v": 2, "diff": { "u": { "x": 1 } } }, "o2": { "_id": 1 } };
        let delete = doc! { "op": "d", "ns": "shop.a", "o": { "_id": 1 } };
        let own = doc! { "op": "i", "ns": "config.transactions", "o": { "_id": 1 } };
        let of = |name: &str, collection: Option<&str>, change| Operation::Change {
            namespace: shop(name),
            collection: collection.map(str::to_owned),
            change,
        };
        let with = doc! { "$v": 2, "diff": { "u": { "x": 1 } } };
        let expect = vec![
            of("a.b", Some("0707"), Change::Insert(doc! { "_id": 1 })),
            of("a", None, Change::Update { of: doc! { "_id": 1 }, with }),
            of("a", None, Change::Delete(doc! { "_id": 1 })),
        ];
        let nested = doc! { "applyOps": [insert, update, delete, own] };
        let entry = doc! { "op": "c", "ns": "admin.$cmd", "o": nested };
        assert_eq!(Operation::read(&entry), Ok(expect));
    }

    #[test]
    fn commands_are_those_that_any_server_takes() {
        let (namespace, collection) = (shop("a"), Some("0707".to_owned()));
        check(
            &command(doc! { "create": "a", "idIndex": { "v": 2 }, "capped": true }),
            Operation::Create {
                namespace: namespace.clone(),
                collection: collection.clone(),
                options: doc! { "capped": true },
            },
        );
        check(
            &command(doc! { "drop": "a" }),
            Operation::Drop { namespace: namespace.clone(), collection: collection.clone() },
        );
        let index = doc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
        let built = Operation::CreateIndexes {
            namespace: namespace.clone(),
            collection: collection.clone(),
            indexes: vec![index.clone()],
        };
        check(
            &command(doc! { "createIndexes": "a", "v": 2, "key": { "x": 1 }, "name": "x_1" }),
            built.clone(),
        );
        check(&command(doc! { "commitIndexBuild": "a", "indexBuildUUID": id(), "indexes": [index] }), built);
        let dropped =
            Operation::DropIndex { namespace, collection: collection.clone(), index: "x_1".to_owned() };
        check(&command(doc! { "dropIndexes": "a", "index": "x_1" }), dropped.clone());
        check(
            &command(
                doc! { "abortIndexBuild": "a", "indexBuildUUID": id(), "indexes": [{ "v": 2, "key": { "x": 1 }, "name": "x_1" }] },
            ),
            dropped,
        );
        let renamed = |replaced| Operation::Rename {
            from: shop("a"),
            to: shop("b"),
            collection: collection.clone(),
            replaced,
        };
        check(
            &command(doc! { "renameCollection": "shop.a", "to": "shop.b", "dropTarget": id() }),
            renamed(Replaced::Dropped),
        );
        check(
            &command(doc! { "renameCollection": "shop.a", "to": "shop.b", "dropTarget": false }),
            renamed(Replaced::Nothing),
        );
        check(&command(doc! { "dropDatabase": 1 }), Operation::DropDatabase("shop".to_owned()));
        assert_eq!(Operation::read(&command(doc! { "startIndexBuild": "a" })), Ok(Vec::new()));
    }

    #[test]
    fn views_are_made_and_dropped_by_what_is_written_of_them() {
        let definition = doc! { "viewOn": "a", "pipeline": [] };
        let mut document = doc! { "_id": "shop.v" };
        document.extend(definition.clone());
        let entry = |op: &str| doc! { "op": op, "ns": "shop.system.views", "o": document.clone() };
        let create = Operation::Create { namespace: shop("v"), collection: None, options: definition };
        check(&entry("i"), create);
        check(&entry("d"), Operation::DropView(shop("v")));
        assert!(Operation::read(&entry("u")).is_err());
        assert_eq!(Operation::read(&command(doc! { "create": "system.views" })), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_known_is_never_left_out() {
        for entry in [
            command(doc! { "emptycapped": "a" }),
            command(doc! { "abortIndexBuild": "a" }),
            command(doc! { "commitIndexBuild": "a", "indexes": [1] }),
            command(doc! { "applyOps": [command(doc! { "applyOps": [] })] }),
            command(doc! { "create": "system.buckets.t", "timeseries": {} }),
            command(doc! {}),
            doc! { "op": "i", "ns": "shop.system.buckets.t", "o": {} },
            doc! { "op": "km", "ns": "shop.a", "o": {} },
            doc! { "op": "u", "ns": "shop.a", "o": {} },
            doc! { "op": "i", "ns": "shop", "o": {} },
        ] {
            assert!(Operation::read(&entry).is_err(), "{entry}");
        }
    }
}
