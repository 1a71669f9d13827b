//! The way back: collections are made aside or in a new database, and shown only when the whole archive has been read.

use std::{io, path::Path};

use bson::{RawDocumentBuf, doc};

use super::{
    COMMAND, Failure,
    access::Access,
    answer, catalog, depth,
    metadata::{Collection, Shape},
    oplog::{self, Changes, Missing, Operation, Unknown},
    reader::{Archive, Event, Stream, damaged},
    targets::{Home, Namespace, Targets, drop_collection, run},
};
use crate::sources::{
    aside::{Aside, new_folder},
    existing::{self, Existing},
};

/// How much is sent at once at most: bytes, unless one document is longer, and documents.
const BATCH: (usize, usize) = (4 * 1024 * 1024, 1000);

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
    if catalog::exists(&access.database(name)).await? {
        return Err(Failure::Refused(format!("database {name} exists")));
    }
    let mut archive = Archive::open(stream).await?;
    as_declared(access, &archive.collections)?;
    let mut targets = Targets::new(Home::New(name.to_owned()));
    let loaded = async {
        load(access, &mut archive, &mut targets).await?;
        targets.take_places(access).await?;
        for view in views(&archive.collections) {
            targets.make_view(access, view).await?;
        }
        Ok(())
    };
    match loaded.await {
        Ok(()) => Ok(format!("database {name}")),
        Err(failure) => {
            targets.remove(access).await;
            Err(failure)
        }
    }
}

/// Loads an archive over the collections that it holds: aside first, and in their place once it has been read to its end.
/// Other collections stay.
pub(super) async fn over_original(
    access: &Access,
    stream: Stream<'_>,
    existing: Existing,
) -> Result<String, Failure> {
    let mut archive = Archive::open(stream).await?;
    as_declared(access, &archive.collections)?;
    views_replace_no_documents(access, &archive.collections).await?;
    let mut targets = Targets::new(Home::Original);
    let loaded = async {
        load(access, &mut archive, &mut targets).await?;
        match existing {
            Existing::Replaced => Ok(()),
            Existing::Refused => must_have_stayed_empty(access, &targets.stem).await,
        }
    };
    if let Err(failure) = loaded.await {
        targets.remove(access).await;
        return Err(failure);
    }
    let swapped = swap(access, &archive.collections, &mut targets).await;
    swapped.map_err(|why| Failure::HalfDone {
        why: Box::new(why),
        left: format!(
            "the archive was loaded whole, and not all is in its place: restore again, then drop the collections \
             whose names begin with {}",
            targets.stem
        ),
    })?;
    Ok("the collections of the archive".to_owned())
}

async fn must_have_stayed_empty(access: &Access, aside: &str) -> Result<(), Failure> {
    match catalog::first_documents(access, Some(aside)).await? {
        None => Ok(()),
        Some(collection) => Err(Failure::Refused(existing::by_now(&format!("documents in {collection}")))),
    }
}

/// Drops every database but the engine's own, before logs are replayed over what is restored. Nothing is dropped where the replay
/// would be refused.
pub(super) async fn drop_databases(access: &Access) -> Result<(), Failure> {
    oplog::must_be_replayable(access).await?;
    for name in catalog::names(access).await? {
        run(access, &name, doc! { "dropDatabase": 1 }).await?;
    }
    Ok(())
}

/// Refuses an archive of other databases than are declared now.
fn as_declared(access: &Access, collections: &[Collection]) -> Result<(), Failure> {
    let is_strange = |it: &&Collection| it.shape != Shape::Oplog && !access.databases.contains(&it.database);
    let strange = |it: &&Collection| !access.databases.is_empty() && is_strange(it);
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
    for view in views(collections) {
        if catalog::has_documents(&access.database(&view.database), &view.name).await? {
            return Err(Failure::Refused(format!(
                "{} is a view in the archive and a collection now; rename or drop the collection first",
                view.name()
            )));
        }
    }
    Ok(())
}

/// Makes every collection, fills it with documents, brings all to one moment, and builds the indexes.
async fn load(access: &Access, archive: &mut Archive<'_>, targets: &mut Targets) -> Result<(), Failure> {
    for collection in archive.collections.iter().filter(|it| matches!(it.shape, Shape::Documents { .. })) {
        targets.make(access, collection).await?;
    }
    let mut batch = Batch::default();
    let mut changes = Changes::new(Missing::LeftOut);
    while let Some(event) = archive.next().await? {
        let number = match &event {
            Event::Document(number, _) | Event::Closed(number) => *number,
        };
        if batch.is_full() || batch.collection != number {
            batch.send(access, &archive.collections, targets).await?;
        }
        batch.collection = number;
        match event {
            Event::Document(_, entry) if archive.collections[number].shape == Shape::Oplog => {
                archive.must_be_read_but(number)?;
                do_again(access, &entry, targets, &mut changes).await?;
            }
            Event::Document(_, document) => batch.add(document),
            Event::Closed(_) => batch.send(access, &archive.collections, targets).await?,
        }
    }
    changes.send(access).await?;
    for view in views(&archive.collections) {
        targets.must_leave_name_to(view)?;
    }
    targets.build_indexes(access).await
}

/// Does what was done while the archive was made.
async fn do_again(
    access: &Access,
    raw: &RawDocumentBuf,
    targets: &mut Targets,
    changes: &mut Changes,
) -> Result<(), Failure> {
    let entry = depth::decoded(raw).map_err(|error| damaged(&error.to_string()))?;
    let unknown = |Unknown(what)| Failure::Refused(format!("the archive's oplog can't be replayed: {what}"));
    for operation in Operation::read(&entry).map_err(unknown)? {
        targets.apply(access, operation, changes, raw.as_bytes().len()).await?;
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
    async fn send(
        &mut self,
        access: &Access,
        collections: &[Collection],
        targets: &Targets,
    ) -> Result<(), Failure> {
        self.length = 0;
        if self.documents.is_empty() {
            return Ok(());
        }
        let documents = std::mem::take(&mut self.documents);
        let (database, name) = place(&collections[self.collection], targets)?;
        let sent = documents.len();
        let collection = access.database(database).collection::<RawDocumentBuf>(name);
        // What a collection held before its validator was made comes back as well.
        let insert = collection.insert_many(documents).ordered(true).bypass_document_validation(true);
        let inserted = answer(COMMAND, insert).await?.inserted_ids.len();
        if inserted == sent {
            return Ok(());
        }
        Err(Failure::Answer(format!("the server took {inserted} of {sent} documents")))
    }
}

fn place<'a>(collection: &Collection, targets: &'a Targets) -> Result<&'a Namespace, Failure> {
    let missing = || damaged(&format!("documents of {}, which has none", collection.name()));
    targets.place(collection).ok_or_else(missing)
}

/// Puts what was loaded aside in the originals' places, and makes the views again.
async fn swap(access: &Access, collections: &[Collection], targets: &mut Targets) -> Result<(), Failure> {
    targets.take_places(access).await?;
    for view in views(collections) {
        drop_collection(access, &(view.database.clone(), view.name.clone())).await?;
        targets.make_view(access, view).await?;
    }
    Ok(())
}

fn views(collections: &[Collection]) -> impl Iterator<Item = &Collection> {
    collections.iter().filter(|collection| collection.shape == Shape::View)
}
