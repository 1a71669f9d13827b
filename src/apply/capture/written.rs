//! Objects that a capture put, and the store's word that it holds them.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::error::Fault;
use crate::{
    artifact::{layout::ObjectName, manifest::Stored},
    stores::{ErrorKind, Put, Store, StoreError},
};

/// An object that a store accepted and has not confirmed yet.
pub struct Written {
    /// The object.
    pub name: ObjectName,
    /// What it must be.
    pub stored: Stored,
    put: Put,
}

impl Written {
    /// Puts an object whose SHA-256 is known.
    pub async fn put(
        store: &dyn Store,
        name: ObjectName,
        content: Bytes,
        sha256: [u8; 32],
    ) -> Result<Self, StoreError> {
        let stored = Stored { size: content.len() as u64, sha256: hex::encode(sha256) };
        let put = store.put_if_absent(&name, content).await?;
        Ok(Self { name, stored, put })
    }

    /// Has the store confirm the object's size, and its SHA-256 where the store itself computes one. Where it does not
    /// and the object existed already, it may be somebody else's, and is read back.
    pub async fn confirm(&self, store: &dyn Store) -> Result<(), Fault> {
        let told = confirm(store, &self.name, &self.stored).await?;
        match (told, self.put) {
            (Told::Content, _) | (Told::Size, Put::Created) => Ok(()),
            (Told::Size, Put::Existed) => {
                let content = store.get(&self.name, None, self.stored.size).await?;
                if hex::encode(Sha256::digest(&content)) == self.stored.sha256 {
                    Ok(())
                } else {
                    Err(Fault::Taken { object: self.name.clone() })
                }
            }
        }
    }
}

/// What a store vouched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The size only.
    Size,
    /// Size and SHA-256.
    Content,
}

/// Has the store confirm that it holds an object as it must be.
pub async fn confirm(store: &dyn Store, name: &ObjectName, must: &Stored) -> Result<Told, Fault> {
    let unconfirmed = |reason: String| Fault::Unconfirmed { object: name.clone(), reason };
    let stat = store.stat(name).await?.ok_or_else(|| unconfirmed("it is missing".to_owned()))?;
    if stat.size != must.size {
        return Err(unconfirmed(format!("it has {} bytes and not {}", stat.size, must.size)));
    }
    match stat.sha256.map(hex::encode) {
        None => Ok(Told::Size),
        Some(sha256) if sha256 == must.sha256 => Ok(Told::Content),
        Some(_) => Err(unconfirmed("its SHA-256 is another".to_owned())),
    }
}

/// What is where a small object was put.
pub enum Found {
    /// The object.
    Ours,
    /// Something else.
    Another,
    /// Nothing.
    Nothing,
}

/// Reads a small object back and compares it.
pub async fn read_back(store: &dyn Store, name: &ObjectName, content: &Bytes) -> Result<Found, StoreError> {
    match store.get(name, None, content.len() as u64).await {
        Ok(found) if found == content => Ok(Found::Ours),
        Ok(_) => Ok(Found::Another),
        Err(error) => match error.kind {
            ErrorKind::NotFound => Ok(Found::Nothing),
            // Larger than what was put.
            ErrorKind::Protocol => Ok(Found::Another),
            _ => Err(error),
        },
    }
}
