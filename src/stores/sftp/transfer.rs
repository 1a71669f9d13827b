//! Content in many requests under way at once, so that the network's latency is paid once and not for each.

use std::{io::SeekFrom, ops::Range, pin::Pin};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use openssh_sftp_client::{Error, file::File};
use tokio::io::AsyncSeek;

use super::{fault::Fault, session::Session};

/// Bytes of one request: below the 255 KiB that OpenSSH's server takes. Other servers' limits cut it further.
const PIECE: u64 = 240 * 1024;

/// Requests under way.
const AT_ONCE: usize = 32;

/// Writes `content` from the start of `file`.
pub(super) async fn write(session: &Session, file: &File, content: &Bytes) -> Result<(), Fault> {
    let pieces = pieces(0..content.len() as u64).map(|piece| {
        let bytes = content.slice(piece.start as usize..piece.end as usize);
        write_piece(file.clone(), piece.start, bytes)
    });
    let mut written = stream::iter(pieces).buffer_unordered(AT_ONCE);
    while let Some(piece) = session.heard(written.next()).await? {
        piece?;
    }
    Ok(())
}

/// Reads the bytes `range` of `file`.
pub(super) async fn read(session: &Session, file: &File, range: Range<u64>) -> Result<Bytes, Fault> {
    let mut content = BytesMut::with_capacity((range.end - range.start) as usize);
    let pieces = pieces(range).map(|piece| read_piece(file.clone(), piece));
    let mut pieces = stream::iter(pieces).buffered(AT_ONCE);
    while let Some(piece) = session.heard(pieces.try_next()).await?? {
        content.extend_from_slice(&piece);
    }
    Ok(content.freeze())
}

fn pieces(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let end = range.end;
    range.step_by(PIECE as usize).map(move |start| start..end.min(start + PIECE))
}

async fn write_piece(mut file: File, offset: u64, bytes: Bytes) -> Result<(), Error> {
    Pin::new(&mut file).start_seek(SeekFrom::Start(offset))?;
    file.write_all_zero_copy(&mut [bytes]).await
}

/// Reads one piece. A server may give less than it was asked for: the rest is asked for again.
async fn read_piece(mut file: File, range: Range<u64>) -> Result<BytesMut, Fault> {
    let mut content = BytesMut::new();
    loop {
        let offset = range.start + content.len() as u64;
        if offset >= range.end {
            return Ok(content);
        }
        Pin::new(&mut file).start_seek(SeekFrom::Start(offset)).map_err(Error::from)?;
        match file.read((range.end - offset) as u32, BytesMut::new()).await? {
            Some(more) if !more.is_empty() => content.unsplit(more),
            _ => return Err(Fault::Shrank),
        }
    }
}
