//! The archive that sources of many members are streamed as: ustar, and pax where ustar has no room, which every tar
//! reads. What an engine keeps beyond names, modes and times stands in records of its own, such as `SCHILY.xattr.…`.

mod header;
mod reader;

pub(super) use self::{
    header::{Head, Meta, TRAILER, padding, safe_name},
    reader::{Described, Reader},
};

/// Records beyond POSIX by keyword, in the order in which they are written.
pub(super) type Records = [(Vec<u8>, Vec<u8>)];
