//! The key of a run: what the bytes of its members depend on. Pure.

use std::os::unix::ffi::OsStrExt;

use jiff::{SignedDuration, Timestamp};

use super::walk::{Entry, Status, What};
use crate::sources::RunKey;

/// An entry is taken for unchanged only when it was so old when the base was begun. Between two changes within one
/// tick of a file system's clock nothing shows; FAT's tick is the coarsest with 2 s.
const SETTLED: SignedDuration = SignedDuration::from_secs(3);

/// Changes whenever the bytes that are made of an entry change.
const FORMAT: &[u8] = b"backstay.files.run/1";

/// A member of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub entry: Entry,
    /// The member that it is a hard link to.
    pub link_to: Option<Vec<u8>>,
}

/// Bytes of content that the archive holds of a member.
pub(super) fn content_size(member: &Member) -> u64 {
    match (&member.entry.what, &member.link_to) {
        (What::File, None) => member.entry.status.size,
        _ => 0,
    }
}

/// The key of a run: a hash of all that its bytes depend on. `None` while a member is so young that it may have changed
/// unseen since the base was begun.
pub(super) fn key(members: &[Member], base_started: Option<Timestamp>) -> Option<RunKey> {
    let settled = base_started.map(|started| started.checked_sub(SETTLED).unwrap_or(Timestamp::MIN));
    let young = |member: &Member| settled.is_some_and(|settled| !is_older(&member.entry.status, settled));
    if members.iter().any(young) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT);
    for member in members {
        hash_member(&mut hasher, member);
    }
    Some(*hasher.finalize().as_bytes())
}

/// The key of the archive's closing blocks, which never change.
pub(super) fn trailer_key() -> RunKey {
    *blake3::Hasher::new().update(FORMAT).update(b" trailer").finalize().as_bytes()
}

fn is_older(status: &Status, than: Timestamp) -> bool {
    let than = (than.as_second(), than.subsec_nanosecond());
    [status.modified, status.changed].iter().all(|(second, nano)| (*second, nano.cast_signed()) < than)
}

fn hash_member(hasher: &mut blake3::Hasher, Member { entry, link_to }: &Member) {
    let (kind, target): (u8, &[u8]) = match (&entry.what, link_to) {
        (What::File, None) => (0, &[]),
        (What::File, Some(first)) => (1, first),
        (What::Folder, _) => (2, &[]),
        (What::Link(target), _) => (3, target),
        (What::Special(_) | What::Vanished, _) => (4, &[]),
    };
    for text in [entry.path.as_os_str().as_bytes(), target] {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text);
    }
    let s = &entry.status;
    let numbers = [s.size, s.mode.into(), s.uid.into(), s.gid.into(), s.inode];
    let times = [s.modified, s.changed];
    hasher.update(&[kind]);
    numbers.iter().for_each(|n| _ = hasher.update(&n.to_le_bytes()));
    times
        .iter()
        .for_each(|(second, nano)| _ = hasher.update(&second.to_le_bytes()).update(&nano.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, size: u64) -> Member {
        let status =
            Status { size, inode: 7, modified: (1_000, 5), changed: (1_000, 6), ..Status::default() };
        Member { entry: Entry { path: name.into(), declared: 0, what: What::File, status }, link_to: None }
    }

    #[test]
    fn the_key_changes_with_all_that_the_bytes_depend_on() {
        let plain = member("a", 1);
        let changes: [fn(&mut Member); 9] = [
            |m| m.entry.path = "b".into(),
            |m| m.entry.status.size = 2,
            |m| m.entry.status.modified.1 += 1,
            |m| m.entry.status.changed.0 += 1,
            |m| m.entry.status.inode += 1,
            |m| m.entry.status.mode = 0o644,
            |m| m.entry.status.uid += 1,
            |m| m.entry.status.gid += 1,
            |m| m.link_to = Some(b"c".to_vec()),
        ];
        let key_of = |m: &Member| key(std::slice::from_ref(m), None);
        for change in changes {
            let mut changed = plain.clone();
            change(&mut changed);
            assert_ne!(key_of(&plain), key_of(&changed), "{changed:?}");
        }
        assert_eq!(key_of(&plain), key_of(&plain.clone()));
    }

    #[test]
    fn a_run_with_a_young_member_is_never_reused() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let run = [member("a", 1)];
        assert!(key(&run, at(1_000 + 3)).is_none() && key(&run, at(0)).is_none());
        assert!(key(&run, at(1_000 + 4)).is_some());
        assert_eq!(key(&run, at(2_000)), key(&run, None));
    }
}
