//! A sink that lets the test act once a capture is half-way.

use std::sync::mpsc::{Receiver, Sender, channel};

use backstay::sources::{Run, RunKey, Sink, SinkClosed};
use bytes::Bytes;

/// Holds a capture once it has written so many bytes, until it is told to go on.
pub struct Held {
    begun: Option<Sender<Sender<()>>>,
    room: usize,
}

impl Held {
    /// The sink, and where its capture's being held is told, with where to tell it to go on.
    pub fn after(bytes: usize) -> (Self, Receiver<Sender<()>>) {
        let (begun, waited) = channel();
        (Self { begun: Some(begun), room: bytes }, waited)
    }
}

#[async_trait::async_trait]
impl Sink for Held {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        self.room = self.room.saturating_sub(bytes.len());
        if self.room == 0
            && let Some(begun) = self.begun.take()
        {
            let (go, wait) = channel();
            begun.send(go).expect("the test waits");
            wait.recv().expect("the test lets it go on");
        }
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}
