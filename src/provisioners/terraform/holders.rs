//! Who has a file locked: whatever has the open file that was locked, which it may have got from a process that is gone.

use std::{
    fs::{self, DirEntry},
    path::Path,
};

use super::flat;

/// The processes that have `file` locked, as far as this user may see them: `terraform (process 4711)`.
pub(super) fn of(file: &Path) -> Vec<String> {
    // What the system tells of open files has no links in it.
    let Ok(file) = file.canonicalize() else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|process| holder(&process, &file)).collect()
}

fn holder(process: &DirEntry, file: &Path) -> Option<String> {
    let id: u32 = process.file_name().to_str()?.parse().ok()?;
    let folder = process.path();
    let mut opened = fs::read_dir(folder.join("fd")).ok()?.flatten();
    opened.find(|opened| {
        fs::read_link(opened.path()).is_ok_and(|path| path == file)
            && is_locked(&folder.join("fdinfo").join(opened.file_name()))
    })?;
    let name = fs::read_to_string(folder.join("comm")).ok()?;
    Some(format!("{} (process {id})", flat(&name)))
}

/// Whether the open file was locked, and not only another one of the same name, such as of somebody who tries to (proc_pid_fdinfo(5)).
fn is_locked(about: &Path) -> bool {
    fs::read_to_string(about).is_ok_and(|about| about.lines().any(|line| line.contains("FLOCK")))
}
