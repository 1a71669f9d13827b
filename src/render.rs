//! Plans, inventories and conditions as text for people. Nothing here prints; nothing here decides.

pub mod artifacts;
pub mod departures;
pub mod diagnostics;
pub mod drift;
pub mod drills;
pub mod explanation;
pub mod fleets;
pub mod lineage;
pub mod outcomes;
pub mod plan;
pub mod probes;
pub mod recovery;
pub mod review;
pub mod runbook;
pub mod status;

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, tz::TimeZone};

pub use crate::status::words::{count, duration};

/// Colours, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// ANSI escape sequences.
    Colored,
    /// Text only.
    Plain,
}

impl Palette {
    /// Something that is as it should be.
    pub fn good(self, text: impl Display) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// Something that needs an eye.
    pub fn warn(self, text: impl Display) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// Something that is wrong.
    pub fn bad(self, text: impl Display) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// A heading or a name.
    pub fn strong(self, text: impl Display) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// What matters least.
    pub fn faint(self, text: impl Display) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    fn paint(self, style: Style, text: impl Display) -> String {
        match self {
            Palette::Colored => format!("{style}{text}{style:#}"),
            Palette::Plain => text.to_string(),
        }
    }
}

/// Lines that are put together from columns are made to fit this width.
const COLUMNS: usize = 80;
/// No table is wider than this, whatever the names in it.
const WIDEST: u16 = 100;

/// A moment as people in `zone` read it: `2026-11-20 01:00 UTC`.
pub fn moment(time: Timestamp, zone: &TimeZone) -> String {
    let local = time.to_zoned(zone.clone());
    let format = if local.second() == 0 { "%Y-%m-%d %H:%M %Z" } else { "%Y-%m-%d %H:%M:%S %Z" };
    local.strftime(format).to_string()
}

/// `text`, every moment in it as people in `zone` read it. Programs get it with moments as RFC 3339 has them.
pub fn told(text: &str, zone: &TimeZone) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let ends = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.'));
        let word = from[..from.find(ends).unwrap_or(from.len())].trim_end_matches(['.', ':', '-']);
        out.push_str(before);
        match word.parse::<Timestamp>() {
            Ok(time) if word.contains(':') => out.push_str(&moment(time, zone)),
            _ => out.push_str(word),
        }
        rest = &from[word.len()..];
    }
    out + rest
}

/// Bytes in a unit that suits: `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

/// A commit as people write it.
pub fn short_revision(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_in_a_text_are_told_in_a_zone_and_nothing_else_is_changed() {
        let tallinn = TimeZone::get("Europe/Tallinn").unwrap();
        let check = |text, expect| assert_eq!(told(text, &tallinn), expect);
        check("slot 2026-11-20T12:00:00Z has no full", "slot 2026-11-20 14:00 EET has no full");
        check("due since 2026-07-01T01:00:07Z.", "due since 2026-07-01 04:00:07 EEST.");
        check("replaced by 20261120T010000Z-0000000002", "replaced by 20261120T010000Z-0000000002");
        check("1 of 2é 10.0.0.1: 3.", "1 of 2é 10.0.0.1: 3.");
        check("", "");
    }
}
