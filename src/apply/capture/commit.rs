//! From a stream that is stored to an artifact: confirm everything, sign, and put the manifest last.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::{
    CaptureOrder, Means,
    base::Base,
    error::Fault,
    pack::Streamed,
    trail::Trail,
    written::{self, Found, Written, read_back},
};
use crate::{
    apply::lease::Held,
    artifact::{
        Manifest,
        layout::{ObjectName, PackName},
        manifest::{self, Content, Moment, Sealed, Segments, Stored},
    },
    sources::Captured,
    stores::Store,
};

/// Questions to the store that are under way at once.
const QUESTIONS: usize = 8;

/// Puts the index of a stream.
pub async fn put_index(
    order: &CaptureOrder,
    means: &Means<'_>,
    streamed: &mut Streamed,
) -> Result<Stored, Fault> {
    let bytes = Bytes::from(streamed.index.to_bytes());
    let sha256 = Sha256::digest(&bytes).into();
    let folder = means.folder;
    let index = Written::put(folder.store.as_ref(), folder.index(order.artifact), bytes, sha256).await?;
    let stored = index.stored.clone();
    streamed.written.push(index);
    Ok(stored)
}

/// Gathers every pack in use, and has the store confirm what was written and what is reused.
pub async fn confirm(
    order: &CaptureOrder,
    means: &Means<'_>,
    base: Option<&Base>,
    streamed: &mut Streamed,
) -> Result<(), Fault> {
    let store = means.folder.store.as_ref();
    // Gathered first: a closure inside the stream would keep the whole capture from moving between threads.
    let answers: Vec<_> = streamed.written.iter().map(|written| written.confirm(store)).collect();
    stream::iter(answers).buffer_unordered(QUESTIONS).try_collect::<()>().await?;
    let mut reused: BTreeMap<PackName, Stored> = BTreeMap::new();
    for segment in &streamed.index.segments {
        let pack = segment.extent.pack;
        if pack.artifact != order.artifact && !reused.contains_key(&pack) {
            let stored = base.and_then(|base| base.pack(&pack)).ok_or(Fault::Stopped)?;
            reused.insert(pack, stored.clone());
        }
    }
    let ask = |(pack, stored): (&PackName, _)| {
        let name = means.folder.pack(*pack);
        async move { written::confirm(store, &name, stored).await.map(drop) }
    };
    let answers: Vec<_> = reused.iter().map(ask).collect();
    stream::iter(answers).buffer_unordered(QUESTIONS).try_collect::<()>().await?;
    streamed.packs.append(&mut reused);
    Ok(())
}

/// The manifest of what is stored and confirmed.
pub fn describe(
    order: &CaptureOrder,
    means: &Means<'_>,
    base: Option<&Base>,
    captured: Captured,
    streamed: Streamed,
    index: Stored,
) -> Result<Manifest, Fault> {
    let sealed = Sealed { sha256: streamed.sha256.map(hex::encode), details: captured.details };
    let content = Content::Segments(Segments {
        stream: means.source.stream_name(),
        count: streamed.index.segments.len() as u64,
        length: streamed.length,
        average: order.average(base),
        index,
        packs: streamed.packs,
    });
    manifest(order, means, base, captured.moment, content, &sealed)
}

/// The manifest of an artifact with this content.
pub fn manifest(
    order: &CaptureOrder,
    means: &Means<'_>,
    base: Option<&Base>,
    moment: Moment,
    content: Content,
    sealed: &Sealed,
) -> Result<Manifest, Fault> {
    Ok(Manifest {
        format: manifest::FORMAT.to_owned(),
        fleet: means.folder.fleet.clone(),
        backup: means.folder.backup.clone(),
        artifact: order.artifact,
        kind: order.capture.kind,
        slot: order.capture.slot,
        manual: order.capture.manual.clone(),
        base: order.capture.base,
        epoch: order.epoch(base),
        requires: order.requires.clone(),
        supersedes: None,
        revision: order.revision.clone(),
        reason: order.reason.clone(),
        started: order.now,
        finished: means.clock.now(),
        moment,
        recipients: order.recipients.to_texts(),
        content,
        sealed: Some(seal(order, sealed)?),
    })
}

fn seal(order: &CaptureOrder, sealed: &Sealed) -> Result<String, Fault> {
    let plaintext = serde_json::to_vec(sealed).expect("maps with text keys are JSON");
    let mut encrypted = Vec::new();
    order.recipients.encrypt(&plaintext, &mut encrypted)?;
    Ok(BASE64_STANDARD.encode(encrypted))
}

/// Puts the signature and then the manifest; once this returns `Ok` the artifact exists.
pub async fn commit(
    means: &Means<'_>,
    lease: &Held<'_>,
    manifest: &Manifest,
    trail: &mut Trail,
) -> Result<(), Fault> {
    let (folder, id) = (means.folder, manifest.artifact);
    let bytes = serde_json::to_vec_pretty(manifest).expect("maps with text keys are JSON");
    let signature = means.keys.sign(manifest::SIGNATURE_NAMESPACE, &bytes);

    lease.check(means.clock)?;
    trail.signature = true;
    let name = folder.signature(id);
    let signature = Bytes::from(signature);
    folder.store.put_if_absent(&name, signature.clone()).await?;
    expect_ours(read_back(folder.store.as_ref(), &name, &signature).await?, &name)?;

    lease.check(means.clock)?;
    trail.manifest = true;
    put_manifest(folder.store.as_ref(), folder.manifest(id), bytes.into(), trail).await
}

/// Puts the manifest. Whatever the put says, what can be read back decides; while that is unknown nothing that the
/// manifest names may be removed.
async fn put_manifest(
    store: &dyn Store,
    name: ObjectName,
    bytes: Bytes,
    trail: &mut Trail,
) -> Result<(), Fault> {
    trail.keep = true;
    let put = store.put_if_absent(&name, bytes.clone()).await;
    let found = match (read_back(store, &name, &bytes).await, &put) {
        (Ok(found), _) => found,
        (Err(_), Err(error)) => return Err(Fault::Outcome(error.clone())),
        (Err(error), Ok(_)) => return Err(Fault::Outcome(error)),
    };
    match (found, put) {
        (Found::Ours, _) => Ok(()),
        (Found::Nothing, Err(error)) => {
            trail.keep = false;
            Err(Fault::Store(error))
        }
        (found, _) => {
            trail.keep = false;
            expect_ours(found, &name)
        }
    }
}

fn expect_ours(found: Found, name: &ObjectName) -> Result<(), Fault> {
    let reason = match found {
        Found::Ours => return Ok(()),
        Found::Another => "it reads back as something else",
        Found::Nothing => "it is missing",
    };
    Err(Fault::Unconfirmed { object: name.clone(), reason: reason.to_owned() })
}
