//! The server's metadata as it sends them: a message of several parts (RFC 2046), of which one is the list of all buckets, and the
//! others are copies of its own databases. Read as a stream: those may be large.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::Path,
};

use super::{Failure, buckets::Bucket};

/// The parts: the list of buckets, and the server's own databases.
const BUCKETS: &str = "buckets";
const KEY_VALUE: &str = "kv";
const SQL: &str = "sql";

/// The largest list of buckets, bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// The most that the server's own databases may have, bytes, together: they are kept on disk while they are read.
const LARGEST_OWN: u64 = 1 << 30;

/// The longest line that is looked at as a whole, bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// The boundary that a `Content-Type` names.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, rest) = content_type.split_once(';')?;
    let boundary = rest.split(';').find_map(|part| part.trim().strip_prefix("boundary="))?.trim_matches('"');
    let is_one = kind.trim().starts_with("multipart/") && !boundary.is_empty() && boundary.len() <= 70;
    is_one.then(|| boundary.to_owned())
}

/// One of the server's own databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    /// Users, tokens, dashboards, tasks and most else that is no bucket.
    KeyValue,
    /// Notebooks, annotations and replications.
    Sql,
}

/// What the server's metadata hold.
#[derive(Debug)]
pub(super) struct Metadata {
    pub buckets: Vec<Bucket>,
    /// Its own databases, each at the start of an unnamed file, in the order in which they came; empty when they were not
    /// asked for.
    pub own: Vec<(Own, File)>,
}

/// What is read of the metadata.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    Buckets,
    /// The server's own databases, too, which are kept in this folder meanwhile.
    All(&'a Path),
}

/// Reads a message, which must be whole.
pub(super) fn read(message: impl Read, boundary: &str, wanted: Wanted<'_>) -> Result<Metadata, Failure> {
    let unreached = |error: io::Error| Failure::Unreached(format!("the server's metadata: {error}"));
    let incomplete = |why: String| Failure::Incomplete(format!("the server's metadata: {why}"));
    let parts = parts(&mut Lines::new(message, boundary), wanted).map_err(unreached)?;
    let list = parts.list.ok_or_else(|| incomplete("they hold no list of buckets".to_owned()))?;
    let buckets = serde_json::from_slice(&list)
        .map_err(|error| incomplete(format!("their list of buckets: {error}")))?;
    let has = |own: Own| parts.own.iter().any(|(it, _)| *it == own);
    match wanted {
        Wanted::All(_) if !(has(Own::KeyValue) && has(Own::Sql)) => {
            Err(incomplete("one of the server's own databases is missing".to_owned()))
        }
        _ => Ok(Metadata { buckets, own: parts.own }),
    }
}

/// What was taken of the parts.
#[derive(Default)]
struct Parts {
    list: Option<Vec<u8>>,
    own: Vec<(Own, File)>,
    /// How much of the server's own databases was kept, bytes.
    kept: u64,
}

/// The part that is being read.
enum Part {
    /// What it is follows from its head.
    Head,
    Buckets,
    Own,
    Other,
}

/// All of a message is read, to its closing boundary.
fn parts<R: Read>(lines: &mut Lines<R>, wanted: Wanted<'_>) -> io::Result<Parts> {
    let (mut parts, mut part, mut named) = (Parts::default(), Part::Other, String::new());
    // The line end in front of a boundary belongs to it.
    let mut held = Vec::new();
    while let Some(line) = lines.next()? {
        match (line, &part) {
            (Line::Boundary | Line::Closing, Part::Own) if held != b"\r\n" => {
                return Err(invalid("a part does not end as it must"));
            }
            (Line::Closing, _) => return Ok(parts),
            (Line::Boundary, _) => {
                (part, named) = (Part::Head, String::new());
                held.clear();
            }
            (Line::Content([b'\r', b'\n']), Part::Head) => part = parts.begin(&named, wanted)?,
            (Line::Content(line), Part::Head) => {
                let line = String::from_utf8_lossy(line).to_ascii_lowercase();
                if line.starts_with("content-disposition:") {
                    named = line;
                }
            }
            (Line::Content(content), Part::Buckets | Part::Own) => {
                held.extend_from_slice(content);
                let ended = held.len() - line_end(&held);
                parts.take(&held[..ended], &part)?;
                held.drain(..ended);
            }
            (Line::Content(_), Part::Other) => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "they are cut short"))
}

/// How many bytes of a line end are at the end.
fn line_end(bytes: &[u8]) -> usize {
    match bytes {
        [.., b'\r', b'\n'] => 2,
        [.., b'\r'] => 1,
        _ => 0,
    }
}

impl Parts {
    /// Begins a part of that name.
    fn begin(&mut self, named: &str, wanted: Wanted<'_>) -> io::Result<Part> {
        let is = |name: &str| named.contains(&format!("name=\"{name}\""));
        let own = match wanted {
            Wanted::All(folder) if is(KEY_VALUE) => Some((Own::KeyValue, folder)),
            Wanted::All(folder) if is(SQL) => Some((Own::Sql, folder)),
            _ => None,
        };
        match own {
            Some((own, _)) if self.own.iter().any(|(other, _)| *other == own) => {
                Err(invalid("a part comes twice"))
            }
            Some((own, folder)) => {
                self.own.push((own, tempfile::tempfile_in(folder)?));
                Ok(Part::Own)
            }
            None if is(BUCKETS) && self.list.is_some() => Err(invalid("a part comes twice")),
            None if is(BUCKETS) => {
                self.list = Some(Vec::new());
                Ok(Part::Buckets)
            }
            None => Ok(Part::Other),
        }
    }

    fn take(&mut self, content: &[u8], part: &Part) -> io::Result<()> {
        match (part, &mut self.list, self.own.last_mut()) {
            (Part::Buckets, Some(list), _) if list.len() + content.len() <= LARGEST => {
                list.extend_from_slice(content);
                Ok(())
            }
            (Part::Own, _, Some((_, file))) => {
                self.kept = room(self.kept, content.len())?;
                file.write_all(content)
            }
            _ => Err(invalid("their list of buckets is too large")),
        }
    }
}

/// How much is kept with so much more, if there is room for it.
fn room(kept: u64, more: usize) -> io::Result<u64> {
    let kept = kept.saturating_add(more as u64);
    match kept <= LARGEST_OWN {
        true => Ok(kept),
        false => Err(invalid("the server's own databases are larger than 1 GiB")),
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// A message by lines; a long one comes in pieces.
struct Lines<R> {
    inner: BufReader<R>,
    boundary: Vec<u8>,
    line: Vec<u8>,
    /// Whether the next piece begins a line.
    begins: bool,
}

enum Line<'a> {
    Boundary,
    Closing,
    Content(&'a [u8]),
}

impl<R: Read> Lines<R> {
    fn new(message: R, boundary: &str) -> Self {
        let boundary = format!("--{boundary}").into_bytes();
        Self { inner: BufReader::new(message), boundary, line: Vec::new(), begins: true }
    }

    fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        if (&mut self.inner).take(LONGEST_LINE).read_until(b'\n', &mut self.line)? == 0 {
            return Ok(None);
        }
        let begins = std::mem::replace(&mut self.begins, self.line.ends_with(b"\n"));
        let rest = self.line.strip_prefix(self.boundary.as_slice()).filter(|_| begins);
        Ok(Some(match rest.map(<[u8]>::trim_ascii_end) {
            Some(b"") => Line::Boundary,
            Some(b"--") => Line::Closing,
            _ => Line::Content(&self.line),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(list: &str) -> Vec<u8> {
        let mut message = b"--b7\r\nContent-Disposition: attachment; name=\"kv\"\r\n\r\n".to_vec();
        message.extend(
            [b"--b7 is no boundary\r\n --b7\r\n".as_slice(), &[0; 200_000], b"--b7--\n\xff"].concat(),
        );
        message.extend(b"\r\n--b7\r\nContent-Disposition: attachment; name=\"buckets\"\r\nContent-Type: application/json\r\n\r\n");
        message.extend(list.as_bytes());
        message.extend(b"\r\n--b7--\r\n");
        message
    }

    const LIST: &str =
        r#"[{"organizationID": "1", "bucketID": "2", "bucketName": "tele", "retentionPolicies": []}]"#;

    #[test]
    fn the_list_of_buckets_is_found_among_the_parts() {
        let metadata = read(message(LIST).as_slice(), "b7", Wanted::Buckets).unwrap();
        assert_eq!(metadata.buckets.iter().map(Bucket::name).collect::<Vec<_>>(), ["tele"]);
        assert!(metadata.own.is_empty());
    }

    #[test]
    fn the_servers_own_databases_are_kept_byte_by_byte() {
        let folder = tempfile::tempdir().unwrap();
        let all = Wanted::All(folder.path());
        read(message(LIST).as_slice(), "b7", all).expect_err("one of them is missing");
        for sql in [
            &b""[..],
            b"\r",
            b"\r\n",
            b"\n\r\n\r\r\n--b7",
            b"x--b7\r\n",
            &[b'\r'; 200_000],
            &b"\r\n".repeat(70_000),
        ] {
            let head = b"--b7\r\nContent-Disposition: attachment; name=\"sql\"\r\n\r\n";
            // A line of the part that looks like the boundary ends it: the server chooses one that no part holds.
            let sql = sql.strip_suffix(b"--b7").unwrap_or(sql);
            let message = [head.as_slice(), sql, b"\r\n", &message(LIST)].concat();
            let mut metadata = read(message.as_slice(), "b7", all).unwrap();
            let (own, file) = &mut metadata.own[0];
            let mut content = Vec::new();
            std::io::Seek::rewind(file).unwrap();
            file.read_to_end(&mut content).unwrap();
            assert!(*own == Own::Sql && content == sql, "{} bytes", sql.len());
            assert_eq!((metadata.own[1].0, metadata.buckets.len()), (Own::KeyValue, 1));
        }
    }

    #[test]
    fn a_message_that_is_cut_short_or_has_no_list_is_refused() {
        let whole = message(LIST);
        for length in [0, 60, 100_000, whole.len() - 40, whole.len() - 5] {
            read(&whole[..length], "b7", Wanted::Buckets).expect_err("it is cut short");
        }
        read(message("{\"code\": \"internal error\"}").as_slice(), "b7", Wanted::Buckets)
            .expect_err("it is no list");
        read(b"--b7--\r\n".as_slice(), "b7", Wanted::Buckets).expect_err("it has no part");
    }

    #[test]
    fn a_part_that_comes_twice_is_refused_and_so_is_more_than_fits() {
        let folder = tempfile::tempdir().unwrap();
        let part = |name: &str, content: &str| {
            format!("--b7\r\nContent-Disposition: attachment; name=\"{name}\"\r\n\r\n{content}\r\n")
        };
        for twice in ["kv", "sql", "buckets"] {
            let parts: String = ["kv", "sql", "buckets", twice].map(|name| part(name, LIST)).concat();
            let refused = read(format!("{parts}--b7--\r\n").as_bytes(), "b7", Wanted::All(folder.path()));
            let Err(Failure::Unreached(why)) = refused else { panic!("{twice} counts twice") };
            assert!(why.contains("twice"), "{why}");
        }
        assert_eq!(room(LARGEST_OWN - 7, 7).unwrap(), LARGEST_OWN);
        room(LARGEST_OWN - 7, 8).expect_err("there is no room");
    }

    #[test]
    fn a_boundary_is_read_from_the_content_type() {
        assert_eq!(boundary("multipart/mixed; boundary=caca52").unwrap(), "caca52");
        assert_eq!(boundary("multipart/mixed; charset=x; boundary=\"a b\"").unwrap(), "a b");
        for bad in ["application/json", "text/html; boundary=x", "multipart/mixed; boundary="] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }
}
