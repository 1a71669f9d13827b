//! Headers of the archive's members: ustar, and pax where ustar has no room (POSIX.1-2017, `pax`, "pax Interchange
//! Format"). Pure.

use std::path::Path;

use tar::{EntryType, Header};

use super::Records;

/// The size of a block, bytes.
pub(in crate::sources) const BLOCK: u64 = 512;

/// The two blocks that close an archive.
pub(in crate::sources) const TRAILER: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// The largest number that the header's field for sizes and times holds.
const LARGEST_OCTAL: u64 = 0o77_777_777_777;

/// The largest number that the header's fields for owners hold.
const LARGEST_OWNER: u32 = 0o7_777_777;

/// What a member's header says.
pub(in crate::sources) struct Head<'a> {
    pub kind: EntryType,
    /// Relative, as bytes: Unix knows no encoding of names.
    pub name: &'a [u8],
    /// The target of a symbolic or hard link.
    pub link: Option<&'a [u8]>,
    /// Bytes of content that follow.
    pub size: u64,
    pub meta: Meta,
    /// What POSIX has no records for.
    pub records: &'a Records,
}

/// What a header says of a member beside its name and content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sources) struct Meta {
    pub mode: u32,
    /// User and group, as numbers.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds since the Unix epoch.
    pub modified: (i64, u32),
}

impl Head<'_> {
    /// The blocks in front of the member's content.
    pub(in crate::sources) fn blocks(&self) -> Vec<u8> {
        let records = self.records();
        let mut blocks = Vec::new();
        if !records.is_empty() {
            let name = [b"PaxHeaders/", base(self.name)].concat();
            let mut header = block(EntryType::XHeader, &name, None, records.len() as u64);
            header.set_cksum();
            blocks.extend_from_slice(header.as_bytes());
            blocks.extend_from_slice(&records);
            blocks.resize(blocks.len() + padding(records.len() as u64), 0);
        }
        let mut header = block(self.kind, self.name, self.link, self.size);
        header.set_mode(self.meta.mode);
        header.set_uid(self.meta.owner.0.min(LARGEST_OWNER).into());
        header.set_gid(self.meta.owner.1.min(LARGEST_OWNER).into());
        header.set_mtime(self.meta.modified.0.clamp(0, LARGEST_OCTAL.cast_signed()).unsigned_abs());
        header.set_cksum();
        blocks.extend_from_slice(header.as_bytes());
        blocks
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| records.extend_from_slice(&record(key, value));
        if !fits(self.name) {
            add(b"path", self.name);
        }
        if let Some(link) = self.link.filter(|link| !fits(link)) {
            add(b"linkpath", link);
        }
        if self.size > LARGEST_OCTAL {
            add(b"size", self.size.to_string().as_bytes());
        }
        let (second, nano) = self.meta.modified;
        if nano != 0 || !(0..=LARGEST_OCTAL.cast_signed()).contains(&second) {
            add(b"mtime", decimal(second, nano).as_bytes());
        }
        if self.meta.owner.0 > LARGEST_OWNER {
            add(b"uid", self.meta.owner.0.to_string().as_bytes());
        }
        if self.meta.owner.1 > LARGEST_OWNER {
            add(b"gid", self.meta.owner.1.to_string().as_bytes());
        }
        for (keyword, value) in self.records {
            add(keyword, value);
        }
        records
    }
}

/// How many zeros fill the last block of `size` bytes.
pub(in crate::sources) fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK) - size) as usize
}

/// A time as pax writes it: seconds with a fraction. Before the epoch the fraction counts backwards.
fn decimal(second: i64, nano: u32) -> String {
    if second < 0 && nano > 0 {
        format!("-{}.{:09}", -(second + 1), 1_000_000_000 - nano)
    } else {
        format!("{second}.{nano:09}")
    }
}

/// Reads [`decimal`] back, and times without or with a shorter fraction.
pub(in crate::sources) fn parse_decimal(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<9}");
    let nano: u32 = digits.get(..9)?.parse().ok()?;
    let second: i64 = whole.parse().ok()?;
    if whole.starts_with('-') && nano > 0 {
        Some((second.checked_sub(1)?, 1_000_000_000 - nano))
    } else {
        Some((second, nano))
    }
}

/// Whether a name stands in a header as it is. A trailing slash would be dropped by readers.
fn fits(name: &[u8]) -> bool {
    name.len() <= 100 && name.is_ascii()
}

fn base(name: &[u8]) -> &[u8] {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let start = name.iter().rposition(|b| *b == b'/').map_or(0, |slash| slash + 1);
    &name[start..name.len().min(start + 80)]
}

fn block(kind: EntryType, name: &[u8], link: Option<&[u8]>, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size.min(LARGEST_OCTAL));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let fields = header.as_old_mut();
    copy(&mut fields.name, name);
    copy(&mut fields.linkname, link.unwrap_or_default());
    header
}

fn copy(field: &mut [u8; 100], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = |n: usize| n.to_string().len();
    let length = (1..).map(|d| rest + d).find(|length| digits(*length) + rest == *length);
    let length = length.expect("a length with as many digits exists");
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// A member's name: relative, plain parts only; `None` for one that could leave the folder that it is put into.
pub(in crate::sources) fn safe_name(name: &[u8]) -> Option<&Path> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Component};
    let path = Path::new(OsStr::from_bytes(name));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty() && !name.contains(&0)).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_count_their_own_digits() {
        assert_eq!(record(b"path", b"abc"), b"12 path=abc\n");
        for length in [1, 80, 87, 88, 89, 90, 983, 984, 985, 986, 987, 988, 989, 990, 991, 992, 5_000] {
            let record = record(b"k", &vec![b'v'; length]);
            let stated: usize =
                std::str::from_utf8(record.split(|b| *b == b' ').next().unwrap()).unwrap().parse().unwrap();
            assert_eq!(stated, record.len());
        }
    }

    #[test]
    fn times_are_read_back_to_the_nanosecond_on_both_sides_of_the_epoch() {
        for time in [(0, 0), (1_763_600_000, 123_456_789), (-1, 500_000_000), (-1, 0), (-2, 1), (0, 1)] {
            assert_eq!(parse_decimal(&decimal(time.0, time.1)), Some(time));
        }
        assert_eq!(parse_decimal("12.5"), Some((12, 500_000_000)));
        assert_eq!(parse_decimal("12"), Some((12, 0)));
        for bad in ["", "x", "1.x", "1.ä", "--1"] {
            assert_eq!(parse_decimal(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_that_could_escape_are_refused() {
        for bad in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"..", b"", b"a\0b", b".."] {
            assert_eq!(safe_name(bad), None, "{bad:?}");
        }
        assert!(safe_name(b"srv/data/\xff file").is_some() && safe_name(b"srv/data/").is_some());
    }
}
