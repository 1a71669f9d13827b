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

/// Refuses what would fill the disk or the memory, before anything is read; `beside` it so many bytes more are needed on disk.
///
/// # Errors
/// What is needed and what is there, with what to do about it.
pub(super) fn must_suffice(
    manifests: &[Manifest],
    logs: &[Manifest],
    sandbox: &dyn Sandbox,
    beside: u64,
) -> Result<(), String> {
    memory_must_suffice(sandbox.memory_for(length(manifests.iter())), available())?;
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

/// Where the system tells of its memory (Linux, proc(5), `/proc/meminfo`).
const MEMORY: &str = "/proc/meminfo";

/// The memory that programs can be given without any of theirs being taken from others, bytes; `None` where the system does not tell.
fn available() -> Option<u64> {
    available_in(&std::fs::read_to_string(MEMORY).ok()?)
}

/// `MemAvailable:   22879200 kB`
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// A server that the system kills for want of memory tells nothing of the data, and may take others with it.
fn memory_must_suffice(needed: u64, available: Option<u64>) -> Result<(), String> {
    match available {
        Some(available) if available < needed => Err(format!(
            "its server needs {} of memory, and {} are available; free some, or do this on another host",
            bytesize::ByteSize(needed),
            bytesize::ByteSize(available)
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_not_started_where_its_memory_is_not_there_and_the_numbers_are_told() {
        let meminfo =
            "MemTotal:       24684400 kB\nMemFree:        19024000 kB\nMemAvailable:     262144 kB\n";
        assert_eq!(available_in(meminfo), Some(256 << 20));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
        assert_eq!(memory_must_suffice(256 << 20, Some(256 << 20)), Ok(()));
        assert_eq!(memory_must_suffice(u64::MAX, None), Ok(()));
        let refused = memory_must_suffice(384 << 20, Some(256 << 20)).unwrap_err();
        assert!(refused.contains("384") && refused.contains("256"), "{refused}");
        assert!(available().is_some());
    }
}
