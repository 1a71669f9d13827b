//! The way back: a file that a server loads when it starts.

use std::{io, path::Path};

use tokio::io::AsyncRead;

use super::{Failure, rdb::RdbCheck};
use crate::sources::aside::{Aside, new_folder};

/// How a server gets the data of a file.
pub(super) const BY_HAND: &str = "restore to a file; then stop the server, put it into its `dir` as `dbfilename` with `appendonly no`, \
     and start it, or have it replicate from a second server that was started on the file (docs/redis.md)";

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Writes the stream into a new file. What is no whole RDB file is not put in place.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Place(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    let mut check = RdbCheck::default();
    aside.fill(stream, |bytes| check.look(bytes)).await.map_err(Failure::Stream)?;
    check.finish().map_err(Failure::Incomplete)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Writes the stream into a file of a new or empty folder.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path, name: &str) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::Place(format!("{}: {error}", folder.display())))?;
    to_file(stream, &folder.join(name)).await
}
