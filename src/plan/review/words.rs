//! How values of a declaration are worded.

use std::time::Duration;

use crate::spec::{Retention, SecretRef, suggest::shown};

/// A value of a commit that may be hostile, safe inside a text: no backticks, no control characters, not long.
pub fn plain(text: &str) -> String {
    shown(text).replace('`', "'")
}

/// A name in a sentence.
pub fn quoted(name: &str) -> String {
    format!("`{}`", plain(name))
}

/// A length of time as declarations have it: `14days` is worded `14d`.
pub fn length(length: Duration) -> String {
    let seconds = length.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds % 60, "s")];
    let parts: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A length of time that may be left out.
pub fn optional(length_of: Option<Duration>) -> String {
    length_of.map_or_else(|| "none".to_owned(), length)
}

/// Names in a row, the first few in full.
pub fn row<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(quoted).collect();
    match names.split_at_checked(MOST_IN_A_ROW) {
        Some((shown, more)) if !more.is_empty() => format!("{} and {} more", shown.join(", "), more.len()),
        _ => names.join(", "),
    }
}

const MOST_IN_A_ROW: usize = 8;

/// Retention as its keys have it: `full 14d, daily 30`.
pub fn retention(keep: &Retention) -> String {
    let ages = [
        ("full", keep.full),
        ("incremental", keep.incremental),
        ("differential", keep.differential),
        ("log", keep.log),
        ("manual", keep.manual),
    ];
    let counts = [
        ("hourly", keep.hourly),
        ("daily", keep.daily),
        ("weekly", keep.weekly),
        ("monthly", keep.monthly),
        ("yearly", keep.yearly),
        ("last", keep.last),
    ];
    let ages = ages.into_iter().filter_map(|(key, age)| Some(format!("{key} {}", length(age?))));
    let counts = counts.into_iter().filter_map(|(key, count)| Some(format!("{key} {}", count?)));
    let rules: Vec<String> = ages.chain(counts).collect();
    if rules.is_empty() { "all, for ever".to_owned() } else { rules.join(", ") }
}

/// Where a secret is found. An encrypted value is told by its digest.
pub fn secret(reference: &SecretRef) -> String {
    match reference {
        SecretRef::File(path) => format!("file {}", plain(&path.to_string_lossy())),
        SecretRef::Env(name) => format!("variable {}", plain(name)),
        SecretRef::Command(words) => format!("command {}", plain(&words.join(" "))),
        SecretRef::Age(text) => {
            use sha2::{Digest, Sha256};
            format!("age value {}", hex::encode(&Sha256::digest(text.as_bytes())[..4]))
        }
    }
}
