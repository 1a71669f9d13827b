//! From byte offsets to lines and columns.

use std::collections::BTreeMap;

use crate::diagnostic::Location;

/// Where each line of each file begins.
pub struct Lines<'a>(BTreeMap<&'a str, (&'a [u8], Vec<usize>)>);

/// A stretch of a file. Lines count from 1, columns from 1 in UTF-16 code units; the end is after the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins.
    pub start: (usize, usize),
    /// Where it ends.
    pub end: (usize, usize),
}

impl<'a> Lines<'a> {
    pub fn new(files: &'a BTreeMap<String, Vec<u8>>) -> Self {
        let begins = |content: &'a [u8]| {
            let after_newlines =
                content.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
            (content, std::iter::once(0).chain(after_newlines).collect())
        };
        Self(files.iter().map(|(file, content)| (file.as_str(), begins(content))).collect())
    }

    /// Counted from 1, the column in characters.
    pub fn place(&self, location: &Location) -> (usize, usize) {
        let (line, before) = self.before(&location.file, location.span.start);
        // Every byte but those that continue a character of UTF-8.
        (line, before.iter().filter(|byte| **byte & 0xc0 != 0x80).count() + 1)
    }

    /// The whole of a location.
    pub fn region(&self, location: &Location) -> Region {
        let place = |at| {
            let (line, before) = self.before(&location.file, at);
            (line, utf16_len(before) + 1)
        };
        let (start, end) = (place(location.span.start), place(location.span.end.max(location.span.start)));
        Region { start, end: if end == start { (end.0, end.1 + 1) } else { end } }
    }

    /// The line, from 1, of an offset, and what stands before it in that line.
    fn before(&self, file: &str, at: usize) -> (usize, &'a [u8]) {
        let Some((content, begins)) = self.0.get(file) else { return (1, &[]) };
        let at = at.min(content.len());
        let line = begins.partition_point(|begin| *begin <= at);
        (line, &content[begins[line - 1]..at])
    }
}

/// Characters beyond the basic plane, four bytes in UTF-8, are two code units.
fn utf16_len(bytes: &[u8]) -> usize {
    bytes.iter().map(|byte| usize::from(*byte & 0xc0 != 0x80) + usize::from(*byte >= 0xf0)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_regions_count_utf_16_code_units() {
        let files = BTreeMap::from([("a".to_owned(), "x\né𝄞key = 1\n".as_bytes().to_vec())]);
        let lines = Lines::new(&files);
        let location = Location { file: "a".to_owned(), span: 8..11 };
        assert_eq!(lines.region(&location), Region { start: (2, 4), end: (2, 7) });
        assert_eq!(lines.place(&location), (2, 3));
        let empty = Location { file: "a".to_owned(), span: 2..2 };
        assert_eq!(lines.region(&empty), Region { start: (2, 1), end: (2, 2) });
    }
}
