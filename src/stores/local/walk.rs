//! The listing: every object below a folder, or an error.

use std::{collections::VecDeque, os::fd::OwnedFd};

use rustix::{
    fs::{self, AtFlags, Dir, FileType},
    io::Errno,
};

use super::{
    super::Listed,
    fault::Fault,
    tree::{self, Root},
};
use crate::artifact::layout::ObjectName;

/// Every object below `under`. A folder that is not there holds nothing; files whose names are no object's are not
/// ours. A symbolic link is an error, for what is behind it would be missing from the answer.
pub(super) fn list(root: &Root, under: &ObjectName) -> Result<Vec<Listed>, Fault> {
    let mut found = Vec::new();
    let mut folders = VecDeque::from([under.clone()]);
    while let Some(path) = folders.pop_front() {
        match tree::open_folder(root, path.as_str()) {
            Ok(folder) => list_folder(folder, &path, &mut found, &mut folders)?,
            // Never there, or removed since its parent was read.
            Err(Fault::Os(Errno::NOENT | Errno::NOTDIR)) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(found)
}

fn list_folder(
    folder: OwnedFd,
    path: &ObjectName,
    found: &mut Vec<Listed>,
    folders: &mut VecDeque<ObjectName>,
) -> Result<(), Fault> {
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Ok(leaf) = entry.file_name().to_str() else { continue };
        let Ok(name) = ObjectName::parse(&format!("{path}/{leaf}")) else { continue };
        let status = match fs::statat(&folder, leaf, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            status => status?,
        };
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => folders.push_back(name),
            FileType::RegularFile => {
                let stat = tree::stat(&status);
                found.push(Listed { name, size: stat.size, modified: stat.modified });
            }
            FileType::Symlink => return Err(Fault::Link(name.to_string())),
            _ => {}
        }
    }
    Ok(())
}
