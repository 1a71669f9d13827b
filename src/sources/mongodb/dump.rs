//! A capture: the catalogue, then every collection to its end, then what was written meanwhile.

use std::{collections::BTreeMap, time::Duration};

use bson::{RawDocumentBuf, Timestamp, doc};
use bytes::Bytes;
use mongodb::Cursor;

use super::{
    Failure,
    access::Access,
    answer, archive, catalog,
    metadata::{Collection, Shape},
    oplog::{Found, Oplog, Purpose, Reading},
    pieces::Pieces,
};
use crate::{
    artifact::manifest::{Counts, Details, Moment},
    sources::{CaptureRequest, Captured, Sink},
};

/// Streams the declared databases into `sink`.
pub(super) async fn capture(
    access: &Access,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let began = request.now();
    let found = Oplog::open(access).await?;
    let begin = match &found {
        Found::Oplog(oplog) => Some((oplog, oplog.settled().await?.stamp)),
        Found::Nothing(_) => None,
    };
    let mut collections = catalog::collections(access).await?;
    collections.extend(begin.map(|_| Collection::oplog()));
    let prelude = archive::prelude(&access.version.mongodb, &collections).map_err(unwritable)?;
    sink.write(Bytes::from(prelude)).await?;
    let mut counts = BTreeMap::new();
    for collection in &collections {
        if let Shape::Documents { .. } = collection.shape {
            counts.insert(collection.name(), documents(access, collection, request.stall, sink).await?);
            catalog::still_there(access, collection).await?;
        }
    }
    let mut counts = Counts::Captured(counts);
    let moment = match begin {
        Some((oplog, from)) => {
            let (moment, entries) = to_one_moment(access, oplog, from, request, sink).await?;
            if entries > 0 {
                counts = Counts::NotCaptured("others wrote while the documents were counted".to_owned());
            }
            moment
        }
        // What was written before is in it, and of what was written since some may not be.
        None => Moment::At { time: began, position: None },
    };
    Ok(Captured {
        moment,
        details: Details {
            versions: [("server".to_owned(), access.version.for_people())].into(),
            counts,
            omitted: omitted(&found),
            ..Details::default()
        },
    })
}

/// Streams the documents of one collection and returns how many there are.
async fn documents(
    access: &Access,
    collection: &Collection,
    stall: Duration,
    sink: &mut dyn Sink,
) -> Result<u64, Failure> {
    let read = access.database(&collection.database).collection::<RawDocumentBuf>(&collection.name);
    let mut cursor: Cursor<RawDocumentBuf> = answer(stall, read.find(doc! {})).await?;
    let mut pieces = Pieces::begin(sink, &archive::opening(collection).map_err(unwritable)?);
    // The cursor ends only where the server said that there is no more.
    while answer(stall, cursor.advance()).await? {
        pieces.document(cursor.current().as_bytes()).await?;
    }
    let count = pieces.count;
    end(collection, pieces).await?;
    Ok(count)
}

async fn end(collection: &Collection, pieces: Pieces<'_>) -> Result<(), Failure> {
    let closing = archive::closing(collection, &pieces.checksum).map_err(unwritable)?;
    Ok(pieces.end(&closing).await?)
}

/// Streams what was written since `from`, by which all that was read comes to one moment, and returns how many entries tell it.
async fn to_one_moment(
    access: &Access,
    oplog: &Oplog<'_>,
    from: Timestamp,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<(Moment, u64), Failure> {
    let until = oplog.settled_after_reads(request.stall).await?.stamp;
    must_be_the_same(access, oplog).await?;
    let reading = Reading::begin(oplog, from, until, request.stall).await?;
    let Some(reading) = reading.filter(|reading| reading.begins == from) else {
        let why = "the oplog holds no more what was written while the databases were read; make it larger, \
                   so that it lasts for longer than a full takes";
        return Err(Failure::Incomplete(why.to_owned()));
    };
    let collection = Collection::oplog();
    let mut pieces = Pieces::begin(sink, &archive::opening(&collection).map_err(unwritable)?);
    reading.stream(Purpose::OneMoment(&access.databases), &mut pieces).await?;
    let entries = pieces.count;
    end(&collection, pieces).await?;
    let time = oplog.moment_after(until).await?;
    // The log is of the whole server: it goes on only from what holds all of it.
    let position = access.databases.is_empty().then(|| oplog.position(until));
    Ok((Moment::At { time, position }, entries))
}

/// Refuses what was read from a server whose oplog does not tell that a collection or an index was changed, if one was.
async fn must_be_the_same(access: &Access, oplog: &Oplog<'_>) -> Result<(), Failure> {
    match Oplog::open(access).await? {
        Found::Oplog(now) if now.is(oplog) => Ok(()),
        _ => Err(Failure::Incomplete(
            "collections or indexes were changed while the databases were read, of which the oplog does not tell".to_owned(),
        )),
    }
}

fn omitted(found: &Found<'_>) -> Vec<String> {
    let mut omitted = vec!["users and roles: the database admin is not captured".to_owned()];
    if let Found::Nothing(why) = found {
        omitted.push(format!("consistency between collections: they were read one after another, for {why}"));
    }
    omitted
}

fn unwritable(error: bson::error::Error) -> Failure {
    Failure::Answer(format!("what the server said of a collection can't be written: {error}"))
}
