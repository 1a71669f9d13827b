//! Reading the archive back: ustar and pax headers. Names and attributes are bytes, which may hold line ends.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::header::{BLOCK, Meta, TRAILER, padding, parse_decimal};

/// The largest pax header, bytes: names and a few attributes of up to 64 KiB.
const LARGEST_PAX: u64 = 4 * 1024 * 1024;

/// What the headers of a member say.
#[derive(Clone, Debug)]
pub(in crate::sources) struct Described {
    pub kind: EntryType,
    pub name: Vec<u8>,
    pub link: Option<Vec<u8>>,
    pub size: u64,
    pub meta: Meta,
    /// What POSIX has no records for, by keyword.
    pub records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Described {
    /// Records whose keyword begins with `prefix`, by the rest of it.
    pub(in crate::sources) fn records_under<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let under = move |(keyword, value): &'a (Vec<u8>, Vec<u8>)| {
            Some((keyword.strip_prefix(prefix)?, value.as_slice()))
        };
        self.records.iter().filter_map(under)
    }
}

/// Reads members one after the other; between two of them, the content of the first.
pub(in crate::sources) struct Reader<R> {
    inner: R,
    content: u64,
    padding: u64,
}

impl<R: Read> Reader<R> {
    pub(in crate::sources) fn new(inner: R) -> Self {
        Self { inner, content: 0, padding: 0 }
    }

    /// The next member; `None` after the closing blocks, with the stream read to its end.
    pub(in crate::sources) fn next(&mut self) -> io::Result<Option<Described>> {
        let mut records = Vec::new();
        loop {
            self.skip(self.content + self.padding)?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => records = self.records(size)?,
                EntryType::XGlobalHeader => self.expect(size)?,
                _ => {
                    let member = describe(&header, &records)?;
                    self.expect(member.size)?;
                    return Ok(Some(member));
                }
            }
        }
    }

    /// Notes how much content and padding follow a header. No file is as long as some headers say.
    fn expect(&mut self, size: u64) -> io::Result<()> {
        if size > i64::MAX.unsigned_abs() {
            let why = format!("a member of {size} bytes can't be");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        (self.content, self.padding) = (size, padding(size) as u64);
        Ok(())
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK as usize];
        self.inner.read_exact(&mut block).map_err(cut_short)?;
        if block == [0; BLOCK as usize] {
            let mut second = [0; TRAILER.len() - BLOCK as usize];
            self.inner.read_exact(&mut second).map_err(cut_short)?;
            io::copy(&mut self.inner, &mut io::sink())?;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block).clone();
        let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
        // The checksum's own field counts as eight spaces.
        let expected = sum(&block[..148]) + 8 * u32::from(b' ') + sum(&block[156..]);
        if header.cksum()? == expected {
            Ok(Some(header))
        } else {
            Err(malformed("a header's checksum is wrong"))
        }
    }

    fn records(&mut self, size: u64) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if size > LARGEST_PAX {
            return Err(malformed("a pax header is too large"));
        }
        let mut bytes = vec![0; size as usize];
        self.inner.read_exact(&mut bytes).map_err(cut_short)?;
        (self.content, self.padding) = (0, padding(size) as u64);
        parse(&bytes).ok_or_else(|| malformed("a pax header can't be read"))
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.inner).take(length), &mut io::sink())?;
        (self.content, self.padding) = (0, 0);
        if skipped == length { Ok(()) } else { Err(cut_short(io::ErrorKind::UnexpectedEof.into())) }
    }
}

impl<R: Read> Read for Reader<R> {
    /// The content of the current member.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = (&mut self.inner).take(self.content).read(into)?;
        self.content -= length as u64;
        Ok(length)
    }
}

fn malformed(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive is damaged: {why}"))
}

fn cut_short(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => malformed("it ends before its closing blocks"),
        _ => error,
    }
}

/// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it.
fn parse(mut bytes: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ')?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Some(records)
}

fn describe(header: &Header, records: &[(Vec<u8>, Vec<u8>)]) -> io::Result<Described> {
    let mut member = Described {
        kind: header.entry_type(),
        name: header.path_bytes().into_owned(),
        link: header.link_name_bytes().map(|link| link.into_owned()),
        size: header.entry_size()?,
        meta: Meta {
            mode: header.mode()?,
            owner: (header.uid()? as u32, header.gid()? as u32),
            modified: (header.mtime()?.cast_signed(), 0),
        },
        records: Vec::new(),
    };
    for (key, value) in records {
        let text = || std::str::from_utf8(value).map_err(|_| malformed("a pax record is no text"));
        let number = || text()?.parse::<u64>().map_err(|_| malformed("a pax record is no number"));
        match key.as_slice() {
            b"path" => member.name = value.clone(),
            b"linkpath" => member.link = Some(value.clone()),
            b"size" => member.size = number()?,
            b"uid" => member.meta.owner.0 = number()? as u32,
            b"gid" => member.meta.owner.1 = number()? as u32,
            b"mtime" => {
                member.meta.modified =
                    parse_decimal(text()?).ok_or_else(|| malformed("a pax record is no time"))?;
            }
            _ => member.records.push((key.clone(), value.clone())),
        }
    }
    Ok(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_hold_line_ends_and_equals_signs() {
        let records = parse(b"14 path=a\nb=c\n12 path=abc\n").unwrap();
        assert_eq!(records[0], (b"path".to_vec(), b"a\nb=c".to_vec()));
        assert_eq!(records[1], (b"path".to_vec(), b"abc".to_vec()));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"12 path=ab\n"[..], b"x", b"99 a=b\n", b"1 a=b\n", b"0 a=b\n", b"6 a=b\n\n", b"5 ab\n"]
        {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_size_that_no_file_has_is_refused() {
        let block = |kind, size: u64| {
            let mut header = Header::new_ustar();
            header.set_entry_type(kind);
            header.as_old_mut().name[0] = b'a';
            header.set_size(size);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_cksum();
            header.as_bytes().to_vec()
        };
        let mut records = b"29 size=18446744073709551614\n".to_vec();
        let length = records.len() as u64;
        records.resize(BLOCK as usize, 0);
        let bytes = [block(EntryType::XHeader, length), records, block(EntryType::Regular, 0)].concat();
        let refused = Reader::new(&bytes[..]).next().map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData, "{refused}");
    }

    #[test]
    fn a_flipped_bit_in_a_header_is_found() {
        let mut header = Header::new_ustar();
        header.set_size(0);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.as_old_mut().name[0] = b'a';
        header.set_cksum();
        let mut bytes = [header.as_bytes().as_slice(), &TRAILER].concat();
        assert!(Reader::new(&bytes[..]).next().unwrap().is_some());
        bytes[0] ^= 1;
        assert!(Reader::new(&bytes[..]).next().is_err());
    }
}
