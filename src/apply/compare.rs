//! What a store holds under a name, compared with what a manifest says that it must be.

use sha2::{Digest, Sha256};

use crate::{
    artifact::{layout::ObjectName, manifest::Stored},
    stores::{ErrorKind, Store, StoreError},
};

/// How much is read at once, bytes.
const CHUNK: u64 = 8 << 20;

/// What is wrong with an object by its presence and size, and by its digest where the store itself knows it; `None` when
/// nothing is. An error means that nothing is known.
pub async fn presence(
    store: &dyn Store,
    object: &ObjectName,
    stored: &Stored,
) -> Result<Option<String>, StoreError> {
    Ok(look(store, object, stored).await?.fault())
}

/// What is wrong with an object by its content: the store's own digest, or else every byte read. `None` when nothing is.
/// An error means that nothing is known.
pub async fn content(
    store: &dyn Store,
    object: &ObjectName,
    stored: &Stored,
) -> Result<Option<String>, StoreError> {
    match look(store, object, stored).await? {
        Look::SizeFits => read(store, object, stored).await,
        settled => Ok(settled.fault()),
    }
}

enum Look {
    Missing,
    Size { found: u64, expected: u64 },
    Altered,
    SizeFits,
    Same,
}

impl Look {
    fn fault(&self) -> Option<String> {
        match self {
            Look::Missing => Some("is missing".to_owned()),
            Look::Size { found, expected } => Some(format!("has {found} bytes instead of {expected}")),
            Look::Altered => Some("is altered: its SHA-256 is not the manifest's".to_owned()),
            Look::SizeFits | Look::Same => None,
        }
    }
}

async fn look(store: &dyn Store, object: &ObjectName, stored: &Stored) -> Result<Look, StoreError> {
    let Some(stat) = store.stat(object).await? else { return Ok(Look::Missing) };
    if stat.size != stored.size {
        return Ok(Look::Size { found: stat.size, expected: stored.size });
    }
    Ok(match stat.sha256 {
        Some(sha256) if hex::encode(sha256) == stored.sha256 => Look::Same,
        Some(_) => Look::Altered,
        None => Look::SizeFits,
    })
}

async fn read(store: &dyn Store, object: &ObjectName, stored: &Stored) -> Result<Option<String>, StoreError> {
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < stored.size {
        let range = at..(at + CHUNK).min(stored.size);
        let wanted = range.end - range.start;
        let chunk = match store.get(object, Some(range), wanted).await {
            Ok(chunk) if chunk.len() as u64 == wanted => chunk,
            Ok(_) => return Ok(Some("is cut short".to_owned())),
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(Look::Missing.fault()),
            Err(error) => return Err(error),
        };
        digest.update(&chunk);
        at += wanted;
    }
    let altered = hex::encode(digest.finalize()) != stored.sha256;
    Ok(if altered { Look::Altered.fault() } else { None })
}
