//! The archive that sources of several files write, which every tar reads: ustar, and pax where ustar has no room.
//! Pure, but for the streams that are read.

mod header;
mod reader;

pub(super) use header::{Head, Stat, TRAILER, padding, safe_name};
pub(super) use reader::{Described, Reader};
