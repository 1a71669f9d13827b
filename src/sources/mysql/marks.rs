//! What the text of a dump shows: where in the binary log it stands, that its view is open, that it is whole. Pure.

/// How much of the beginning is looked at, bytes.
const HEAD: usize = 64 * 1024;

/// How much of the end is kept, bytes.
const TAIL: usize = 2048;

/// The line that the dump programs write last, followed by a date unless that is switched off.
const COMPLETED: &str = "-- Dump completed";

/// What the dump programs write only once their view is open.
const OPENED: [&str; 4] =
    ["CHANGE MASTER TO", "CHANGE REPLICATION SOURCE TO", "-- Current Database: ", "-- Table structure"];

/// What MariaDB's dump program writes first after the last table.
const RESTORED_SETTINGS: &str = "/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;";

/// The first line of a dump of one database, whose defaults no other line tells.
const PROLOGUE: &str = "-- Backstay: character set ";

/// Looks at a dump as it passes.
#[derive(Debug, Default)]
pub(super) struct Marks {
    head: Vec<u8>,
    tail: Vec<u8>,
}

/// A place in a server's binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub file: String,
    pub offset: u64,
}

impl Marks {
    pub(super) fn look(&mut self, bytes: &[u8]) {
        let room = HEAD.saturating_sub(self.head.len());
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let end = &bytes[bytes.len().saturating_sub(TAIL)..];
        self.tail.extend_from_slice(end);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
    }

    /// Whether the dump's view was open when this was written.
    pub(super) fn opened(&self) -> bool {
        let head = self.head();
        OPENED.iter().any(|mark| head.contains(mark))
    }

    /// Whether the closing line was the last one.
    pub(super) fn completed(&self) -> bool {
        let tail = String::from_utf8_lossy(&self.tail);
        tail.trim_end().lines().last().is_some_and(|line| line.starts_with(COMPLETED)) && tail.ends_with('\n')
    }

    /// Where in the binary log the dump stands.
    pub(super) fn position(&self) -> Option<Position> {
        let head = self.head();
        let line = comments(&head).find(|line| line.contains("_LOG_FILE='"))?;
        let file = between(line, "_LOG_FILE='", "'")?;
        let offset = between(line, "_LOG_POS=", ";").or_else(|| between(line, "_LOG_POS=", ","))?;
        Some(Position { file: file.to_owned(), offset: offset.trim().parse().ok()? })
    }

    /// The global transaction ids that the dump holds, in MariaDB's own words: at the beginning in older versions, and
    /// at the end, just before the session's settings are put back, since dumps open with the sandbox mode.
    pub(super) fn gtid(&self) -> Option<String> {
        let (head, tail) = (self.head(), String::from_utf8_lossy(&self.tail));
        let is_gtid = |line: &&str| line.starts_with("-- SET GLOBAL gtid_slave_pos='");
        let at_end = || {
            let (before, _) = tail.rsplit_once(RESTORED_SETTINGS)?;
            before.trim_end().lines().next_back().filter(is_gtid)
        };
        let line = comments(&head).find(is_gtid).or_else(at_end)?;
        Some(between(line, "gtid_slave_pos='", "'")?.to_owned()).filter(|gtid| !gtid.is_empty())
    }

    /// Character set and collation of the one database that was dumped.
    pub(super) fn defaults(&self) -> Option<(String, String)> {
        let head = self.head();
        let (character_set, collation) =
            head.lines().next()?.strip_prefix(PROLOGUE)?.split_once(", collation ")?;
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain(character_set) && plain(collation)).then(|| (character_set.to_owned(), collation.to_owned()))
    }

    fn head(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.head)
    }
}

/// The first line of a dump of one database.
pub(super) fn prologue(character_set: &str, collation: &str) -> String {
    format!("{PROLOGUE}{character_set}, collation {collation}\n")
}

/// The comments in front of the first table: data can't look like one of them.
fn comments(head: &str) -> impl Iterator<Item = &str> {
    head.lines()
        .take_while(|line| !line.starts_with("-- Table structure"))
        .filter(|line| line.starts_with("--"))
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(text: &str) -> Marks {
        let mut marks = Marks::default();
        text.as_bytes().chunks(7).for_each(|piece| marks.look(piece));
        marks
    }

    #[test]
    fn positions_of_both_engines_are_read() {
        let position = Position { file: "bin.000001".to_owned(), offset: 330 };
        let older = marks(
            "-- MariaDB dump\n-- CHANGE MASTER TO MASTER_USE_GTID=slave_pos;\n-- SET GLOBAL gtid_slave_pos='0-7-12';\n\
             -- CHANGE MASTER TO MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=330;\n-- Table structure\n",
        );
        let newer = marks(
            "-- MariaDB dump\n-- CHANGE MASTER TO MASTER_USE_GTID=slave_pos;\n\
             -- CHANGE MASTER TO MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=330;\n-- Table structure\nINSERT\n\
             -- SET GLOBAL gtid_slave_pos='0-7-12';\n/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n-- Dump completed\n",
        );
        for mariadb in [older, newer] {
            assert_eq!(mariadb.position(), Some(position.clone()));
            assert_eq!(mariadb.gtid().as_deref(), Some("0-7-12"));
            assert!(mariadb.opened());
        }
        let mysql = marks(
            "-- MySQL dump\n-- CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='binlog.000002', SOURCE_LOG_POS=157;\n",
        );
        assert_eq!(mysql.position(), Some(Position { file: "binlog.000002".to_owned(), offset: 157 }));
        assert_eq!(marks("-- MySQL dump\n").position(), None);
        assert!(!marks("-- MySQL dump\n").opened());
    }

    #[test]
    fn data_is_not_taken_for_a_position() {
        let text =
            "-- Table structure for table `t`\n-- CHANGE MASTER TO MASTER_LOG_FILE='x', MASTER_LOG_POS=1;\n";
        assert_eq!(marks(text).position(), None);
        let body = "-- Table structure\n-- SET GLOBAL gtid_slave_pos='9-9-9';\nEND\n-- Dump completed\n";
        assert_eq!(marks(body).gtid(), None);
    }

    #[test]
    fn only_a_closing_line_at_the_very_end_makes_a_dump_whole() {
        for whole in [
            "x\n-- Dump completed on 2026-11-20  1:00:00\n",
            "x\n\n-- Dump completed\n",
            "-- Dump completed\n\n",
        ] {
            assert!(marks(whole).completed(), "{whole}");
        }
        let long = format!("-- Dump completed\n{}", "INSERT\n".repeat(100));
        for cut in
            ["", "x\n", "-- Dump completed", "-- Dump completed\nINSERT\n", "x -- Dump completed\n", &long]
        {
            assert!(!marks(cut).completed(), "{cut}");
        }
    }

    #[test]
    fn the_prologue_is_read_back_and_nothing_else_is() {
        let first = prologue("utf8mb4", "utf8mb4_general_ci");
        let defaults = Some(("utf8mb4".to_owned(), "utf8mb4_general_ci".to_owned()));
        assert_eq!(marks(&format!("{first}-- MariaDB dump\n")).defaults(), defaults);
        assert_eq!(marks(&prologue("x; DROP DATABASE y", "z")).defaults(), None);
        assert_eq!(marks("-- MariaDB dump\n").defaults(), None);
    }
}
