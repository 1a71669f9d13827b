//! Statements about accounts in what is replayed over a server: no dump holds accounts, so that those that the log makes may be
//! there already, and those that it drops may be gone.
//!
//! The text is that of `mariadb-binlog`: each statement begins on a line of its own, behind a line that ends with the
//! delimiter that the program sets at the beginning. Pure.

/// What ends each statement.
const DELIMITER: &[u8] = b"/*!*/;";

/// The longest beginning of a statement that is looked at, bytes.
const LONGEST: usize = 40;

/// How statements about accounts are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accounts {
    /// As the log tells them.
    AsTold,
    /// So that it does not matter what is there already: MariaDB's words for it.
    Again,
    /// MySQL's.
    AgainOnMysql,
}

/// Beginnings of statements, and what they become. The first that fits counts.
type Rules = &'static [(&'static str, &'static str)];

const MARIADB: Rules = &[
    ("CREATE USER IF NOT EXISTS ", "CREATE USER IF NOT EXISTS "),
    ("CREATE USER ", "CREATE OR REPLACE USER "),
    ("DROP USER IF EXISTS ", "DROP USER IF EXISTS "),
    ("DROP USER ", "DROP USER IF EXISTS "),
    ("CREATE ROLE IF NOT EXISTS ", "CREATE ROLE IF NOT EXISTS "),
    ("CREATE ROLE ", "CREATE OR REPLACE ROLE "),
    ("DROP ROLE IF EXISTS ", "DROP ROLE IF EXISTS "),
    ("DROP ROLE ", "DROP ROLE IF EXISTS "),
];

const MYSQL: Rules = &[
    ("CREATE USER IF NOT EXISTS ", "CREATE USER IF NOT EXISTS "),
    ("CREATE USER ", "CREATE USER IF NOT EXISTS "),
    ("DROP USER IF EXISTS ", "DROP USER IF EXISTS "),
    ("DROP USER ", "DROP USER IF EXISTS "),
    ("CREATE ROLE IF NOT EXISTS ", "CREATE ROLE IF NOT EXISTS "),
    ("CREATE ROLE ", "CREATE ROLE IF NOT EXISTS "),
    ("DROP ROLE IF EXISTS ", "DROP ROLE IF EXISTS "),
    ("DROP ROLE ", "DROP ROLE IF EXISTS "),
];

impl Accounts {
    /// How they are run over the server of this version.
    pub(super) fn of(version: &str) -> Self {
        if version.contains("MariaDB") { Accounts::Again } else { Accounts::AgainOnMysql }
    }

    /// Something that the text passes through.
    pub(super) fn statements(self) -> Statements {
        let rules = match self {
            Accounts::AsTold => &[],
            Accounts::Again => MARIADB,
            Accounts::AgainOnMysql => MYSQL,
        };
        Statements { rules, line: Line::Undecided(Vec::new()) }
    }
}

/// Text on its way to the client.
#[derive(Debug)]
pub(super) struct Statements {
    rules: Rules,
    line: Line,
}

/// The line that passes.
#[derive(Debug)]
enum Line {
    /// A statement may begin on it; so much of it came, and was not handed on yet.
    Undecided(Vec<u8>),
    /// A comment, behind which a statement may begin.
    Comment,
    /// A statement or a part of one; the last bytes of the line so far.
    Statement(Vec<u8>),
}

impl Statements {
    /// What is to be run of the next piece of text.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.rules.is_empty() {
            return bytes.to_vec();
        }
        let mut out = Vec::with_capacity(bytes.len() + LONGEST);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(content) => {
                    self.go_on(content, &mut out);
                    self.end_line(&mut out);
                    out.push(b'\n');
                }
                None => self.go_on(piece, &mut out),
            }
        }
        out
    }

    /// What was held back at the end of the text.
    pub(super) fn end(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        self.decide(&mut out);
        out
    }

    fn go_on(&mut self, content: &[u8], out: &mut Vec<u8>) {
        match &mut self.line {
            Line::Undecided(begun) => {
                begun.extend_from_slice(content);
                if begun.len() >= LONGEST {
                    self.decide(out);
                }
            }
            Line::Comment => out.extend_from_slice(content),
            Line::Statement(last) => {
                out.extend_from_slice(content);
                last.extend_from_slice(content);
                last.drain(..last.len().saturating_sub(DELIMITER.len()));
            }
        }
    }

    /// Hands on the beginning of a line, now that it is known what it begins.
    fn decide(&mut self, out: &mut Vec<u8>) {
        let Line::Undecided(begun) = &self.line else { return };
        if begun.is_empty() {
            return;
        }
        let next = match begun.first() {
            Some(b'#') => Line::Comment,
            _ => Line::Statement(begun[begun.len().saturating_sub(DELIMITER.len())..].to_vec()),
        };
        out.extend(rewritten(self.rules, begun));
        self.line = next;
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        self.decide(out);
        self.line = match &self.line {
            Line::Statement(last) if last != DELIMITER => Line::Statement(Vec::new()),
            _ => Line::Undecided(Vec::new()),
        };
    }
}

fn rewritten(rules: Rules, line: &[u8]) -> Vec<u8> {
    let fits = |(beginning, _): &&(&str, &str)| {
        line.get(..beginning.len()).is_some_and(|own| own.eq_ignore_ascii_case(beginning.as_bytes()))
    };
    match rules.iter().find(fits) {
        Some((beginning, becomes)) => [becomes.as_bytes(), &line[beginning.len()..]].concat(),
        None => line.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "/*!40019 SET @@session.max_delayed_threads=0*/;\nDELIMITER /*!*/;\n# at 4\n#261129 Query\n\nSET TIMESTAMP=1/*!*/;\n";

    fn check(accounts: Accounts, text: &str, expect: &str) {
        let (text, expect) = (format!("{HEAD}{text}"), format!("{HEAD}{expect}"));
        for piece in [1, 5, 41, text.len()] {
            let mut statements = accounts.statements();
            let mut out = Vec::new();
            text.as_bytes().chunks(piece).for_each(|piece| out.extend(statements.pass(piece)));
            out.extend(statements.end());
            assert_eq!(String::from_utf8(out).unwrap(), expect, "in pieces of {piece}");
        }
    }

    #[test]
    fn accounts_that_are_there_are_made_anew_and_those_that_are_gone_are_no_error() {
        for (told, run) in [
            ("create user app@'%' identified by 'x'", "CREATE OR REPLACE USER app@'%' identified by 'x'"),
            ("DROP USER app@'%'", "DROP USER IF EXISTS app@'%'"),
            ("CREATE USER IF NOT EXISTS a", "CREATE USER IF NOT EXISTS a"),
            ("CREATE ROLE r", "CREATE OR REPLACE ROLE r"),
            ("GRANT SELECT ON shop.* TO app@'%'", "GRANT SELECT ON shop.* TO app@'%'"),
        ] {
            check(Accounts::Again, &format!("{told}\n/*!*/;\n"), &format!("{run}\n/*!*/;\n"));
            check(Accounts::AsTold, &format!("{told}\n/*!*/;\n"), &format!("{told}\n/*!*/;\n"));
        }
        check(Accounts::AgainOnMysql, "CREATE USER a\n/*!*/;\n", "CREATE USER IF NOT EXISTS a\n/*!*/;\n");
    }

    #[test]
    fn nothing_in_the_middle_of_a_statement_is_touched() {
        let body =
            "CREATE PROCEDURE p()\nBEGIN\nCREATE USER x;\n# CREATE USER y\n\nDROP USER x;\nEND\n/*!*/;\n";
        check(Accounts::Again, body, body);
        let inserted = "INSERT INTO t VALUES ('a\nCREATE USER b\n')\n/*!*/;\nCOMMIT/*!*/;\n";
        check(Accounts::Again, inserted, inserted);
    }
}
