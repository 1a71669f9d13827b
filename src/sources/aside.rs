//! A file written aside and put in place whole: nobody sees a part of it, and it overwrites nothing.

use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::NamedTempFile;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Makes a folder that only its owner may look into; one that exists must be empty.
pub(super) fn new_folder(folder: &Path) -> io::Result<()> {
    match std::fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(io::Error::new(io::ErrorKind::DirectoryNotEmpty, "it is not empty")),
        Err(_) => DirBuilder::new().mode(0o700).create(folder),
    }
}

/// What a place of a new folder was before: nothing, or an empty folder.
#[derive(Debug)]
pub(super) struct Vacancy {
    place: PathBuf,
    existed: bool,
}

impl Vacancy {
    /// Before the folder is made.
    pub(super) fn of(place: &Path) -> Self {
        Self { place: place.to_owned(), existed: place.symlink_metadata().is_ok() }
    }

    /// Removes the folder that was made meanwhile, if it is empty.
    pub(super) fn restore(self) {
        if !self.existed {
            // What somebody else put there meanwhile stays, and the folder with it.
            let _ = std::fs::remove_dir(&self.place);
        }
    }
}

/// All of `stream` in a file of `folder` that has no name, so that it goes with its last handle; `look` sees every piece. It is
/// plaintext, and nobody else can open it.
pub(super) async fn staged(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    folder: &Path,
    mut look: impl FnMut(&[u8]) + Send,
) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    pour(stream, file.try_clone()?, &mut look).await?;
    Ok(file)
}

async fn pour(
    stream: &mut (dyn AsyncRead + Send + Unpin),
    file: File,
    look: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<()> {
    let mut file = tokio::fs::File::from_std(file);
    let mut piece = vec![0; 128 * 1024];
    loop {
        match stream.read(&mut piece).await? {
            0 => return file.flush().await,
            length => {
                look(&piece[..length]);
                file.write_all(&piece[..length]).await?;
            }
        }
    }
}

/// A file under way to its place; removed when it is dropped before [`Aside::place`].
#[derive(Debug)]
pub(super) struct Aside {
    file: NamedTempFile,
    place: PathBuf,
}

impl Aside {
    /// Refuses a place that is taken, before anything is read.
    pub(super) fn begin(place: &Path) -> io::Result<Self> {
        if place.symlink_metadata().is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists"));
        }
        let folder = place.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let file = tempfile::Builder::new().prefix(".backstay-").tempfile_in(folder)?;
        Ok(Self { file, place: place.to_owned() })
    }

    /// Writes all of `stream`; `look` sees every piece.
    pub(super) async fn fill(
        &mut self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        mut look: impl FnMut(&[u8]) + Send,
    ) -> io::Result<()> {
        pour(stream, self.file.as_file().try_clone()?, &mut look).await
    }

    /// Makes the file durable and shows it at its place.
    pub(super) fn place(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        let (_, path) = self.file.into_parts();
        renameat_with(CWD, &*path, CWD, &self.place, RenameFlags::NOREPLACE)?;
        // The name is gone: there is nothing left to remove.
        let _ = path.keep();
        File::open(self.place.parent().unwrap_or(Path::new("/")))?.sync_all()
    }
}
