//! Names of replication slots, which keep PostgreSQL's log until it is captured.

use std::fmt;

use super::{
    names::BackupName,
    values::{Invalid, TextForm},
};

/// The longest name of a slot, bytes.
const LONGEST: usize = 63;

/// The name of a replication slot (PostgreSQL's documentation, "Querying and Manipulating Replication Slots").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotName(String);

impl SlotName {
    /// The name that a backup's slot has where none is declared.
    pub fn of(backup: &BackupName) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        Self("backstay_".chars().chain(backup.as_str().chars().map(plain)).take(LONGEST).collect())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TextForm for SlotName {
    const FORMAT: &'static str = "replication-slot";
    const NOUN: &'static str = "the name of a replication slot";
    const EXAMPLE: &'static str = "backstay_orders";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if (1..=LONGEST).contains(&text.len()) && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::value("use 1 to 63 of a-z, 0-9 and `_`"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backup_has_a_slot_that_the_server_takes() {
        for (backup, slot) in [("orders", "backstay_orders"), ("a-b.c_1", "backstay_a_b_c_1")] {
            assert_eq!(SlotName::of(&backup.parse().unwrap()).as_str(), slot);
        }
        let longest = SlotName::of(&"x".repeat(63).parse().unwrap());
        assert!(SlotName::parse(longest.as_str()).is_ok());
        for bad in ["", "A", "a-b", "a'b", &"x".repeat(64)] {
            assert!(SlotName::parse(bad).is_err(), "{bad}");
        }
    }
}
