//! What the server holds to, tried with small objects.

use bytes::Bytes;

use super::{
    super::{Capabilities, Held, Put, probe::probe_name},
    S3Store,
    put::{Condition, delete, put_whole},
    read::{get, look},
};
use crate::aws::{Fault, digest};

/// Tries conditional puts and checksums, and removes what it put.
pub(super) async fn probe(store: &S3Store) -> Result<Capabilities, Fault> {
    Ok(Capabilities {
        conditional_put: conditional_put(store).await?,
        checksums: checksums(store).await?,
        object_lock: Held::Untried,
    })
}

/// Whether a second put of a name is refused and leaves the first one's content.
async fn conditional_put(store: &S3Store) -> Result<Held, Fault> {
    let (name, first, second) = (probe_name(), Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    match put_whole(store, &name, first.clone(), &digest(&first), Condition::Absent).await {
        Ok(_) => {}
        // A server that does not know the condition.
        Err(Fault::Service { status: 501, .. }) => return Ok(Held::No),
        Err(fault) => return Err(fault),
    }
    let again = put_whole(store, &name, second.clone(), &digest(&second), Condition::Absent).await;
    let kept = get(store, &name, None, 64).await;
    delete(store, &name).await?;
    Ok(if again? == Put::Existed && kept? == first { Held::Yes } else { Held::No })
}

/// Whether content that has another SHA-256 than it is sent with is refused, and is not there afterwards.
async fn checksums(store: &S3Store) -> Result<Held, Fault> {
    let (name, content) = (probe_name(), Bytes::from_static(b"content"));
    let sent = put_whole(store, &name, content, &digest(b"other"), Condition::None).await;
    let kept = look(store, &name).await;
    delete(store, &name).await?;
    match sent {
        Err(fault) if fault.is_refusal() => Ok(if kept?.is_none() { Held::Yes } else { Held::No }),
        Err(Fault::Protocol(_)) | Ok(_) => Ok(Held::No),
        Err(fault) => Err(fault),
    }
}
