//! Answers of the server that are read as streams by threads that may block.

use std::{
    io::{self, Read},
    time::Duration,
};

use bytes::{Buf, Bytes};
use reqwest::Response;
use tokio::{runtime::Handle, time::timeout};

/// The body of an answer.
pub(super) struct Body {
    response: Response,
    current: Bytes,
    runtime: Handle,
    silence: Duration,
    /// How many zeros it ended with so far.
    zeros: u64,
}

impl Body {
    /// `silence` is how long the server may send nothing.
    pub(super) fn new(response: Response, runtime: Handle, silence: Duration) -> Self {
        Self { response, current: Bytes::new(), runtime, silence, zeros: 0 }
    }

    /// How many zeros it ended with, once it was read to its end. A failure in the middle of an answer is written by the
    /// server behind what it has sent already, and behind the closing blocks of an archive.
    pub(super) fn closing_zeros(&self) -> u64 {
        self.zeros
    }

    fn next(&mut self) -> io::Result<Option<Bytes>> {
        match self.runtime.block_on(timeout(self.silence, self.response.chunk())) {
            Ok(Ok(piece)) => Ok(piece),
            Ok(Err(error)) => Err(io::Error::other(causes(error))),
            Err(_) => {
                let silence = humantime::format_duration(self.silence);
                Err(io::Error::new(io::ErrorKind::TimedOut, format!("the server was silent for {silence}")))
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.next()? {
                Some(piece) => {
                    let zeros = piece.iter().rev().take_while(|byte| **byte == 0).count();
                    self.zeros = if zeros == piece.len() { self.zeros } else { 0 } + zeros as u64;
                    self.current = piece;
                }
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(into.len());
        self.current.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

/// An error with all that is behind it, without the URL.
pub(super) fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(why) = cause {
        reason = format!("{reason}: {why}");
        cause = why.source();
    }
    reason
}
