//! Sealed segments into packs, packs into the store.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt, Stream, StreamExt,
    future::BoxFuture,
    stream::{self, FuturesUnordered},
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    CaptureOrder, Means,
    base::Base,
    error::Fault,
    pipeline::{Entry, Place},
    written::Written,
};
use crate::{
    apply::lease::Held,
    artifact::{
        index::{Extent, Index, KeyedHash, RunHash, Segment},
        layout::PackName,
        manifest::Stored,
    },
};

/// A pack is closed before it would grow beyond this, bytes.
const PACK: usize = 32 << 20;

/// Packs on their way to the store. Each holds its bytes in memory.
const PUTS: usize = 2;

/// A stream that is whole, all of it in packs that the store accepted.
pub struct Streamed {
    /// Its segments.
    pub index: Index,
    /// Length of its plaintext, bytes.
    pub length: u64,
    /// SHA-256 of its plaintext, unless a run was left out.
    pub sha256: Option<[u8; 32]>,
    /// The packs that it added.
    pub packs: BTreeMap<PackName, Stored>,
    /// What was put, to be confirmed.
    pub written: Vec<Written>,
}

/// Fills packs and puts them.
pub struct Packer<'a> {
    order: &'a CaptureOrder,
    means: &'a Means<'a>,
    lease: &'a Held<'a>,
    base: Option<Arc<Base>>,
    /// The pack that is being filled.
    open: Vec<u8>,
    digest: Sha256,
    /// How many packs were begun to be put.
    begun: u32,
    puts: FuturesUnordered<BoxFuture<'a, Result<(PackName, Written), Fault>>>,
    /// Where the segments are that this stream added, by their number.
    added: Vec<Extent>,
    /// The run that is not over, and the length of its plaintext so far.
    run: Option<KeyedHash>,
    run_length: u64,
    streamed: Streamed,
}

impl<'a> Packer<'a> {
    /// A packer for one capture.
    pub fn new(
        order: &'a CaptureOrder,
        means: &'a Means<'a>,
        lease: &'a Held<'a>,
        base: Option<Arc<Base>>,
    ) -> Self {
        let streamed = Streamed {
            index: Index::default(),
            length: 0,
            sha256: None,
            packs: BTreeMap::new(),
            written: Vec::new(),
        };
        Self {
            order,
            means,
            lease,
            base,
            open: Vec::new(),
            digest: Sha256::new(),
            begun: 0,
            puts: FuturesUnordered::new(),
            added: Vec::new(),
            run: None,
            run_length: 0,
            streamed,
        }
    }

    /// How many packs may be in the store, whole, in part or not at all.
    pub fn begun(&self) -> u32 {
        self.begun
    }

    /// Takes all entries up to the end of the stream, and returns once the store has accepted every pack.
    pub async fn run(&mut self, entries: mpsc::Receiver<Entry>) -> Result<(), Fault> {
        let mut entries = std::pin::pin!(in_order(entries));
        loop {
            tokio::select! {
                Some(put) = self.puts.next(), if !self.puts.is_empty() => self.account(put?),
                entry = entries.next() => match entry.ok_or(Fault::Stopped)?? {
                    Settled::Entry(Entry::End(sha256)) => {
                        self.streamed.sha256 = sha256;
                        break;
                    }
                    settled => self.take(settled).await?,
                },
            }
        }
        self.end_run();
        self.close_pack().await?;
        while let Some(put) = self.puts.next().await {
            self.account(put?);
        }
        Ok(())
    }

    /// What [`Packer::run`] made.
    pub fn finish(self) -> Streamed {
        self.streamed
    }

    /// Waits for the puts that are under way, whatever comes of them, so that none lands after a removal.
    pub async fn settle(&mut self) {
        while self.puts.next().await.is_some() {}
    }

    async fn take(&mut self, settled: Settled) -> Result<(), Fault> {
        match settled {
            Settled::New { hash, length, sealed } => {
                let extent = self.append(&sealed).await?;
                self.added.push(extent);
                self.push(hash, length as u64, extent);
            }
            Settled::Entry(Entry::Segment { hash, length, place }) => {
                let extent = match place {
                    Place::Base(extent) => Some(extent),
                    Place::Added(number) => self.added.get(number).copied(),
                    Place::New(_) => None,
                };
                self.push(hash, length as u64, extent.ok_or(Fault::Stopped)?);
            }
            Settled::Entry(Entry::Run(key)) => {
                self.end_run();
                self.run = key;
                self.streamed.index.start_run(None);
            }
            Settled::Entry(Entry::Reused(number)) => self.reuse(number)?,
            Settled::Entry(Entry::End(_)) => {}
        }
        Ok(())
    }

    fn push(&mut self, hash: KeyedHash, length: u64, extent: Extent) {
        self.run_length += length;
        self.streamed.length += length;
        self.streamed.index.push(Segment { hash, extent });
    }

    /// Writes the length of a run into the index, now that it is known.
    fn end_run(&mut self) {
        let length = std::mem::take(&mut self.run_length);
        if let (Some(hash), Some(run)) = (self.run.take(), self.streamed.index.runs.last_mut()) {
            run.key = Some(RunHash { hash, length });
        }
    }

    fn reuse(&mut self, number: u32) -> Result<(), Fault> {
        self.end_run();
        let base = self.base.clone().ok_or(Fault::Stopped)?;
        let (key, segments) = base.numbered_run(number).ok_or(Fault::Stopped)?;
        self.streamed.length += key.length;
        self.streamed.index.start_run(Some(key));
        for segment in segments {
            self.streamed.index.push(*segment);
        }
        Ok(())
    }

    /// Appends an age file to the open pack.
    async fn append(&mut self, sealed: &[u8]) -> Result<Extent, Fault> {
        if !self.open.is_empty() && self.open.len() + sealed.len() > PACK {
            self.close_pack().await?;
        }
        if self.open.capacity() == 0 {
            self.open.reserve_exact(PACK.max(sealed.len()));
        }
        let pack = PackName { artifact: self.order.artifact, number: self.begun };
        // A segment is never longer than its bound of a few MiB.
        let extent = Extent { pack, offset: self.open.len() as u64, length: sealed.len() as u32 };
        self.open.extend_from_slice(sealed);
        self.digest.update(sealed);
        Ok(extent)
    }

    /// Sends the open pack to the store, once there is room for a put.
    async fn close_pack(&mut self) -> Result<(), Fault> {
        if self.open.is_empty() {
            return Ok(());
        }
        while self.puts.len() >= PUTS
            && let Some(put) = self.puts.next().await
        {
            self.account(put?);
        }
        self.lease.check(self.means.clock)?;
        let pack = PackName { artifact: self.order.artifact, number: self.begun };
        let sha256 = std::mem::take(&mut self.digest).finalize().into();
        let mut content = std::mem::take(&mut self.open);
        if content.len() < PACK / 2 {
            content.shrink_to_fit();
        }
        self.begun += 1;
        let folder = self.means.folder;
        let put = Written::put(folder.store.as_ref(), folder.pack(pack), Bytes::from(content), sha256)
            .map(move |put| Ok((pack, put?)));
        self.puts.push(put.boxed());
        Ok(())
    }

    fn account(&mut self, (pack, written): (PackName, Written)) {
        self.means.progress.written(written.stored.size);
        self.streamed.packs.insert(pack, written.stored.clone());
        self.streamed.written.push(written);
    }
}

/// An entry whose segment, if it is new, is sealed.
enum Settled {
    New { hash: KeyedHash, length: usize, sealed: Vec<u8> },
    Entry(Entry),
}

/// The entries in the order of the stream, each once it is settled.
fn in_order(entries: mpsc::Receiver<Entry>) -> impl Stream<Item = Result<Settled, Fault>> {
    stream::unfold(entries, |mut entries| async {
        let settled = match entries.recv().await? {
            Entry::Segment { hash, length, place: Place::New(sealed) } => match sealed.await {
                Ok(Ok(sealed)) => Ok(Settled::New { hash, length, sealed }),
                Ok(Err(error)) => Err(Fault::Seal(error)),
                Err(_) => Err(Fault::Stopped),
            },
            entry => Ok(Settled::Entry(entry)),
        };
        Some((settled, entries))
    })
}
