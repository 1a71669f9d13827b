//! What makes a collection again: its options and indexes, and how an archive tells them.
//!
//! An archive holds them as canonical Extended JSON (MongoDB specification "Extended JSON" 2.0.0; mongo-tools,
//! `mongodump/metadata_dump.go`): `{"options": …, "indexes": […], "uuid": "…", "collectionName": "…", "type": "…"}`. The
//! order of keys counts: it is that of an index.

use bson::{Bson, Document, doc, spec::BinarySubtype};

use super::Failure;

/// A collection or view, and what makes it again.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Collection {
    pub database: String,
    pub name: String,
    pub options: Document,
    /// Changes when another takes its name; `None` where the server tells none.
    pub uuid: Option<String>,
    pub shape: Shape,
}

/// What is in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Documents of its own.
    Documents { indexes: Vec<Document> },
    /// A query of other collections, which its options tell.
    View,
    /// No collection: what was written while the others were read.
    Oplog,
}

/// A collection as a server lists it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub name: String,
    pub options: Document,
    pub uuid: Option<String>,
    pub is_view: bool,
}

impl Listed {
    /// Reads one line of `listCollections` of `database`.
    pub fn read(database: &str, listed: Document) -> Result<Self, Failure> {
        let untold =
            || Failure::Answer(format!("the server lists a collection of {database} without its name"));
        let name = listed.get_str("name").map_err(|_| untold())?.to_owned();
        let is_view = match listed.get_str("type").unwrap_or("collection") {
            "collection" => false,
            "view" => true,
            other => {
                let why =
                    format!("{database}.{name} is a collection of the kind {other}, which can't be captured");
                return Err(Failure::Refused(why));
            }
        };
        let options = listed.get_document("options").cloned().unwrap_or_default();
        let info = listed.get_document("info").ok();
        let uuid = match info.and_then(|info| info.get("uuid")) {
            Some(Bson::Binary(id)) if id.subtype == BinarySubtype::Uuid => Some(hex::encode(&id.bytes)),
            _ => None,
        };
        Ok(Self { name, options, uuid, is_view })
    }

    /// Whether the engine keeps it for itself. Of its own names only stored functions are a user's.
    pub fn is_of_the_engine(&self) -> bool {
        is_reserved(&self.name)
    }
}

/// Whether the engine keeps collections of this name for itself.
pub(super) fn is_reserved(name: &str) -> bool {
    name.starts_with("system.") && name != "system.js"
}

impl Collection {
    /// What stands in an archive for the oplog (mongo-tools, `mongodump --archive --oplog`).
    pub fn oplog() -> Self {
        let (database, name) = (String::new(), "oplog".to_owned());
        Self { database, name, options: Document::new(), uuid: None, shape: Shape::Oplog }
    }

    /// Its full name, such as `shop.orders`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }

    /// The word of an archive for its shape.
    pub fn kind(&self) -> &'static str {
        match self.shape {
            Shape::Documents { .. } | Shape::Oplog => "collection",
            Shape::View => "view",
        }
    }

    /// What an archive says of it.
    pub fn metadata(&self) -> String {
        let indexes = match &self.shape {
            Shape::Documents { indexes } => indexes.clone(),
            Shape::View => Vec::new(),
            Shape::Oplog => return String::new(),
        };
        let mut metadata = doc! { "options": &self.options, "indexes": indexes };
        if let Some(uuid) = &self.uuid {
            metadata.insert("uuid", uuid);
        }
        metadata.insert("collectionName", &self.name);
        metadata.insert("type", self.kind());
        let mut text = String::new();
        write(&Bson::Document(metadata), &mut text);
        text
    }

    /// Reads what an archive says of the collection `name` of `database`. Names that a restore must not touch are refused.
    pub fn read(database: &str, name: &str, metadata: &str) -> Result<Self, Failure> {
        let place = format!("{database}.{name}");
        if let ("", "oplog", "") = (database, name, metadata) {
            return Ok(Self::oplog());
        }
        if database.is_empty()
            || super::catalog::OWN.contains(&database)
            || name.is_empty()
            || is_reserved(name)
        {
            return Err(Failure::Refused(format!("the archive holds {place}, which is the engine's own")));
        }
        let unreadable =
            |why: String| Failure::Incomplete(format!("the archive's metadata of {place}: {why}"));
        let metadata: Document =
            serde_json::from_str(metadata).map_err(|error| unreadable(error.to_string()))?;
        let options = metadata.get_document("options").cloned().unwrap_or_default();
        let indexes = metadata.get_array("indexes").map_err(|error| unreadable(error.to_string()))?;
        let index = |index: &Bson| {
            index.as_document().cloned().ok_or_else(|| unreadable("an index is no document".to_owned()))
        };
        let indexes = indexes.iter().map(index).collect::<Result<_, _>>()?;
        let shape = match options.contains_key("viewOn") {
            true => Shape::View,
            false => Shape::Documents { indexes },
        };
        let uuid = metadata.get_str("uuid").ok().map(str::to_owned);
        Ok(Self { database: database.to_owned(), name: name.to_owned(), options, uuid, shape })
    }

    /// The command that makes it, empty, under `name`.
    pub fn create(&self, name: &str) -> Document {
        let mut command = doc! { "create": name };
        // Newer servers refuse it, and make that index anyway.
        command.extend(self.options.clone().into_iter().filter(|(key, _)| key != "autoIndexId"));
        command
    }

    /// Its indexes but those that come with it.
    pub fn own_indexes(&self) -> Vec<Document> {
        let comes_with_it = |index: &Document| {
            index.get_str("name").is_ok_and(|name| name == "_id_")
                || index.get_bool("clustered").unwrap_or(false)
        };
        match &self.shape {
            Shape::Documents { indexes } => {
                indexes.iter().filter(|index| !comes_with_it(index)).map(portable).collect()
            }
            Shape::View | Shape::Oplog => Vec::new(),
        }
    }
}

/// An index without what older servers add and newer ones refuse.
pub(super) fn portable(index: &Document) -> Document {
    let kept =
        index.clone().into_iter().filter(|(key, _)| !["v", "ns", "background"].contains(&key.as_str()));
    kept.collect()
}

/// Canonical Extended JSON that keeps the order of keys.
fn write(value: &Bson, text: &mut String) {
    match value {
        Bson::Document(document) => {
            text.push('{');
            for (number, (key, value)) in document.iter().enumerate() {
                separate(number, text);
                text.push_str(&serde_json::Value::from(key.as_str()).to_string());
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
        Bson::Array(values) => {
            text.push('[');
            for (number, value) in values.iter().enumerate() {
                separate(number, text);
                write(value, text);
            }
            text.push(']');
        }
        leaf => text.push_str(&leaf.clone().into_canonical_extjson().to_string()),
    }
}

fn separate(number: usize, text: &mut String) {
    if number > 0 {
        text.push(',');
    }
}

#[cfg(test)]
mod tests {
    use bson::{DateTime, Regex};

    use super::*;

    fn collection(options: Document, indexes: Vec<Document>) -> Collection {
        let shape = Shape::Documents { indexes };
        Collection {
            database: "shop".into(),
            name: "ör\"der".into(),
            options,
            uuid: Some("ab12".into()),
            shape,
        }
    }

    #[test]
    fn metadata_comes_back_with_its_types_and_the_order_of_keys() {
        let filter = doc! { "z": { "$gt": 5_i64 }, "a": { "$lt": 1.0 }, "when": DateTime::from_millis(-1), "n": Bson::Null };
        let index = doc! { "v": 2, "key": { "b": 1, "a": -1.0 }, "name": "b_1_a_-1", "partialFilterExpression": filter };
        let pattern = Regex { pattern: "^a/".try_into().unwrap(), options: "i".try_into().unwrap() };
        let options = doc! { "capped": true, "size": 4096_i64, "validator": { "name": pattern, "$or": [{ "a": 1 }, {}] } };
        let before = collection(options, vec![doc! { "key": { "_id": 1 }, "name": "_id_" }, index]);
        let text = before.metadata();
        assert!(text.contains(r#""key":{"b":{"$numberInt":"1"},"a":{"$numberDouble":"-1.0"}}"#), "{text}");
        assert_eq!(Collection::read("shop", &before.name, &text).unwrap(), before);
    }

    #[test]
    fn a_view_is_made_of_its_options() {
        let options = doc! { "viewOn": "order", "pipeline": [{ "$match": { "z": 1, "a": 2 } }] };
        let listed =
            doc! { "name": "dear", "type": "view", "options": options.clone(), "info": { "readOnly": true } };
        let listed = Listed::read("shop", listed).unwrap();
        assert!(listed.is_view);
        let Listed { name, options, uuid, .. } = listed;
        let view =
            Collection { database: "shop".into(), name, options: options.clone(), uuid, shape: Shape::View };
        let read = Collection::read("shop", "dear", &view.metadata()).unwrap();
        assert_eq!(read, view);
        let mut command = doc! { "create": "dear" };
        command.extend(options);
        assert_eq!((read.create("dear"), read.own_indexes()), (command, Vec::new()));
    }

    #[test]
    fn indexes_are_made_without_those_that_come_with_a_collection_and_what_servers_add() {
        let id = doc! { "v": 2, "key": { "_id": 1 }, "name": "_id_" };
        let clustered = doc! { "v": 2, "key": { "_id": 1 }, "name": "by id", "clustered": true };
        let own = doc! { "v": 2, "key": { "a": 1 }, "name": "a_1", "ns": "shop.a", "unique": true };
        let made = collection(doc! { "autoIndexId": false }, vec![id.clone(), clustered, own]);
        let indexes = [doc! { "key": { "a": 1 }, "name": "a_1", "unique": true }];
        assert_eq!(made.own_indexes(), indexes);
        assert_eq!(made.create("t"), doc! { "create": "t" });
        assert!(collection(doc! {}, vec![id]).own_indexes().is_empty());
    }

    #[test]
    fn what_is_the_engines_own_is_neither_listed_nor_restored() {
        for (database, name) in
            [("admin", "a"), ("local", "a"), ("", "oplog"), ("shop", "system.users"), ("shop", "")]
        {
            let read = Collection::read(database, name, r#"{"indexes": []}"#);
            assert!(matches!(read, Err(Failure::Refused(_))), "{database}.{name}");
        }
        assert!(Collection::read("shop", "system.js", r#"{"indexes": []}"#).is_ok());
        assert!(matches!(Collection::read("shop", "a", "{"), Err(Failure::Incomplete(_))));
        let series = doc! { "name": "weather", "type": "timeseries" };
        assert!(matches!(Listed::read("shop", series), Err(Failure::Refused(_))));
    }
}
