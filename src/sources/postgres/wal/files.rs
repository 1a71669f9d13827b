//! Files of a log, sent as entries of its stream.

use std::{io, path::Path};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use super::Failure;
use crate::sources::{Sink, entries::Entry};

const CHUNK: usize = 128 * 1024;

/// Sends the first `real` bytes of a file, looked at as they pass, and zeros up to the size of the entry.
pub(super) async fn send(
    path: &Path,
    entry: &Entry,
    real: u64,
    mut look: impl FnMut(&[u8]) + Send,
    sink: &mut dyn Sink,
) -> Result<(), Failure> {
    let unreadable = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    sink.write(Bytes::from(entry.header()?)).await?;
    let mut file = tokio::fs::File::open(path).await.map_err(unreadable)?.take(real);
    while file.limit() > 0 {
        let mut piece = BytesMut::with_capacity(CHUNK);
        if file.read_buf(&mut piece).await.map_err(unreadable)? == 0 {
            return Err(Failure::Incomplete(format!("{} changed while it was read", entry.name)));
        }
        look(&piece);
        sink.write(piece.freeze()).await?;
    }
    let mut zeros = entry.size.saturating_sub(real) + entry.padding() as u64;
    while zeros > 0 {
        let now = zeros.min(CHUNK as u64);
        sink.write(Bytes::from(vec![0; now as usize])).await?;
        zeros -= now;
    }
    Ok(())
}
