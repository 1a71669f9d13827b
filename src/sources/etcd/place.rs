//! The way back: a file from which each member's data folder is made.

use std::{io, path::Path};

use tokio::io::AsyncRead;

use super::{Failure, file::FileCheck};
use crate::sources::aside::{Aside, new_folder};

/// How a cluster gets the data of a file.
pub(super) const BY_HAND: &str = "restore to a file; then make every member's data folder of it with `etcdctl snapshot restore`, \
     and start a new cluster on them (docs/etcd.md)";

type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Writes the stream into a new file. What is no whole snapshot is not put in place.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Place(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    let mut check = FileCheck::default();
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
