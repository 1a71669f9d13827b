//! What of a commit or tag is signed, and by which signature (gitformat-signature(5)).
//!
//! Read from the object's own bytes, so that what is verified is what the id names.

use super::Unverified;

/// The largest signature that is read, bytes.
const LARGEST_SIGNATURE: usize = 64 << 10;

/// The header of a commit that holds its signature; continued lines begin with a space.
const HEADER: &[u8] = b"gpgsig ";

/// A signature, what it is of, and when it was made by the account of whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    /// The signed bytes.
    pub payload: Vec<u8>,
    /// The armored signature.
    pub signature: Vec<u8>,
    /// Its kind.
    pub armor: Armor,
    /// The committer's or tagger's time, seconds since 1970.
    pub at: i64,
}

/// The kinds of signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Armor {
    Ssh,
    OpenPgp,
}

/// An annotated tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// The id of what it names.
    pub object: String,
    /// Of what type that is.
    pub kind: String,
    /// The name that it was given when it was signed.
    pub name: String,
    /// Who made it, by its own account; safe to print.
    pub by: Option<String>,
    /// Its signature.
    pub signed: Result<Signed, Unverified>,
}

/// The signature of the commit with these bytes.
pub(super) fn commit(raw: &[u8]) -> Result<Signed, Unverified> {
    let mut payload = Vec::with_capacity(raw.len());
    let (mut signature, mut committers, mut within) = (None::<Vec<u8>>, Vec::new(), false);
    let mut rest = raw;
    while let Some((line, after)) = first_line(rest).filter(|(line, _)| *line != b"\n") {
        rest = after;
        match (within, line.strip_prefix(b" "), line.strip_prefix(HEADER)) {
            (true, Some(continued), _) => signature.get_or_insert_default().extend_from_slice(continued),
            (_, _, Some(begun)) if signature.is_none() => {
                (signature, within) = (Some(begun.to_vec()), true);
            }
            (_, _, Some(_)) => return Err(malformed("there is more than one")),
            _ => {
                within = false;
                committers.extend(line.strip_prefix(b"committer "));
                payload.extend_from_slice(line);
            }
        }
    }
    payload.extend_from_slice(rest);
    let signature = signature.ok_or(Unverified::Unsigned)?;
    let [committer] = committers[..] else { return Err(malformed("the commit has no single committer")) };
    signed(payload, signature, committer)
}

/// The tag with these bytes; `None` when they are none.
pub(super) fn tag(raw: &[u8]) -> Option<Tag> {
    let header = |name: &str| {
        let mut lines = raw.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
        lines.find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b" "))
    };
    let text = |name| String::from_utf8(header(name)?.to_vec()).ok();
    let signed = match last_armor(raw) {
        Some(at) => {
            let (payload, signature) = raw.split_at(at);
            let tagger = header("tagger").ok_or_else(|| malformed("the tag has no tagger"));
            tagger.and_then(|tagger| signed(payload.to_vec(), signature.to_vec(), tagger))
        }
        None => Err(Unverified::Unsigned),
    };
    let by = header("tagger").map(who);
    Some(Tag { object: text("object")?, kind: text("type")?, name: text("tag")?, by, signed })
}

/// `Name <address>`, without the time behind it.
fn who(line: &[u8]) -> String {
    let end = line.iter().rposition(|byte| *byte == b'>').map_or(line.len(), |end| end + 1);
    String::from_utf8_lossy(&line[..end]).chars().take(200).collect::<String>().escape_debug().to_string()
}

/// Where the last line stands that begins a signature.
fn last_armor(raw: &[u8]) -> Option<usize> {
    let (mut at, mut found) = (0, None);
    let mut rest = raw;
    while let Some((line, after)) = first_line(rest) {
        if line.starts_with(b"-----BEGIN ") && kind(line).is_ok() {
            found = Some(at);
        }
        at += line.len();
        rest = after;
    }
    found
}

/// The first line with its end, and what follows.
fn first_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
    (!bytes.is_empty()).then(|| bytes.split_at(end.unwrap_or(bytes.len())))
}

fn signed(payload: Vec<u8>, signature: Vec<u8>, who: &[u8]) -> Result<Signed, Unverified> {
    if signature.len() > LARGEST_SIGNATURE {
        return Err(malformed(&format!("it has more than {LARGEST_SIGNATURE} bytes")));
    }
    let armor = kind(&signature)?;
    let at = time(who).ok_or_else(|| malformed("the time beside it is none"))?;
    Ok(Signed { payload, signature, armor, at })
}

fn kind(signature: &[u8]) -> Result<Armor, Unverified> {
    let begins = |text: &str| signature.starts_with(text.as_bytes());
    if begins("-----BEGIN SSH SIGNATURE-----") {
        Ok(Armor::Ssh)
    } else if begins("-----BEGIN PGP SIGNATURE-----") || begins("-----BEGIN PGP MESSAGE-----") {
        Ok(Armor::OpenPgp)
    } else {
        Err(malformed("it is made neither with SSH nor with OpenPGP"))
    }
}

/// The seconds in `Name <address> seconds zone`.
fn time(who: &[u8]) -> Option<i64> {
    let after = who.iter().rposition(|byte| *byte == b'>')?;
    std::str::from_utf8(&who[after + 1..]).ok()?.split_whitespace().next()?.parse().ok()
}

fn malformed(why: &str) -> Unverified {
    Unverified::Malformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNED: &str = "tree 1\nauthor A <a@b> 5 +0000\ncommitter A > <a@b> 7 +0100\ngpgsig -----BEGIN SSH SIGNATURE-----\n \
                          AAAA\n -----END SSH SIGNATURE-----\nencoding x\n\nmessage\ngpgsig no header\n";

    #[test]
    fn a_commits_payload_is_all_of_it_but_its_signature() {
        let found = commit(SIGNED.as_bytes()).unwrap();
        assert_eq!(found.at, 7);
        assert_eq!(found.signature, b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n");
        let payload = "tree 1\nauthor A <a@b> 5 +0000\ncommitter A > <a@b> 7 +0100\nencoding x\n\nmessage\ngpgsig no header\n";
        assert_eq!(String::from_utf8(found.payload).unwrap(), payload);
    }

    #[test]
    fn a_commit_without_or_with_two_signatures_or_committers_is_not_verified() {
        let unsigned = "tree 1\ncommitter A <a@b> 7 +0100\n\ngpgsig -----BEGIN SSH SIGNATURE-----\n";
        assert_eq!(commit(unsigned.as_bytes()), Err(Unverified::Unsigned));
        assert_eq!(commit(b""), Err(Unverified::Unsigned));
        for twice in ["encoding x", "author A <a@b> 5 +0000"] {
            let header = "gpgsig -----BEGIN SSH SIGNATURE-----\n A";
            let doubled = SIGNED.replace(twice, header);
            assert!(matches!(commit(doubled.as_bytes()), Err(Unverified::Malformed(_))), "{doubled}");
        }
        let two = SIGNED.replace("encoding x", "committer B <b@b> 9 +0000");
        assert!(matches!(commit(two.as_bytes()), Err(Unverified::Malformed(_))));
        let other = SIGNED.replace("SSH SIGNATURE", "SIGNED MESSAGE");
        assert!(matches!(commit(other.as_bytes()), Err(Unverified::Malformed(_))));
    }

    #[test]
    fn a_header_within_another_one_is_no_signature() {
        let merged = SIGNED.replace("gpgsig -----", "mergetag object 1\n gpgsig -----");
        assert_eq!(commit(merged.as_bytes()), Err(Unverified::Unsigned));
    }

    #[test]
    fn a_tag_is_signed_by_what_begins_last_in_it() {
        let text = "object 12\ntype commit\ntag v1\ntagger A <a@b> 9 +0000\n\nsays\n-----BEGIN PGP SIGNATURE-----\nno\n";
        let both = format!("{text}-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n");
        let found = tag(both.as_bytes()).unwrap();
        assert_eq!((found.object.as_str(), found.kind.as_str(), found.name.as_str()), ("12", "commit", "v1"));
        let signed = found.signed.unwrap();
        assert_eq!((signed.armor, signed.at, signed.payload.as_slice()), (Armor::Ssh, 9, text.as_bytes()));
        let plain = tag(b"object 12\ntype commit\ntag v1\ntagger A <a@b> 9 +0000\n\nsays\n").unwrap();
        assert_eq!(plain.signed, Err(Unverified::Unsigned));
        assert_eq!(tag(b"tree 1\n\n"), None);
    }
}
