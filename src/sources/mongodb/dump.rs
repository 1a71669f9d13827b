//! A capture: the catalogue, then every collection to its end.

use std::{collections::BTreeMap, time::Duration};

use bson::{RawDocumentBuf, doc};
use bytes::{Bytes, BytesMut};
use mongodb::Cursor;

use super::{
    Failure,
    access::Access,
    answer,
    archive::{self, Checksum},
    catalog,
    metadata::{Collection, Shape},
};
use crate::{
    artifact::manifest::{Counts, Details, Moment},
    sources::{CaptureRequest, Captured, Sink},
};

/// How much is handed on at once, bytes.
const PIECE: usize = 1024 * 1024;

/// Streams the declared databases into `sink`.
pub(super) async fn capture(
    access: &Access,
    request: &CaptureRequest,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let collections = catalog::collections(access).await?;
    let prelude = archive::prelude(&access.version.mongodb, &collections).map_err(unwritable)?;
    sink.write(Bytes::from(prelude)).await?;
    let mut counts = BTreeMap::new();
    for collection in &collections {
        if let Shape::Documents { .. } = collection.shape {
            counts.insert(collection.name(), documents(access, collection, request.stall, sink).await?);
            catalog::still_there(access, collection).await?;
        }
    }
    Ok(Captured {
        // What was written before is in it, and of what was written since some may not be.
        moment: Moment::At { time: request.now, position: None },
        details: Details {
            versions: [("server".to_owned(), access.version.for_people())].into(),
            counts: Counts::Captured(counts),
            omitted: omitted(access),
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
    let mut piece = BytesMut::from(archive::opening(collection).map_err(unwritable)?.as_slice());
    let (mut checksum, mut count) = (Checksum::new(), 0);
    // The cursor ends only where the server said that there is no more.
    while answer(stall, cursor.advance()).await? {
        let document = cursor.current().as_bytes();
        checksum.update(document);
        count += 1;
        piece.extend_from_slice(document);
        if piece.len() >= PIECE {
            sink.write(piece.split().freeze()).await?;
        }
    }
    piece.extend_from_slice(&archive::closing(collection, &checksum).map_err(unwritable)?);
    sink.write(piece.freeze()).await?;
    Ok(count)
}

fn omitted(access: &Access) -> Vec<String> {
    let mut omitted = vec![
        "consistency between collections: they were read one after another".to_owned(),
        "users and roles: the database admin is not captured".to_owned(),
    ];
    if access.replicated {
        omitted.push("the replica set's oplog: there is no return to a moment between captures".to_owned());
    }
    omitted
}

fn unwritable(error: bson::error::Error) -> Failure {
    Failure::Answer(format!("what the server said of a collection can't be written: {error}"))
}
