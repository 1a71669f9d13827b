//! Rows of a dump, put together into statements whose borders the rows themselves decide. Pure.
//!
//! The dump programs begin a new `INSERT` after so many bytes: once a row has become longer, every later statement begins at another
//! row, and a second dump shares almost nothing with the first. They are told to write a statement for each row, which would load
//! several times slower; here rows that follow one another become one statement again, in the very form that the programs write,
//! and where it ends depends on its last row only. Only between `LOCK TABLES` and `UNLOCK TABLES`, where there is nothing else than
//! rows, and never between `DELIMITER ;;` and `DELIMITER ;`: what programs in the database say is left as it is.

/// How long statements are on average, bytes. A restore takes each as a whole.
const AVERAGE: u64 = 128 * 1024;
/// How long they are at most, unless one row is longer; what the dump programs write by default, bytes.
const LONGEST: u64 = 1024 * 1024;
/// The longest beginning of a statement that is looked at, bytes: a table's name, and the names of its columns.
const LONGEST_HEAD: usize = 512 * 1024;

const INSERT: &[u8] = b"INSERT INTO ";
const VALUES: &[u8] = b" VALUES ";
const LOCK: &[u8] = b"LOCK TABLES ";
const UNLOCK: &[u8] = b"UNLOCK TABLES;";
const DELIMITER: &[u8] = b"DELIMITER ";
const PLAIN_DELIMITER: &[u8] = b"DELIMITER ;\n";
/// How much of a line tells what it is, unless it is a row, bytes.
const ENOUGH: usize = 16;
/// How a row ends that is a statement of its own.
const END: &[u8] = b");\n";

/// Passes a dump on.
#[derive(Debug, Default)]
pub(super) struct Rows {
    section: Section,
    line: Line,
    /// The beginning of a line that is not passed on yet.
    held: Vec<u8>,
    /// The statement that is open: what rows of it begin with, and how long it is.
    open: Option<(Vec<u8>, u64)>,
}

/// Where in the dump it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Other,
    /// Rows of a table.
    Rows,
    /// Between delimiters of their own.
    Programs,
}

/// What of a line has come.
#[derive(Debug, Default)]
enum Line {
    /// Too little to tell what it is.
    #[default]
    Begun,
    /// It is passed on as it is.
    Plain,
    /// A row, behind the head of its statement.
    Row { hash: Box<blake3::Hasher>, length: u64 },
}

impl Rows {
    /// The next bytes of the dump, however they are cut; returns what is passed on.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len() + self.held.len());
        while !bytes.is_empty() {
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            self.part(piece, &mut out);
            if end.is_some() {
                self.end_line(&mut out);
            }
            bytes = rest;
        }
        out
    }

    /// What is left at the end of the dump.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        // A row that does not end is passed on as it came.
        if !matches!(self.line, Line::Row { .. }) {
            self.close(&mut out);
        }
        out.append(&mut self.held);
        out
    }

    /// A part of a line.
    fn part(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        match &mut self.line {
            Line::Plain => out.extend_from_slice(piece),
            Line::Row { hash, length } => {
                hash.update(piece);
                *length += piece.len() as u64;
                // Its last bytes may be the end of the statement, which is not passed on before it is known what follows.
                self.held.extend_from_slice(piece);
                let sure = self.held.len().saturating_sub(END.len());
                out.extend(self.held.drain(..sure));
            }
            Line::Begun => {
                self.held.extend_from_slice(piece);
                self.decide(out);
            }
        }
    }

    /// Decides what the line is, once enough of it has come.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let is_whole = self.held.ends_with(b"\n");
        if !is_whole && self.held.len() < ENOUGH {
            return;
        }
        match (self.section, head(&self.held)) {
            (Section::Rows, Head::Of(length)) => self.begin_row(length, out),
            (Section::Rows, Head::Unknown) if !is_whole && self.held.len() < LONGEST_HEAD => {}
            (Section::Rows, _) => self.begin_plain(out),
            (_, _) => self.begin_plain(out),
        }
    }

    fn begin_plain(&mut self, out: &mut Vec<u8>) {
        self.close(out);
        self.section = match self.section {
            Section::Programs if self.held == PLAIN_DELIMITER => Section::Other,
            Section::Programs => Section::Programs,
            _ if self.held.starts_with(DELIMITER) => Section::Programs,
            _ if self.held.starts_with(LOCK) => Section::Rows,
            _ if self.held.starts_with(UNLOCK) => Section::Other,
            section => section,
        };
        out.append(&mut self.held);
        self.line = Line::Plain;
    }

    /// The row goes on with the open statement, or opens one.
    fn begin_row(&mut self, head_length: usize, out: &mut Vec<u8>) {
        let row = self.held.split_off(head_length);
        let head = std::mem::replace(&mut self.held, row);
        match &self.open {
            Some((known, _)) if *known == head => out.extend_from_slice(b",\n"),
            _ => {
                self.close(out);
                out.extend_from_slice(head.trim_ascii_end());
                out.push(b'\n');
                self.open = Some((head, 0));
            }
        }
        let mut hash = Box::new(blake3::Hasher::new());
        hash.update(&self.held);
        self.line = Line::Row { hash, length: self.held.len() as u64 };
        let sure = self.held.len().saturating_sub(END.len());
        out.extend(self.held.drain(..sure));
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.line) {
            // A line that is shorter than what tells what it is.
            Line::Begun if !self.held.is_empty() => {
                self.begin_plain(out);
                self.line = Line::Begun;
            }
            Line::Begun | Line::Plain => {}
            Line::Row { hash, length } if self.held == END => {
                self.held.clear();
                out.push(b')');
                let Some((_, statement)) = &mut self.open else { return };
                *statement += length;
                if *statement >= LONGEST || ends_here(&hash, length) {
                    self.close(out);
                }
            }
            // Nothing that the dump programs write ends otherwise: it is passed on as it came.
            Line::Row { .. } => {
                out.append(&mut self.held);
                self.open = None;
            }
        }
    }

    /// Ends the open statement.
    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            out.extend_from_slice(b";\n");
        }
    }
}

/// Whether a statement ends with this row: longer rows end more.
fn ends_here(hash: &blake3::Hasher, length: u64) -> bool {
    let digest = hash.finalize();
    let number = digest.as_bytes().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number < (u64::MAX / AVERAGE).saturating_mul(length)
}

/// What a line begins with.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    /// The beginning of a statement for rows, of so many bytes.
    Of(usize),
    /// Something else.
    None,
    /// More must be seen.
    Unknown,
}

/// ``INSERT INTO `table` VALUES ``, or with the names of columns in brackets before `VALUES`.
fn head(line: &[u8]) -> Head {
    let mut at = match expect(line, 0, INSERT) {
        Ok(at) => at,
        Err(otherwise) => return otherwise,
    };
    at = match name(line, at) {
        Ok(at) => at,
        Err(otherwise) => return otherwise,
    };
    if line.get(at..).is_some_and(|rest| rest.starts_with(b" (")) {
        at += 2;
        loop {
            at = match name(line, at) {
                Ok(at) => at,
                Err(otherwise) => return otherwise,
            };
            match line.get(at..) {
                Some([b')', ..]) => break at += 1,
                Some([b',', b' ', ..]) => at += 2,
                Some([] | [b',']) | None => return Head::Unknown,
                Some(_) => return Head::None,
            }
        }
    }
    let end = match expect(line, at, VALUES) {
        Ok(at) => at,
        Err(otherwise) => return otherwise,
    };
    match line.get(end) {
        Some(b'(') => Head::Of(end),
        Some(_) => Head::None,
        None => Head::Unknown,
    }
}

fn expect(line: &[u8], at: usize, text: &[u8]) -> Result<usize, Head> {
    let rest = line.get(at..).unwrap_or_default();
    match rest {
        rest if rest.starts_with(text) => Ok(at + text.len()),
        rest if text.starts_with(rest) => Err(Head::Unknown),
        _ => Err(Head::None),
    }
}

/// The end of a name in backticks; one in it is written twice.
fn name(line: &[u8], at: usize) -> Result<usize, Head> {
    let mut at = expect(line, at, b"`")?;
    loop {
        let rest = line.get(at..).unwrap_or_default();
        let Some(next) = rest.iter().position(|byte| *byte == b'`') else { return Err(Head::Unknown) };
        at += next + 1;
        match line.get(at) {
            Some(b'`') => at += 1,
            Some(_) => return Ok(at),
            None => return Err(Head::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(dump: &str, piece: usize) -> String {
        let mut rows = Rows::default();
        let mut out: Vec<u8> = dump.as_bytes().chunks(piece).flat_map(|piece| rows.pass(piece)).collect();
        out.extend(rows.end());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn rows_that_follow_one_another_are_one_statement_however_the_dump_is_cut() {
        let dump = "-- head\nLOCK TABLES `t` WRITE;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\n\
            INSERT INTO `t` VALUES (1,'a');\nINSERT INTO `t` VALUES (2,'b;\\n');\nINSERT INTO `u``v` (`a`, `b)`) VALUES (3);\n\
            INSERT INTO `u``v` (`a`, `b)`) VALUES (4);\n/*!40000 ALTER TABLE `t` ENABLE KEYS */;\nUNLOCK TABLES;\nx";
        let expected = "-- head\nLOCK TABLES `t` WRITE;\n/*!40000 ALTER TABLE `t` DISABLE KEYS */;\n\
            INSERT INTO `t` VALUES\n(1,'a'),\n(2,'b;\\n');\nINSERT INTO `u``v` (`a`, `b)`) VALUES\n(3),\n(4);\n\
            /*!40000 ALTER TABLE `t` ENABLE KEYS */;\nUNLOCK TABLES;\nx";
        for piece in [1, 2, 3, 7, 64, 10_000] {
            assert_eq!(passed(dump, piece), expected, "by {piece}");
        }
    }

    #[test]
    fn what_is_not_a_tables_rows_is_left_as_it_is() {
        let twice = "INSERT INTO `t` VALUES (1);\nINSERT INTO `t` VALUES (1);\n";
        let body = format!(
            "DELIMITER ;;\nCREATE PROCEDURE p() BEGIN\n{twice}LOCK TABLES `t` WRITE;\n{twice}END ;;\nDELIMITER ;\n"
        );
        for dump in [
            twice.to_owned(),
            body.clone(),
            format!("{body}{twice}"),
            "LOCK TABLES `t` WRITE;\nINSERT INTO `t` VALUES\n(1),\n(2);\nINSERT INTO t VALUES (1);\nUNLOCK TABLES;\n".to_owned(),
            "LOCK TABLES `t` WRITE;\nINSERT INTO `t` VALUES (1,".to_owned(),
            "\n\n--\n".to_owned(),
            String::new(),
        ] {
            for piece in [1, 5, 10_000] {
                let expected = dump.replace("` VALUES (1,", "` VALUES\n(1,");
                assert_eq!(passed(&dump, piece), expected, "by {piece}");
            }
        }
    }

    #[test]
    fn statements_end_at_the_same_rows_after_one_has_become_longer() {
        let rows = |longer: u32| {
            let row = |n: u32| {
                let more = if n == longer { "and much more of it" } else { "" };
                format!(
                    "INSERT INTO `t` VALUES ({n},'{:x}{more}');\n",
                    u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                )
            };
            let rows: String = (0..100_000).map(row).collect();
            passed(&format!("LOCK TABLES `t` WRITE;\n{rows}UNLOCK TABLES;\n"), 4096)
        };
        let begins = |dump: &str| {
            let firsts = dump.split("INSERT INTO `t` VALUES\n").skip(1);
            firsts.map(|rest| rest.split(',').next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let (before, after) = (rows(u32::MAX), rows(100));
        let (first, second) = (begins(&before), begins(&after));
        assert!(first.len() > 10, "{} statements", first.len());
        let same = second.iter().filter(|begin| first.contains(begin)).count();
        assert!(same + 2 >= second.len(), "{same} of {}", second.len());
        let longest = before.split(";\n").map(str::len).max().unwrap();
        assert!(longest as u64 <= LONGEST + 1000, "{longest}");
        assert_eq!(before.matches("\n(").count(), 100_000);
    }
}
