//! Previews of machines that were cut off, as this host remembers them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::spec::names::VmName;

/// What one preview marks all that it has others make with, in names: 16 hexadecimal digits, drawn anew for each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PreviewMark(String);

/// No mark of a preview.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no mark of a preview: it has 16 hexadecimal digits", .0.escape_debug())]
pub struct NoMark(String);

/// Machines that were previewed when whoever asked for that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviewLeft {
    /// What all that it left is known by.
    pub mark: PreviewMark,
    /// The commit that declares the machines.
    pub revision: String,
    /// The machines.
    pub vms: Vec<VmName>,
}

impl PreviewMark {
    /// The mark that was drawn.
    pub fn drawn(number: u64) -> Self {
        Self(format!("{number:016x}"))
    }
}

impl fmt::Display for PreviewMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PreviewMark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let is_mark = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_mark { Ok(Self(text.to_owned())) } else { Err(NoMark(text.to_owned())) }
    }
}

impl TryFrom<String> for PreviewMark {
    type Error = NoMark;

    fn try_from(text: String) -> Result<Self, NoMark> {
        text.parse()
    }
}

impl From<PreviewMark> for String {
    fn from(mark: PreviewMark) -> Self {
        mark.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_what_is_drawn_and_nothing_else() {
        let mark = PreviewMark::drawn(0xbeef);
        assert_eq!(mark.to_string(), "000000000000beef");
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for odd in ["", "beef", "000000000000BEEF", "../../../../../../", "000000000000beef0"] {
            assert!(odd.parse::<PreviewMark>().is_err(), "{odd}");
        }
    }
}
