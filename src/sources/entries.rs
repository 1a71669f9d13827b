//! The stream of a log: a tar of the engine's own files, each whole, so that `tar` and the engine's programs read it without
//! Backstay.

use std::{
    io,
    path::{Path, PathBuf},
};

use tar::{EntryType, Header};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::aside::Aside;

/// The unit of a tar archive, bytes (POSIX.1-2017, pax, "ustar Interchange Format").
const BLOCK: u64 = 512;

/// What ends an archive: two blocks of zeros.
pub(super) const END: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// A stream that holds no log.
#[derive(Debug, thiserror::Error)]
pub(super) enum EntryError {
    /// The stream failed.
    #[error(transparent)]
    Stream(#[from] io::Error),
    /// What came is no archive of log files.
    #[error("the log's archive can't be read: {0}")]
    Broken(String),
    /// A file of it can't be written.
    #[error("{}: {}", .0.display(), .1)]
    Unwritable(PathBuf, io::Error),
}

/// A file of a log in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its name on the server: no path.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

impl Entry {
    /// What stands before its content.
    pub(super) fn header(&self) -> Result<Vec<u8>, EntryError> {
        let mut header = Header::new_ustar();
        header.set_path(&self.name)?;
        header.set_size(self.size);
        header.set_mode(0o600);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        Ok(header.as_bytes().to_vec())
    }

    /// The zeros behind its content.
    pub(super) fn padding(&self) -> usize {
        // Less than a block.
        ((BLOCK - self.size % BLOCK) % BLOCK) as usize
    }

    /// Reads the next one; `None` at the archive's end.
    pub(super) async fn read(
        stream: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<Option<Self>, EntryError> {
        let mut block = [0; BLOCK as usize];
        stream.read_exact(&mut block).await?;
        if block.iter().all(|byte| *byte == 0) {
            stream.read_exact(&mut block).await?;
            return Ok(None);
        }
        Self::parse(&block).map(Some)
    }

    /// Writes its content to a file at `path`, which is seen only whole.
    pub(super) async fn extract(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        path: &Path,
    ) -> Result<(), EntryError> {
        let unwritable = |error: io::Error| EntryError::Unwritable(path.to_owned(), error);
        let mut aside = Aside::begin(path).map_err(unwritable)?;
        let mut content = stream.take(self.size);
        aside.fill(&mut content, |_| ()).await?;
        if content.limit() > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        aside.place().map_err(unwritable)
    }

    fn parse(block: &[u8; BLOCK as usize]) -> Result<Self, EntryError> {
        let broken = |why: &str| EntryError::Broken(why.to_owned());
        let header = Header::from_byte_slice(block);
        let sum = header.cksum().map_err(|_| broken("it has no checksum"))?;
        let mut blank = header.clone();
        blank.set_cksum();
        if blank.cksum().ok() != Some(sum) {
            return Err(broken("a checksum is wrong"));
        }
        let size = header.entry_size().map_err(|_| broken("a size is no number"))?;
        let name = header.path().map_err(|_| broken("a name is no text"))?.to_string_lossy().into_owned();
        if !is_plain(&name) {
            return Err(broken(&format!("it names {name:?}")));
        }
        Ok(Self { name, size })
    }
}

/// Passes over `length` bytes of a stream.
pub(super) async fn skip(stream: &mut (dyn AsyncRead + Send + Unpin), length: u64) -> Result<(), EntryError> {
    match tokio::io::copy(&mut stream.take(length), &mut tokio::io::sink()).await? {
        passed if passed == length => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Writes the file of this name in the stream of a log to `to`, and reads no further; tells whether there is one.
///
/// # Errors
/// Where the stream fails or is no log's, or `to` can't be written.
pub async fn log_file(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    name: &str,
    to: &mut (dyn AsyncWrite + Send + Unpin),
) -> io::Result<bool> {
    let broken = |error: EntryError| match error {
        EntryError::Stream(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    };
    while let Some(entry) = Entry::read(stream).await.map_err(broken)? {
        if entry.name != name {
            skip(stream, entry.size + entry.padding() as u64).await.map_err(broken)?;
            continue;
        }
        let copied = tokio::io::copy(&mut stream.take(entry.size), to).await?;
        to.flush().await?;
        return if copied == entry.size { Ok(true) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
    }
    Ok(false)
}

/// Whether a name is one of a file in a folder, and no option.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty()
        && name.len() <= 99
        && name.chars().all(plain)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_file_is_taken_out_of_a_log() {
        let mut log = Vec::new();
        for (name, content) in [("one", &b"first"[..]), ("two", &[7; 600])] {
            let entry = Entry { name: name.to_owned(), size: content.len() as u64 };
            log.extend(entry.header().unwrap());
            log.extend(content);
            log.resize(log.len() + entry.padding(), 0);
        }
        log.extend(END);
        let mut taken = Vec::new();
        assert!(log_file(&mut log.as_slice(), "two", &mut taken).await.unwrap());
        assert_eq!(taken, [7; 600]);
        assert!(!log_file(&mut log.as_slice(), "three", &mut Vec::new()).await.unwrap());
        assert!(log_file(&mut &log[..1300], "two", &mut Vec::new()).await.is_err(), "it is cut short");
        assert!(log_file(&mut &b"nothing"[..], "two", &mut Vec::new()).await.is_err());
    }

    #[tokio::test]
    async fn entries_are_read_back_and_nothing_but_plain_names_is() {
        let entry = Entry { name: "bin.000001".to_owned(), size: 700 };
        let mut header: &[u8] = &entry.header().unwrap();
        assert_eq!(Entry::read(&mut header).await.unwrap(), Some(entry.clone()));
        assert_eq!(entry.padding(), 324);
        assert_eq!(Entry::read(&mut &END[..]).await.unwrap(), None);
        for name in ["../bin.000001", "a/b", "-o", ".hidden", "", "a b"] {
            assert!(!is_plain(name), "{name}");
        }
        let mut broken = entry.header().unwrap();
        broken[0] = b'x';
        assert!(Entry::read(&mut broken.as_slice()).await.is_err());
    }
}
