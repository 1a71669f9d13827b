//! Plans, inventories and conditions as text for people. Nothing here prints; nothing here decides.

pub mod artifacts;
pub mod diagnostics;
pub mod explanation;
pub mod outcomes;
pub mod plan;
pub mod review;
pub mod status;

use std::fmt::Display;

use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, tz::TimeZone};

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

/// A moment as people read it: `2026-11-20 01:00:00 UTC`.
pub fn moment(time: Timestamp) -> String {
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A length of time in its two largest units: `2h 5m`.
pub fn duration(length: std::time::Duration) -> String {
    let whole = std::time::Duration::from_secs(length.as_secs());
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Bytes in a unit that suits: `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}

/// A commit as people write it.
pub fn short_revision(revision: &str) -> &str {
    revision.get(..10).unwrap_or(revision)
}

/// `1 copy`, `2 copies`.
pub fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}
