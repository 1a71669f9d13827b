//! Room on this host's disk for what is restored into a private server.

use crate::{
    artifact::{Manifest, manifest::Content},
    sandboxes::Sandbox,
};

/// Refuses what would fill the disk, before anything is read.
///
/// # Errors
/// What is needed and what is there, with what to do about it.
pub(super) fn must_suffice(
    manifests: &[Manifest],
    logs: &[Manifest],
    sandbox: &dyn Sandbox,
) -> Result<(), String> {
    let length = |manifest: &Manifest| match &manifest.content {
        Content::Segments(segments) => segments.length,
        Content::Native { .. } => 0,
    };
    let all: u64 = manifests.iter().chain(logs).map(length).fold(0, u64::saturating_add);
    let (needed, place) = (sandbox.room_for(all), sandbox.folder());
    let free = rustix::fs::statvfs(place).map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    match free {
        Ok(free) if free < needed => Err(format!(
            "it needs {} in {}, and {} are free; make room, or set drills.sandbox in the controller's configuration to \
             another folder",
            bytesize::ByteSize(needed),
            place.display(),
            bytesize::ByteSize(free)
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{}: {error}", place.display())),
    }
}
