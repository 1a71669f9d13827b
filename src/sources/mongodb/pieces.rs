//! Documents on their way to the sink: handed on in large pieces, counted, and summed up.

use bytes::{Bytes, BytesMut};

use super::archive::Checksum;
use crate::sources::{Sink, SinkClosed};

/// How much is handed on at once, bytes.
const PIECE: usize = 1024 * 1024;

/// Documents in a row.
pub(super) struct Pieces<'a> {
    sink: &'a mut dyn Sink,
    piece: BytesMut,
    /// Of all documents.
    pub checksum: Checksum,
    /// How many there are.
    pub count: u64,
}

impl<'a> Pieces<'a> {
    /// Behind `opening`, which is no document.
    pub fn begin(sink: &'a mut dyn Sink, opening: &[u8]) -> Self {
        Self { sink, piece: BytesMut::from(opening), checksum: Checksum::new(), count: 0 }
    }

    /// The next document.
    pub async fn document(&mut self, document: &[u8]) -> Result<(), SinkClosed> {
        self.checksum.update(document);
        self.count += 1;
        self.piece.extend_from_slice(document);
        if self.piece.len() >= PIECE {
            self.sink.write(self.piece.split().freeze()).await?;
        }
        Ok(())
    }

    /// Hands on the rest and `closing`, which is no document.
    pub async fn end(mut self, closing: &[u8]) -> Result<(), SinkClosed> {
        self.piece.extend_from_slice(closing);
        match self.piece.is_empty() {
            true => Ok(()),
            false => self.sink.write(Bytes::from(self.piece)).await,
        }
    }
}
