//! A shard on its way to the server: an archive that is written piece by piece.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::stream;
use reqwest::Body;
use tokio::{
    runtime::Handle,
    sync::mpsc,
    task::JoinHandle,
    time::{error::Elapsed, timeout},
};

use super::{Failure, api::Api};
use crate::sources::pax::TRAILER;

/// How many pieces may wait for the server.
const DEPTH: usize = 8;

/// How long the server may take no piece, or work on a whole shard.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// An archive that is being sent. One that is dropped before its end is cut short, which the server takes for a failure.
pub(super) struct Upload {
    pieces: Option<mpsc::Sender<io::Result<Bytes>>>,
    sent: JoinHandle<Result<(), Failure>>,
    shard: u64,
    runtime: Handle,
}

impl Upload {
    /// Begins to fill `shard`.
    pub(super) fn begin(api: &Api, shard: u64, runtime: &Handle) -> Self {
        let (pieces, taken) = mpsc::channel(DEPTH);
        let body = stream::unfold(taken, |mut taken| async move { Some((taken.recv().await?, taken)) });
        let api = api.clone();
        let sent = runtime.spawn(async move { api.fill(shard, Body::wrap_stream(body)).await });
        Self { pieces: Some(pieces), sent, shard, runtime: runtime.clone() }
    }

    /// The next bytes of the archive.
    pub(super) fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        let Some(pieces) = &self.pieces else { return Ok(()) };
        match self.runtime.block_on(timeout(PATIENCE, pieces.send(Ok(bytes)))) {
            Ok(Ok(())) => Ok(()),
            // The server has answered before the end.
            Ok(Err(_)) => Err(self.answer().err().unwrap_or_else(|| self.early())),
            Err(elapsed) => Err(self.silent(elapsed)),
        }
    }

    /// Ends the archive, and waits until the server has taken it in.
    pub(super) fn finish(mut self) -> Result<(), Failure> {
        self.write(Bytes::from_static(&TRAILER))?;
        self.pieces = None;
        self.answer()
    }

    fn answer(&mut self) -> Result<(), Failure> {
        match self.runtime.block_on(timeout(PATIENCE, &mut self.sent)) {
            Ok(Ok(answer)) => answer,
            Ok(Err(died)) => Err(Failure::Answer(died.to_string())),
            Err(elapsed) => Err(self.silent(elapsed)),
        }
    }

    fn early(&self) -> Failure {
        Failure::Incomplete(format!("the server did not take in all of shard {}", self.shard))
    }

    fn silent(&self, _: Elapsed) -> Failure {
        let silence = humantime::format_duration(PATIENCE);
        Failure::Unreached(format!("the server was silent for {silence} over shard {}", self.shard))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.sent.abort();
    }
}
