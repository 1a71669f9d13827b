//! How a stream proves to be the one that was captured. Anybody can encrypt to public keys: that a segment opens proves
//! nothing of who wrote it. Its keyed hash does, or the digest of the whole stream, or the digests of the packs, all of
//! them under the manifest's signature.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};

use super::{Context, Fetch, StreamError, open_part, read_fetch};
use crate::{
    apply::{compare, segment},
    artifact::{
        index::Index,
        manifest::{Manifest, Sealed},
    },
    keys::{Keys, NamingKey},
};

/// What the stream is compared with.
pub(super) struct Proof {
    /// The key of the segments' hashes; `None` where an earlier controller made them with a key that is lost.
    pub(super) naming: Option<NamingKey>,
    sha256: Option<String>,
    length: u64,
}

impl Proof {
    /// Looks which proofs there are. Where there is no digest of the stream and the segments' hashes cannot be computed,
    /// every pack is compared with its digest, now.
    pub(super) async fn settle(
        context: &Arc<Context>,
        index: &Index,
        sealed: Option<&Sealed>,
    ) -> Result<Self, StreamError> {
        let segments = context.segments()?;
        let naming = own_naming_key(context, index).await?;
        let sha256 = sealed.and_then(|sealed| sealed.sha256.clone());
        if naming.is_none() && sha256.is_none() {
            for (pack, stored) in &segments.packs {
                let object = context.folder.pack(*pack);
                let fault = compare::content(context.folder.store.as_ref(), &object, stored).await?;
                if let Some(fault) = fault {
                    return Err(context.damaged(object, fault));
                }
            }
        }
        Ok(Self { naming, sha256, length: segments.length })
    }

    /// Hands on `pieces`, the last one only when length and digest are right.
    pub(super) fn withhold_last(
        self,
        context: Arc<Context>,
        pieces: impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static,
    ) -> impl Stream<Item = Result<Bytes, StreamError>> + Send + 'static {
        let state = Withheld {
            context,
            proof: self,
            pieces: pieces.boxed(),
            last: None,
            digest: Sha256::new(),
            length: 0,
        };
        stream::try_unfold(
            state,
            |mut state| async move { Ok(state.next().await?.map(|piece| (piece, state))) },
        )
    }
}

struct Withheld {
    context: Arc<Context>,
    proof: Proof,
    pieces: stream::BoxStream<'static, Result<Bytes, StreamError>>,
    last: Option<Bytes>,
    digest: Sha256,
    length: u64,
}

impl Withheld {
    async fn next(&mut self) -> Result<Option<Bytes>, StreamError> {
        while let Some(piece) = self.pieces.next().await {
            let piece = piece?;
            self.digest.update(&piece);
            self.length += piece.len() as u64;
            if let Some(before) = self.last.replace(piece) {
                return Ok(Some(before));
            }
        }
        self.check()?;
        Ok(self.last.take())
    }

    fn check(&self) -> Result<(), StreamError> {
        let wrong = |fault: &str| Err(self.context.damaged(self.context.own_manifest(), fault));
        if self.length != self.proof.length {
            return wrong("names another length than its segments have");
        }
        match &self.proof.sha256 {
            Some(expected) if *expected != hex::encode(self.digest.clone().finalize()) => {
                wrong("names another SHA-256 of the stream than its segments have")
            }
            _ => Ok(()),
        }
    }
}

/// This controller's key of the backup, if the first segment shows that it is the one that the hashes were made with.
async fn own_naming_key(context: &Arc<Context>, index: &Index) -> Result<Option<NamingKey>, StreamError> {
    let Some(first) = index.segments.first().copied() else { return Ok(None) };
    let fetch = Fetch { pack: first.extent.pack, range: first.extent.range(), segments: vec![first] };
    let key = context.keys.naming_key(&context.folder.fleet, &context.folder.backup);
    for part in read_fetch(context.clone(), fetch).await? {
        let plaintext = open_part(context.clone(), part, None).await?;
        if key.segment(&plaintext) == first.hash {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// What only a holder of an identity may know of an artifact; `None` when nothing was sealed.
pub fn sealed(manifest: &Manifest, keys: &Keys) -> Result<Option<Sealed>, segment::OpenError> {
    let damaged = |why: String| segment::OpenError::Encryption(why);
    let Some(text) = &manifest.sealed else { return Ok(None) };
    let bytes = BASE64_STANDARD.decode(text).map_err(|e| damaged(e.to_string()))?;
    let json = segment::decrypt(keys.identities(), &bytes)?;
    serde_json::from_slice(&json).map(Some).map_err(|e| damaged(format!("what it seals is malformed: {e}")))
}
