//! The listing: every object below a folder, or an error.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use openssh_sftp_client::fs::DirEntry;

use super::{
    super::Listed,
    Place,
    fault::Fault,
    objects::{absent, modified},
    session::Session,
};
use crate::artifact::layout::ObjectName;

/// Folders read at once.
const AT_ONCE: usize = 16;

/// Every object below `under`, one depth after the other. Files whose names are no object's are not ours. A symbolic
/// link is an error, for what is behind it would be missing from the answer.
pub(super) async fn list(place: &Place, session: &Session, under: &ObjectName) -> Result<Vec<Listed>, Fault> {
    let (mut found, mut folders) = (Vec::new(), vec![under.clone()]);
    while !folders.is_empty() {
        let contents: Vec<Contents> = stream::iter(folders)
            .map(|folder| read_folder(place, session, folder))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        folders = Vec::new();
        for contents in contents {
            found.extend(contents.objects);
            folders.extend(contents.folders);
        }
    }
    if found.is_empty() {
        absent(place, session).await?;
    }
    Ok(found)
}

#[derive(Default)]
struct Contents {
    objects: Vec<Listed>,
    folders: Vec<ObjectName>,
}

async fn read_folder(place: &Place, session: &Session, folder: ObjectName) -> Result<Contents, Fault> {
    let entries = match entries(session, &place.path(folder.as_str())).await {
        // Never there, or removed since its parent was read.
        Err(Fault::Absent) => return Ok(Contents::default()),
        entries => entries?,
    };
    let mut contents = Contents::default();
    for entry in entries {
        let leaf = entry.filename().to_str();
        let Some(Ok(name)) = leaf.map(|leaf| ObjectName::parse(&format!("{folder}/{leaf}"))) else {
            continue;
        };
        let found = entry.metadata();
        match found.file_type() {
            Some(kind) if kind.is_dir() => contents.folders.push(name),
            Some(kind) if kind.is_symlink() => return Err(Fault::Link(name.to_string())),
            Some(kind) if kind.is_file() => {
                let size = found.len().ok_or_else(|| Fault::Protocol("the server gives no sizes".into()))?;
                contents.objects.push(Listed { name, size, modified: modified(&found) });
            }
            Some(_) => {}
            None => return Err(Fault::Protocol("the server gives no kinds of files".into())),
        }
    }
    Ok(contents)
}

/// Everything in the folder at `path`.
pub(super) async fn entries(session: &Session, path: &str) -> Result<Vec<DirEntry>, Fault> {
    let folder = session.answer(session.fs().open_dir(path)).await?;
    let mut reading = std::pin::pin!(folder.read_dir());
    let mut entries = Vec::new();
    while let Some(entry) = session.heard(reading.try_next()).await?? {
        if entry.filename() != Path::new(".") && entry.filename() != Path::new("..") {
            entries.push(entry);
        }
    }
    Ok(entries)
}
