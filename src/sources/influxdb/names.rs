//! Names of databases, and how InfluxQL writes names.

use std::fmt;

use super::Failure;

/// The name of a database, as the engine takes it: a part of a path, without separators and control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct DatabaseName(String);

impl DatabaseName {
    pub(super) fn parse(name: &str) -> Result<Self, Failure> {
        let odd = |c: char| c.is_control() || matches!(c, '/' | '\\');
        if name.is_empty() || matches!(name, "." | "..") || name.len() > 200 || name.contains(odd) {
            let shown: String = name.escape_debug().take(80).collect();
            return Err(Failure::Refused(format!("`{shown}` is no name of a database")));
        }
        Ok(Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a database that is only needed for a while, beside this one.
    pub(super) fn beside(&self) -> Self {
        let start: String = self.0.chars().take(40).collect();
        Self(format!("{start}_backstay_{:016x}", rand::random::<u64>()))
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name as InfluxQL writes it.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_not_end_early_or_leave_their_folder() {
        assert_eq!(identifier("a\"b\\\n"), r#""a\"b\\\n""#);
        for bad in ["", ".", "..", "a/b", "a\\b", "a\nb", &"x".repeat(201)] {
            assert!(DatabaseName::parse(bad).is_err(), "{bad}");
        }
        let odd = DatabaseName::parse("-tele \"ä\"").unwrap();
        assert!(odd.beside() != odd.beside() && odd.beside().as_str().starts_with("-tele \"ä\"_backstay_"));
    }
}
