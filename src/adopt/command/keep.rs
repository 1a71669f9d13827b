//! How long dumps are kept, by the command that deletes old ones.

use super::{file_name, words::Word};
use crate::adopt::options::{Grammar, Options};

/// The programs that are read here.
pub(super) const PROGRAMS: [&str; 3] = ["find", "tmpreaper", "tmpwatch"];

/// The rules of retention that a line states; `None` where it states none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Keep {
    /// Days that a dump is kept at least.
    pub days: Option<u32>,
    /// As many of the last hours, days, weeks, months and years have one each: the keys of a policy's `keep`.
    pub counts: Vec<(&'static str, u32)>,
}

/// `restic forget` and `borg prune` name them alike.
const COUNTS: [(&str, &str); 6] = [
    ("keep-last", "last"),
    ("keep-hourly", "hourly"),
    ("keep-daily", "daily"),
    ("keep-weekly", "weekly"),
    ("keep-monthly", "monthly"),
    ("keep-yearly", "yearly"),
];

const FORGET: Grammar = Grammar {
    letters: "Hdmwyr",
    names: &[
        "keep-last",
        "keep-hourly",
        "keep-daily",
        "keep-weekly",
        "keep-monthly",
        "keep-yearly",
        "keep-within",
        "keep-tag",
        "repo",
        "glob-archives",
        "prefix",
        "host",
        "tag",
        "password-file",
        "repository-file",
        "password-command",
    ],
    ..Grammar::PLAIN
};

/// A policy keeps no longer than a thousand years.
const MOST_DAYS: u32 = 36_500;

impl Keep {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Learns from a command; `false` when it deletes nothing.
    pub(super) fn learn(&mut self, program: &str, arguments: &[Word]) -> bool {
        match program {
            "find" => {
                let days = days_of_find(arguments);
                self.days = self.days.max(days);
                days.is_some()
            }
            "restic" | "borg"
                if arguments.iter().any(|word| matches!(word.text.as_str(), "forget" | "prune")) =>
            {
                self.learn_counts(&Options::read(&FORGET, arguments));
                true
            }
            _ => false,
        }
    }

    fn learn_counts(&mut self, options: &Options) {
        for (option, key) in COUNTS {
            let count = options.value(&[option]).and_then(|count| count.text.parse().ok()).filter(|n| *n > 0);
            if let Some(count) = count {
                self.counts.retain(|(known, _)| *known != key);
                self.counts.push((key, count));
            }
        }
    }
}

/// `find … -mtime +14 … -delete`. That deletes what is at least 15 days old (find(1), section Numeric arguments).
fn days_of_find(arguments: &[Word]) -> Option<u32> {
    let deletes = arguments.iter().any(|word| word.text == "-delete" || file_name(&word.text) == "rm");
    let age = |test: &str| -> Option<u32> {
        let at = arguments.iter().position(|word| word.text == test)?;
        arguments.get(at + 1)?.text.strip_prefix('+')?.parse().ok()
    };
    let days = age("-mtime").or_else(|| age("-ctime")).map(|days| days.saturating_add(1));
    let days = days
        .or_else(|| age("-mmin").or_else(|| age("-cmin")).map(|minutes| minutes.div_ceil(24 * 60).max(1)));
    days.filter(|days| deletes && *days <= MOST_DAYS)
}
