//! Bridges between drivers that block a thread (files, SQLite) and the asynchronous pipeline. Both are bounded: the
//! faster side waits.

use std::{
    io::{self, Read},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, oneshot},
    task::JoinError,
};

use super::{Run, RunKey, Sink};

/// How many pieces may wait between the two sides.
const DEPTH: usize = 8;

/// The size of the pieces that a restore is handed, bytes.
const CHUNK: usize = 128 * 1024;

enum Message {
    Bytes(Bytes),
    Run(Option<RunKey>, oneshot::Sender<Run>),
    Alive,
}

/// The blocking side of a [`Sink`].
pub(super) struct Feed(mpsc::Sender<Message>);

/// The stream is no longer read, or its reader has gone.
pub(super) struct Unwanted;

/// Why a capture was cut off from outside.
pub(super) enum Interrupted {
    /// The pipeline behind the sink has failed.
    SinkClosed,
    /// The blocking side was silent for longer than allowed.
    Stalled(Duration),
    /// The blocking side ended without a result.
    Died(JoinError),
}

impl Feed {
    /// See [`Sink::write`].
    pub(super) fn write(&self, bytes: Bytes) -> Result<(), Unwanted> {
        self.0.blocking_send(Message::Bytes(bytes)).map_err(|_| Unwanted)
    }

    /// See [`Sink::run`].
    pub(super) fn run(&self, key: Option<RunKey>) -> Result<Run, Unwanted> {
        let (answer, answered) = oneshot::channel();
        self.0.blocking_send(Message::Run(key, answer)).map_err(|_| Unwanted)?;
        answered.blocking_recv().map_err(|_| Unwanted)
    }

    /// Shows that work goes on though it yields no bytes.
    pub(super) fn alive(&self) -> Result<(), Unwanted> {
        self.0.blocking_send(Message::Alive).map_err(|_| Unwanted)
    }
}

/// Runs `work` on a thread that may block, and hands on to `sink` what it feeds. When the future is dropped, `work`
/// ends at its next call of the feed.
pub(super) async fn produce<T: Send + 'static>(
    sink: &mut dyn Sink,
    stall: Duration,
    work: impl FnOnce(&Feed) -> T + Send + 'static,
) -> Result<T, Interrupted> {
    let (sender, mut receiver) = mpsc::channel(DEPTH);
    let worker = tokio::task::spawn_blocking(move || work(&Feed(sender)));
    loop {
        let message = tokio::time::timeout(stall, receiver.recv()).await;
        match message.map_err(|_| Interrupted::Stalled(stall))? {
            Some(Message::Bytes(bytes)) => sink.write(bytes).await.map_err(|_| Interrupted::SinkClosed)?,
            Some(Message::Run(key, answer)) => {
                let run = sink.run(key).await.map_err(|_| Interrupted::SinkClosed)?;
                // The worker waits for the answer, or has panicked, which joining it tells.
                let _ = answer.send(run);
            }
            Some(Message::Alive) => {}
            None => break,
        }
    }
    worker.await.map_err(Interrupted::Died)
}

enum Piece {
    Bytes(Bytes),
    Failed(io::Error),
    End,
}

/// The blocking side of a stream that is restored. Ends only where the stream ends: a stream that is cut off by its
/// owner's going is an error.
pub(super) struct Incoming {
    pieces: mpsc::Receiver<Piece>,
    current: Bytes,
    ended: bool,
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.current = bytes,
                Some(Piece::Failed(error)) => return Err(error),
                Some(Piece::End) => self.ended = true,
                None => return Err(io::Error::other("the restore was given up")),
            }
        }
        let length = self.current.len().min(into.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// Runs `work` on a thread that may block, and hands it `stream`.
///
/// # Errors
/// When the thread ended without a result.
pub(super) async fn consume<T: Send + 'static>(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    work: impl FnOnce(&mut Incoming) -> T + Send + 'static,
) -> Result<T, JoinError> {
    let (sender, pieces) = mpsc::channel(DEPTH);
    let mut incoming = Incoming { pieces, current: Bytes::new(), ended: false };
    let worker = tokio::task::spawn_blocking(move || work(&mut incoming));
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        let (piece, last) = match stream.read_buf(&mut buffer).await {
            Ok(0) => (Piece::End, true),
            Ok(_) => (Piece::Bytes(buffer.split().freeze()), false),
            Err(error) => (Piece::Failed(error), true),
        };
        // A worker that no longer listens has a result, for better or worse.
        if sender.send(piece).await.is_err() || last {
            break;
        }
    }
    worker.await
}
