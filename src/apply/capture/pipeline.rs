//! The threads between the sink and the packs: one cuts and looks up, one takes the digest of the whole, and as many as
//! there are cores compress and encrypt. Every channel is bounded; a thread ends when the one behind it or before it
//! does. They are the runtime's, which knows by them that work goes on.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{mpsc, oneshot},
    task::spawn_blocking,
};

use super::{
    base::Base,
    cut::{Cut, Cutter},
    sink::Piece,
};
use crate::{
    apply::segment::{Recipients, SealError, Sealer},
    artifact::index::{Extent, KeyedHash},
    keys::NamingKey,
};

/// Messages that may wait between the sink and the cutter.
const PIECES: usize = 4;

/// Segments that may wait for a place in a pack, in the order of the stream; most hold no bytes.
const ENTRIES: usize = 16;

/// What stands next in the stream, for the packer.
pub enum Entry {
    /// A run begins.
    Run(Option<KeyedHash>),
    /// A run of the base is taken over, by its number there.
    Reused(u32),
    /// A segment.
    Segment {
        /// Of its plaintext.
        hash: KeyedHash,
        /// Length of its plaintext, bytes.
        length: usize,
        /// Where it is stored.
        place: Place,
    },
    /// The stream is whole; the digest of its plaintext, unless a run was left out.
    End(Option<[u8; 32]>),
}

/// Where a segment is stored.
pub enum Place {
    /// Where the base has it.
    Base(Extent),
    /// Where this stream has it already: in the segment of this number among those that it added.
    Added(usize),
    /// Nowhere yet; sealed soon.
    New(oneshot::Receiver<Result<Vec<u8>, SealError>>),
}

/// What the pipeline works with.
pub struct Setting {
    /// The backup's key.
    pub naming: NamingKey,
    /// What segments are shared with.
    pub base: Option<Arc<Base>>,
    /// Who can read the segments.
    pub recipients: Recipients,
    /// The average length of a segment, bytes.
    pub average: u32,
}

/// The two ends of a pipeline.
pub struct Ends {
    /// What the sink writes into.
    pub pieces: mpsc::Sender<Piece>,
    /// What the packer reads.
    pub entries: mpsc::Receiver<Entry>,
}

struct Task {
    plaintext: Bytes,
    sealed: oneshot::Sender<Result<Vec<u8>, SealError>>,
}

/// Starts the threads. They end when either end is dropped.
pub fn start(setting: Setting) -> Ends {
    let (pieces, pieces_out) = mpsc::channel(PIECES);
    let (entries_in, entries) = mpsc::channel(ENTRIES);
    let (digest, digested) = start_digest();
    let tasks = start_sealers(&setting.recipients);
    let stage = CutStage {
        cutter: Cutter::new(setting.average, setting.naming.cut_seed()),
        room: setting.average as usize * 3 / 2,
        open: Vec::new(),
        naming: setting.naming,
        base: setting.base,
        added: HashMap::new(),
        digest: Some(digest),
        tasks,
        entries: entries_in,
    };
    spawn_blocking(move || {
        // An error says that the packer is gone, and then nobody is left to tell.
        let _ = stage.run(pieces_out, digested);
    });
    Ends { pieces, entries }
}

fn start_digest() -> (SyncSender<Bytes>, oneshot::Receiver<[u8; 32]>) {
    let (pieces, pieces_out) = sync_channel::<Bytes>(2);
    let (done, digested) = oneshot::channel();
    spawn_blocking(move || {
        let digest = pieces_out.iter().fold(Sha256::new(), |digest, piece| digest.chain_update(&piece));
        let _ = done.send(digest.finalize().into());
    });
    (pieces, digested)
}

fn start_sealers(recipients: &Recipients) -> SyncSender<Task> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let (tasks, tasks_out) = sync_channel::<Task>(cores);
    let tasks_out = Arc::new(Mutex::new(tasks_out));
    for _ in 0..cores {
        let (tasks, recipients) = (tasks_out.clone(), recipients.clone());
        spawn_blocking(move || seal_all(&tasks, recipients));
    }
    tasks
}

fn seal_all(tasks: &Mutex<Receiver<Task>>, recipients: Recipients) {
    let mut sealer = Sealer::new(recipients);
    loop {
        let next = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Task { plaintext, sealed }) = next else { return };
        let result = match &mut sealer {
            Ok(sealer) => sealer.seal(&plaintext),
            Err(error) => Err(error.clone()),
        };
        // The plaintext's memory is free before anybody asks for more.
        drop(plaintext);
        let _ = sealed.send(result);
    }
}

/// The other side of a channel is gone.
struct Gone;

struct CutStage {
    cutter: Cutter,
    /// How much a segment is given at first, bytes.
    room: usize,
    /// The segment that is not cut yet.
    open: Vec<u8>,
    naming: NamingKey,
    base: Option<Arc<Base>>,
    /// Segments that this stream added, by their number.
    added: HashMap<KeyedHash, usize>,
    /// `None` once a run was left out.
    digest: Option<SyncSender<Bytes>>,
    tasks: SyncSender<Task>,
    entries: mpsc::Sender<Entry>,
}

impl CutStage {
    fn run(
        mut self,
        mut pieces: mpsc::Receiver<Piece>,
        digested: oneshot::Receiver<[u8; 32]>,
    ) -> Result<(), Gone> {
        while let Some(piece) = pieces.blocking_recv() {
            match piece {
                Piece::Bytes(bytes) => self.cut(&bytes)?,
                Piece::Run(key) => {
                    self.close()?;
                    self.tell(Entry::Run(key))?;
                }
                Piece::Reused(run) => {
                    self.close()?;
                    self.digest = None;
                    self.tell(Entry::Reused(run))?;
                }
                Piece::End => {
                    self.close()?;
                    let whole = self.digest.take().map(drop);
                    let digest = whole.map(|()| digested.blocking_recv().map_err(|_| Gone)).transpose()?;
                    return self.tell(Entry::End(digest));
                }
            }
        }
        // The source failed or was dropped: the packer is not told an end, and nothing counts.
        Ok(())
    }

    fn cut(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while let Cut::Before(end) = self.cutter.scan(bytes) {
            let (segment, rest) = bytes.split_at(end);
            self.append(segment);
            self.close()?;
            bytes = rest;
        }
        self.append(bytes);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.open.capacity() == 0 {
            self.open.reserve(self.room);
        }
        self.open.extend_from_slice(bytes);
    }

    /// Ends the open segment, if there is any of it.
    fn close(&mut self) -> Result<(), Gone> {
        self.cutter.restart();
        if self.open.is_empty() {
            return Ok(());
        }
        let plaintext = Bytes::from(std::mem::take(&mut self.open));
        if let Some(digest) = &self.digest {
            digest.send(plaintext.clone()).map_err(|_| Gone)?;
        }
        let (hash, length) = (self.naming.segment(&plaintext), plaintext.len());
        let place = self.place(hash, plaintext)?;
        self.tell(Entry::Segment { hash, length, place })
    }

    fn place(&mut self, hash: KeyedHash, plaintext: Bytes) -> Result<Place, Gone> {
        if let Some(extent) = self.base.as_ref().and_then(|base| base.segment(&hash)) {
            return Ok(Place::Base(extent));
        }
        let number = self.added.len();
        match *self.added.entry(hash).or_insert(number) {
            earlier if earlier < number => Ok(Place::Added(earlier)),
            _ => {
                let (sealed, result) = oneshot::channel();
                self.tasks.send(Task { plaintext, sealed }).map_err(|_| Gone)?;
                Ok(Place::New(result))
            }
        }
    }

    fn tell(&self, entry: Entry) -> Result<(), Gone> {
        self.entries.blocking_send(entry).map_err(|_| Gone)
    }
}
