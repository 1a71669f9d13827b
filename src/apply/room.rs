//! Room on this host's disk for what is restored into a private server.

use crate::{
    artifact::{Manifest, manifest::Content},
    sandboxes::Sandbox,
};

/// How long the streams of artifacts are together, bytes.
pub(super) fn length<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> u64 {
    manifests.map(|manifest| manifest.content.length()).fold(0, u64::saturating_add)
}

/// How much is stored of artifacts, bytes.
pub(super) fn stored<'a>(manifests: impl Iterator<Item = &'a Manifest>) -> u64 {
    let stored = |manifest: &Manifest| match &manifest.content {
        Content::Segments(segments) => segments.packs.values().map(|pack| pack.size).sum(),
        Content::Native { .. } => 0,
    };
    manifests.map(stored).fold(0, u64::saturating_add)
}

/// Refuses what would fill the disk, before anything is read; `beside` it so many bytes more are needed.
///
/// # Errors
/// What is needed and what is there, with what to do about it.
pub(super) fn must_suffice(
    manifests: &[Manifest],
    logs: &[Manifest],
    sandbox: &dyn Sandbox,
    beside: u64,
) -> Result<(), String> {
    let streams = length(manifests.iter().chain(logs));
    let (needed, place) = (sandbox.room_for(streams).saturating_add(beside), sandbox.folder());
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
