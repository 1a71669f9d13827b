//! The key of a run: what the bytes of its objects depend on. Pure.

use jiff::{SignedDuration, Timestamp};

use super::listing::{Listed, What};
use crate::sources::RunKey;

/// What can be replaced under its name is taken for unchanged only when it was so old when the base was begun: servers
/// and controllers tell times apart by up to 15 minutes, beyond which S3 refuses requests, and some servers date to the
/// second.
const SETTLED: SignedDuration = SignedDuration::from_secs(15 * 60 + 5);

/// Changes whenever the bytes that are made of an object change.
const FORMAT: &[u8] = b"backstay.s3.run/1";

/// An entry of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub listed: Listed,
    /// Its path in the archive.
    pub path: String,
}

/// The key of a run: a hash of all that its bytes depend on. `None` while a member is so young that it may have been
/// replaced unseen while the base was captured, and where one may be left out: it can be readable the next time.
pub(super) fn key(members: &[Member], base_started: Option<Timestamp>) -> Option<RunKey> {
    let settled = base_started.map(|started| started.checked_sub(SETTLED).unwrap_or(Timestamp::MIN));
    let young =
        |listed: &Listed| !listed.is_immutable() && settled.is_some_and(|settled| listed.modified >= settled);
    if members.iter().any(|Member { listed, .. }| young(listed) || listed.is_archived()) {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(FORMAT);
    for Member { listed, path } in members {
        let (size, etag) = match &listed.what {
            What::Object { size, etag, .. } => (*size, etag.as_str()),
            What::Marker => (u64::MAX, ""),
        };
        for text in [path, &listed.key, listed.version.as_deref().unwrap_or_default(), etag] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&size.to_le_bytes()).update(&listed.modified.as_nanosecond().to_le_bytes());
    }
    Some(*hasher.finalize().as_bytes())
}

/// The key of the archive's closing blocks, which never change.
pub(super) fn trailer_key() -> RunKey {
    *blake3::Hasher::new().update(FORMAT).update(b" trailer").finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::{super::listing::Access, *};

    fn object(size: u64, etag: &str) -> What {
        What::Object { size, etag: etag.to_owned(), access: Access::AtOnce }
    }

    fn member() -> Member {
        let what = object(1, "e");
        let modified = Timestamp::from_second(10_000).unwrap();
        Member { listed: Listed { key: "a".into(), version: None, modified, what }, path: "a".into() }
    }

    fn key_of(member: &Member) -> Option<RunKey> {
        key(std::slice::from_ref(member), None)
    }

    #[test]
    fn the_key_changes_with_all_that_the_bytes_depend_on() {
        let changes: [fn(&mut Member); 7] = [
            |m| m.path = "b".into(),
            |m| m.listed.key = "b".into(),
            |m| m.listed.version = Some("v".into()),
            |m| m.listed.modified += SignedDuration::from_secs(1),
            |m| m.listed.what = object(2, "e"),
            |m| m.listed.what = object(1, "f"),
            |m| m.listed.what = What::Marker,
        ];
        for change in changes {
            let mut changed = member();
            change(&mut changed);
            assert_ne!(key_of(&member()), key_of(&changed), "{changed:?}");
        }
        assert_eq!(key_of(&member()), key_of(&member()));
    }

    #[test]
    fn only_what_can_be_replaced_must_be_old_to_be_reused() {
        let base = |second| Some(Timestamp::from_second(second).unwrap());
        let keyed = |member: &Member, base| key(std::slice::from_ref(member), base).is_some();
        assert!(!keyed(&member(), base(10_900)) && keyed(&member(), base(11_000)));
        let mut version = member();
        version.listed.version = Some("3HL4".into());
        assert!(keyed(&version, base(0)));
        version.listed.version = Some("null".into());
        assert!(!keyed(&version, base(10_900)));
        version.listed.version = Some("3HL4".into());
        version.listed.what = What::Object { size: 1, etag: "e".into(), access: Access::Archived };
        assert!(!keyed(&version, base(20_000)));
    }
}
