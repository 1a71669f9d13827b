//! The way back: collections are made aside or in a new database, and shown only when the whole archive has been read.

use std::{io, path::Path};

use bson::{Document, RawDocumentBuf, doc};

use super::{
    COMMAND, Failure,
    access::Access,
    answer, catalog,
    metadata::{Collection, Shape},
    reader::{Archive, Event, Stream},
};
use crate::sources::aside::{Aside, new_folder};

/// How much is sent at once at most: bytes, unless one document is longer, and documents.
const BATCH: (usize, usize) = (4 * 1024 * 1024, 1000);

/// What the names of collections begin with that a restore makes aside.
const ASIDE: &str = "backstay_restore_";

/// Writes the stream into a new file.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Writes the stream into a file of a new or empty folder.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path, name: &str) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::Refused(format!("{}: {error}", folder.display())))?;
    to_file(stream, &folder.join(name)).await
}

/// Loads the archive of one database into a new one. Where that fails, the collections that were made are removed again, and
/// nothing else: somebody may have made a database of that name meanwhile.
pub(super) async fn to_new_database(
    access: &Access,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    if catalog::OWN.contains(&name) {
        return Err(Failure::Refused(format!("database {name} is the engine's own")));
    }
    let database = access.database(name);
    if catalog::exists(&database).await? {
        return Err(Failure::Refused(format!("database {name} exists")));
    }
    let mut archive = Archive::open(stream).await?;
    as_declared(access, &archive.collections)?;
    let place = |collection: &Collection| Target { database: name.to_owned(), name: collection.name.clone() };
    let targets: Vec<Target> = archive.collections.iter().map(place).collect();
    let mut made = Vec::new();
    let loaded = async {
        make(access, with_documents(&archive.collections, &targets), &mut made).await?;
        load(access, &mut archive, &targets).await?;
        let views = archive.collections.iter().zip(&targets).filter(|(it, _)| it.shape == Shape::View);
        make(access, views, &mut made).await
    };
    match loaded.await {
        Ok(()) => Ok(format!("database {name}")),
        Err(failure) => {
            remove(access, &made).await;
            Err(failure)
        }
    }
}

/// Loads an archive over the collections that it holds: aside first, and in their place once it has been read to its end.
/// Other collections stay.
pub(super) async fn over_original(access: &Access, stream: Stream<'_>) -> Result<String, Failure> {
    let mut archive = Archive::open(stream).await?;
    as_declared(access, &archive.collections)?;
    let restore = format!("{ASIDE}{:08x}", rand::random::<u32>());
    let place = |(number, collection): (usize, &Collection)| Target {
        database: collection.database.clone(),
        name: format!("{restore}_{number}"),
    };
    let targets: Vec<Target> = archive.collections.iter().enumerate().map(place).collect();
    views_replace_no_documents(access, &archive.collections).await?;
    let mut made = Vec::new();
    let loaded = async {
        make(access, with_documents(&archive.collections, &targets), &mut made).await?;
        load(access, &mut archive, &targets).await
    };
    if let Err(failure) = loaded.await {
        remove(access, &made).await;
        return Err(failure);
    }
    let swapped = swap(access, &archive.collections, &targets).await;
    swapped.map_err(|why| Failure::HalfDone {
        why: Box::new(why),
        left: format!(
            "the archive was loaded whole, and not all is in its place: restore again, then drop the collections \
             whose names begin with {restore}"
        ),
    })?;
    Ok("the collections of the archive".to_owned())
}

/// Where one collection of an archive is loaded to.
struct Target {
    database: String,
    name: String,
}

/// Refuses an archive of other databases than are declared now.
fn as_declared(access: &Access, collections: &[Collection]) -> Result<(), Failure> {
    let strange = |it: &&Collection| !access.databases.is_empty() && !access.databases.contains(&it.database);
    match collections.iter().find(strange) {
        None => Ok(()),
        Some(collection) => Err(Failure::Refused(format!(
            "the archive holds {}, whose database is not declared now; restore it to a file",
            collection.name()
        ))),
    }
}

/// Refuses an archive with a view where there is a collection now: nothing would be left of its documents.
async fn views_replace_no_documents(access: &Access, collections: &[Collection]) -> Result<(), Failure> {
    for view in collections.iter().filter(|collection| collection.shape == Shape::View) {
        if catalog::has_documents(&access.database(&view.database), &view.name).await? {
            return Err(Failure::Refused(format!(
                "{} is a view in the archive and a collection now; rename or drop the collection first",
                view.name()
            )));
        }
    }
    Ok(())
}

/// Makes collections and views, and tells in `made` which, also where one of them fails.
async fn make<'a>(
    access: &Access,
    collections: impl Iterator<Item = (&Collection, &'a Target)>,
    made: &mut Vec<&'a Target>,
) -> Result<(), Failure> {
    for (collection, target) in collections {
        run(access, &target.database, collection.create(&target.name)).await?;
        made.push(target);
    }
    Ok(())
}

/// Fills every collection with documents, and builds its indexes.
async fn load(access: &Access, archive: &mut Archive<'_>, targets: &[Target]) -> Result<(), Failure> {
    let mut batch = Batch::default();
    while let Some(event) = archive.next().await? {
        let number = match &event {
            Event::Document(number, _) | Event::Closed(number) => *number,
        };
        if batch.is_full() || batch.collection != number {
            batch.send(access, targets).await?;
        }
        batch.collection = number;
        match event {
            Event::Document(_, document) => batch.add(document),
            Event::Closed(_) => {
                batch.send(access, targets).await?;
                let target = &targets[number];
                if let Some(command) = archive.collections[number].create_indexes(&target.name) {
                    run(access, &target.database, command).await?;
                }
            }
        }
    }
    Ok(())
}

/// Documents of one collection that are sent together.
#[derive(Default)]
struct Batch {
    collection: usize,
    documents: Vec<RawDocumentBuf>,
    length: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.length >= BATCH.0 || self.documents.len() >= BATCH.1
    }

    fn add(&mut self, document: RawDocumentBuf) {
        self.length += document.as_bytes().len();
        self.documents.push(document);
    }

    /// Sends what there is, in its order: that of a capped collection counts.
    async fn send(&mut self, access: &Access, targets: &[Target]) -> Result<(), Failure> {
        self.length = 0;
        if self.documents.is_empty() {
            return Ok(());
        }
        let documents = std::mem::take(&mut self.documents);
        let (target, sent) = (&targets[self.collection], documents.len());
        let collection = access.database(&target.database).collection::<RawDocumentBuf>(&target.name);
        // What a collection held before its validator was made comes back as well.
        let insert = collection.insert_many(documents).ordered(true).bypass_document_validation(true);
        let inserted = answer(COMMAND, insert).await?.inserted_ids.len();
        if inserted == sent {
            return Ok(());
        }
        Err(Failure::Answer(format!("the server took {inserted} of {sent} documents")))
    }
}

/// Puts what was loaded aside in the originals' places, and makes the views again.
async fn swap(access: &Access, collections: &[Collection], targets: &[Target]) -> Result<(), Failure> {
    for (collection, target) in with_documents(collections, targets) {
        drop_collection(access, &collection.database, &collection.name).await?;
        let from = format!("{}.{}", target.database, target.name);
        run(access, "admin", doc! { "renameCollection": from, "to": collection.name() }).await?;
    }
    for view in collections.iter().filter(|collection| collection.shape == Shape::View) {
        drop_collection(access, &view.database, &view.name).await?;
        run(access, &view.database, view.create(&view.name)).await?;
    }
    Ok(())
}

/// Removes what was made, as far as that can be. The failure that made it useless is the one to tell.
async fn remove(access: &Access, made: &[&Target]) {
    for target in made {
        let _ = drop_collection(access, &target.database, &target.name).await;
    }
}

fn with_documents<'c, 't>(
    collections: &'c [Collection],
    targets: &'t [Target],
) -> impl Iterator<Item = (&'c Collection, &'t Target)> {
    collections.iter().zip(targets).filter(|(collection, _)| collection.shape != Shape::View)
}

async fn drop_collection(access: &Access, database: &str, name: &str) -> Result<(), Failure> {
    answer(COMMAND, access.database(database).collection::<Document>(name).drop()).await
}

async fn run(access: &Access, database: &str, command: Document) -> Result<(), Failure> {
    answer(COMMAND, access.database(database).run_command(command)).await.map(drop)
}
