//! Where a source writes: the mouth of the pipeline.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::base::Base;
use crate::{
    artifact::index::KeyedHash,
    keys::NamingKey,
    progress::Progress,
    sources::{Run, RunKey, Sink, SinkClosed},
};

/// The most that one message to the pipeline carries, bytes.
const LARGEST_PIECE: usize = 1 << 20;

/// Writes smaller than this are gathered until they are as much, bytes.
const SMALLEST_PIECE: usize = 64 << 10;

/// What the pipeline is told.
pub enum Piece {
    /// The next bytes.
    Bytes(Bytes),
    /// A run begins.
    Run(Option<KeyedHash>),
    /// A run of the base, by its number there, is taken over.
    Reused(u32),
    /// The stream is whole. Without this nothing counts.
    End,
}

/// The [`Sink`] of one capture.
pub struct PipelineSink<'a> {
    pieces: mpsc::Sender<Piece>,
    gathered: BytesMut,
    naming: NamingKey,
    base: Option<Arc<Base>>,
    progress: &'a dyn Progress,
    run: Run,
    state: State,
}

/// How a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Goes on.
    Open,
    /// The pipeline ended early; its own error tells why.
    Closed,
    /// The source wrote into a run that it was told to leave out.
    Misused,
}

impl<'a> PipelineSink<'a> {
    /// A sink into `pieces`, which finds runs in `base`.
    pub fn new(
        pieces: mpsc::Sender<Piece>,
        naming: NamingKey,
        base: Option<Arc<Base>>,
        progress: &'a dyn Progress,
    ) -> Self {
        let gathered = BytesMut::new();
        Self { pieces, gathered, naming, base, progress, run: Run::Wanted, state: State::Open }
    }

    /// How the stream stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Tells the pipeline that the stream is whole.
    pub async fn finish(mut self) -> Result<(), SinkClosed> {
        self.flush().await?;
        self.send(Piece::End).await
    }

    async fn flush(&mut self) -> Result<(), SinkClosed> {
        let gathered = self.gathered.split().freeze();
        if gathered.is_empty() { Ok(()) } else { self.send(Piece::Bytes(gathered)).await }
    }

    async fn send(&mut self, piece: Piece) -> Result<(), SinkClosed> {
        if self.pieces.send(piece).await.is_err() {
            self.state = State::Closed;
            return Err(SinkClosed);
        }
        Ok(())
    }
}

#[async_trait]
impl Sink for PipelineSink<'_> {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), SinkClosed> {
        if self.run == Run::Reused && !bytes.is_empty() {
            self.state = State::Misused;
            return Err(SinkClosed);
        }
        self.progress.read(bytes.len() as u64);
        if bytes.len() < SMALLEST_PIECE {
            self.gathered.extend_from_slice(&bytes);
            return if self.gathered.len() < SMALLEST_PIECE { Ok(()) } else { self.flush().await };
        }
        self.flush().await?;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(LARGEST_PIECE));
            self.send(Piece::Bytes(piece)).await?;
        }
        Ok(())
    }

    async fn run(&mut self, key: Option<RunKey>) -> Result<Run, SinkClosed> {
        self.flush().await?;
        let hash = key.map(|key| self.naming.run(&key));
        let known = hash.and_then(|hash| self.base.as_ref()?.run(&hash));
        self.run = if known.is_some() { Run::Reused } else { Run::Wanted };
        self.send(known.map_or(Piece::Run(hash), Piece::Reused)).await?;
        Ok(self.run)
    }
}
