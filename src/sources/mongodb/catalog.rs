//! What a server holds: databases, and their collections with what makes them again.

use bson::{Document, doc};
use mongodb::{Cursor, Database};

use super::{
    ANSWER, Failure,
    access::Access,
    answer,
    metadata::{Collection, Listed, Shape},
};

/// The engine's own databases: who may log in, and what is of this server or cluster alone.
pub(super) const OWN: [&str; 3] = ["admin", "config", "local"];

/// Every collection that is captured, in the order of names.
pub(super) async fn collections(access: &Access) -> Result<Vec<Collection>, Failure> {
    let mut collections = Vec::new();
    for (name, listed) in databases(access).await? {
        let database = access.database(&name);
        for listed in listed {
            collections.push(described(access, &database, listed).await?);
        }
    }
    collections.sort_by_cached_key(Collection::name);
    Ok(collections)
}

/// The databases that are captured and what is in them.
pub(super) async fn databases(access: &Access) -> Result<Vec<(String, Vec<Listed>)>, Failure> {
    let names = match access.databases.as_slice() {
        [] => names(access).await?,
        declared => declared.to_vec(),
    };
    let mut databases = Vec::new();
    for name in names {
        if OWN.contains(&name.as_str()) {
            return Err(Failure::Refused(format!(
                "database {name} is the engine's own, which can't be restored"
            )));
        }
        let listed = listed(&access.database(&name), doc! {}).await?;
        // A database is there as long as a collection is.
        if listed.is_empty() && !access.databases.is_empty() {
            let why = format!("database {name} is missing or empty; check the declared databases");
            return Err(Failure::Refused(why));
        }
        databases.push((name, listed));
    }
    if databases.is_empty() {
        return Err(Failure::Refused("the server has no databases but the engine's own".to_owned()));
    }
    Ok(databases)
}

/// The first collection that holds documents, of the databases that are captured: those that are missing hold none. Collections whose
/// names begin with `aside` do not count.
pub(super) async fn first_documents(access: &Access, aside: Option<&str>) -> Result<Option<String>, Failure> {
    let names = match access.databases.as_slice() {
        [] => names(access).await?,
        declared => declared.to_vec(),
    };
    for name in names {
        let database = access.database(&name);
        for found in cursor(&database, doc! { "listCollections": 1 }).await? {
            let Ok(collection) = found.get_str("name") else { continue };
            if found.get_str("type").is_ok_and(|shape| shape == "view") || collection.starts_with("system.") {
                continue;
            }
            if aside.is_some_and(|aside| collection.starts_with(aside)) {
                continue;
            }
            let collected = database.collection::<bson::RawDocumentBuf>(collection);
            if answer(ANSWER, collected.find_one(doc! {})).await?.is_some() {
                return Ok(Some(format!("{name}.{collection}")));
            }
        }
    }
    Ok(None)
}

/// Whether a database of this name is there.
pub(super) async fn exists(database: &Database) -> Result<bool, Failure> {
    Ok(!cursor(database, doc! { "listCollections": 1, "nameOnly": true }).await?.is_empty())
}

/// Whether a collection of this name is there, and no view.
pub(super) async fn has_documents(database: &Database, name: &str) -> Result<bool, Failure> {
    let found = cursor(database, doc! { "listCollections": 1, "filter": { "name": name } }).await?;
    Ok(found.iter().any(|it| it.get_str("type").is_ok_and(|shape| shape != "view")))
}

/// Refuses what was dropped, renamed or replaced since it was described: it was read empty or in part.
pub(super) async fn still_there(access: &Access, collection: &Collection) -> Result<(), Failure> {
    let filter = doc! { "name": &collection.name };
    let now = listed(&access.database(&collection.database), filter).await?;
    match now.as_slice() {
        [same] if same.uuid == collection.uuid => Ok(()),
        _ => Err(Failure::Incomplete(format!(
            "collection {} was dropped, renamed or replaced while it was read",
            collection.name()
        ))),
    }
}

/// The names of all databases but the engine's own.
pub(super) async fn names(access: &Access) -> Result<Vec<String>, Failure> {
    // Without the last a user that may not see all is shown less, and told nothing.
    let command = doc! { "listDatabases": 1, "nameOnly": true, "authorizedDatabases": false };
    let answered = answer(ANSWER, access.database("admin").run_command(command)).await?;
    let listed = answered.get_array("databases");
    let listed = listed.map_err(|_| Failure::Answer("the server lists no databases".to_owned()))?;
    let name = |database: &bson::Bson| {
        let name = database.as_document().and_then(|database| database.get_str("name").ok());
        name.map(str::to_owned).ok_or_else(|| Failure::Answer("a database has no name".to_owned()))
    };
    let names: Result<Vec<String>, Failure> = listed.iter().map(name).collect();
    Ok(names?.into_iter().filter(|name| !OWN.contains(&name.as_str())).collect())
}

/// The collections and views of a database that a filter finds, without the engine's own.
pub(super) async fn listed(database: &Database, filter: Document) -> Result<Vec<Listed>, Failure> {
    let command = doc! { "listCollections": 1, "filter": filter, "authorizedCollections": false };
    let listed = cursor(database, command).await?;
    let listed = listed.into_iter().map(|collection| Listed::read(database.name(), collection));
    Ok(listed.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|it| !it.is_of_the_engine()).collect())
}

async fn described(access: &Access, database: &Database, listed: Listed) -> Result<Collection, Failure> {
    let shape = match listed.is_view {
        true => Shape::View,
        false => {
            let indexes = cursor(database, list_indexes(&listed.name, access.version.release())).await?;
            Shape::Documents { indexes: indexes.into_iter().filter(is_built).collect() }
        }
    };
    let Listed { name, options, uuid, .. } = listed;
    Ok(Collection { database: database.name().to_owned(), name, options, uuid, shape })
}

/// Servers since 4.2 tell which indexes they still build, where they are asked (MongoDB's
/// `src/mongo/db/commands/list_indexes.cpp`). FerretDB has built an index when it has answered.
fn list_indexes(collection: &str, release: Option<(u32, u32)>) -> Document {
    let mut command = doc! { "listIndexes": collection };
    if release.is_some_and(|release| release >= (4, 2)) {
        command.insert("includeBuildUUIDs", true);
    }
    command
}

/// Whether an index is built, as it is listed: of one that is not, nobody knows whether it will be.
fn is_built(index: &Document) -> bool {
    !(index.contains_key("buildUUID") && index.contains_key("spec"))
}

/// All that a command lists.
async fn cursor(database: &Database, command: Document) -> Result<Vec<Document>, Failure> {
    let mut cursor: Cursor<Document> = answer(ANSWER, database.run_cursor_command(command)).await?;
    let mut all = Vec::new();
    while answer(ANSWER, cursor.advance()).await? {
        all.push(cursor.deserialize_current()?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_that_are_still_built_are_asked_for_and_left_out() {
        let asked = |release| list_indexes("a", release).get_bool("includeBuildUUIDs").unwrap_or(false);
        assert!(asked(Some((4, 2))) && asked(Some((8, 0))));
        assert!(!asked(Some((4, 0))) && !asked(None));
        let spec = doc! { "v": 2, "key": { "x": 1 }, "name": "x_1" };
        assert!(is_built(&spec));
        assert!(!is_built(&doc! { "spec": spec, "buildUUID": bson::Uuid::new() }));
    }
}
