//! One line of `allowed_signers`: principals, options, key.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use ssh_key::{
    Algorithm, PublicKey,
    public::{KeyData, RsaPublicKey},
};

/// The longest RSA key that the library checks signatures of.
const MOST_RSA_BITS: usize = 4096;

/// A moment, seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub i64);

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match Timestamp::from_second(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{} s", self.0),
        }
    }
}

/// One key, for whom and for what it counts.
#[derive(Debug)]
pub(super) struct Line {
    /// The pattern list of principals, as it is written.
    pub principals: String,
    /// The key.
    pub key: KeyData,
    options: Options,
}

#[derive(Debug, Default)]
struct Options {
    namespaces: Option<String>,
    after: Option<Moment>,
    before: Option<Moment>,
}

impl Line {
    /// Reads a line without spaces around it.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let (principals, rest) = word(line);
        let principals = principals.trim_matches('"');
        if !principals.split(',').any(|pattern| !pattern.is_empty() && !pattern.starts_with('!')) {
            return Err("it names no principal".to_owned());
        }
        let (options, key) = match key(rest) {
            Ok(key) => (Options::default(), key),
            Err(_) => {
                let (options, rest) = word(rest);
                (Options::parse(options)?, key(rest)?)
            }
        };
        Ok(Self { principals: printable(principals), key, options })
    }

    /// Whether the key may sign for `namespace` at that time, or why not.
    pub(super) fn permits(&self, namespace: &str, at: Moment) -> Result<(), String> {
        let Options { namespaces, after, before } = &self.options;
        if let Some(list) = namespaces.as_ref().filter(|list| !matches_list(namespace, list)) {
            return Err(format!("that key may sign for `{}` only", printable(list)));
        }
        if let Some(after) = after.filter(|after| at < *after) {
            return Err(format!("that key is valid after {after}, and the commit or tag is of {at}"));
        }
        if let Some(before) = before.filter(|before| at > *before) {
            return Err(format!("that key was valid before {before}, and the commit or tag is of {at}"));
        }
        Ok(())
    }
}

impl Options {
    fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self::default();
        for option in split_unquoted(text, ',') {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (option, None),
            };
            match (name.to_ascii_lowercase().as_str(), value) {
                ("namespaces", Some(value)) => options.namespaces = Some(unquoted(value)?.to_owned()),
                ("valid-after", Some(value)) => options.after = Some(moment(unquoted(value)?)?),
                ("valid-before", Some(value)) => options.before = Some(moment(unquoted(value)?)?),
                ("cert-authority", _) => {
                    return Err("cert-authority is not supported: name the keys themselves".to_owned());
                }
                _ => {
                    return Err(format!(
                        "`{}` is neither a key nor an option that is known",
                        printable(option)
                    ));
                }
            }
        }
        match (options.after, options.before) {
            (Some(after), Some(before)) if before <= after => {
                Err(format!("valid-before {before} is before valid-after {after}"))
            }
            _ => Ok(options),
        }
    }
}

/// The type and the base64 of a key, without the comment behind them.
fn key(text: &str) -> Result<KeyData, String> {
    let mut words = text.split_whitespace();
    let (Some(kind), Some(base64)) = (words.next(), words.next()) else {
        return Err("it has no key: write its type and its base64".to_owned());
    };
    let key = PublicKey::from_openssh(&format!("{kind} {base64}"));
    let key = key.map_err(|e| format!("the key cannot be read: {e}"))?;
    match key.algorithm() {
        Algorithm::Dsa | Algorithm::Other(_) => {
            Err(format!("keys of the type {} are not supported: use ed25519, ecdsa or rsa", printable(kind)))
        }
        Algorithm::Rsa { .. } if !key.key_data().rsa().is_some_and(can_be_checked) => {
            Err(format!("rsa keys of more than {MOST_RSA_BITS} bits are not supported: use ed25519"))
        }
        _ => Ok(key.key_data().clone()),
    }
}

fn can_be_checked(key: &RsaPublicKey) -> bool {
    key.n.as_positive_bytes().is_some_and(|modulus| modulus.len() * 8 <= MOST_RSA_BITS)
}

/// The first word, in which quoted spaces are no end, and what follows.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let mut quoted = false;
    let end = text.find(|c: char| {
        quoted ^= c == '"';
        c.is_whitespace() && !quoted
    });
    text.split_at(end.unwrap_or(text.len()))
}

fn split_unquoted(text: &str, at: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.split(move |c: char| {
        quoted ^= c == '"';
        c == at && !quoted
    })
}

fn unquoted(value: &str) -> Result<&str, String> {
    let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    inner.ok_or_else(|| format!("`{}` must stand in double quotes", printable(value)))
}

/// `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`; without the `Z`, in this host's time zone.
fn moment(text: &str) -> Result<Moment, String> {
    let invalid = || format!("`{}` is no time: write YYYYMMDDZ or YYYYMMDDHHMMSSZ", printable(text));
    let (digits, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, TimeZone::UTC),
        None => (text, TimeZone::system()),
    };
    if !matches!(digits.len(), 8 | 12 | 14) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(invalid());
    }
    let part = |from: usize, to: usize| digits.get(from..to).map_or(Ok(0), |part| part.parse::<i16>());
    let read = || {
        let year = part(0, 4).ok()?;
        let [month, day, hour, minute, second] = [(4, 6), (6, 8), (8, 10), (10, 12), (12, 14)]
            .map(|(from, to)| part(from, to).ok().and_then(|number| i8::try_from(number).ok()).unwrap_or(-1));
        let civil = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        Some(Moment(zone.to_timestamp(civil).ok()?.as_second()))
    };
    read().ok_or_else(invalid)
}

/// Whether `text` matches a pattern list (ssh_config(5), PATTERNS): one of its patterns, and none of those with a `!`.
fn matches_list(text: &str, list: &str) -> bool {
    let (negated, plain): (Vec<&str>, Vec<&str>) =
        list.split(',').partition(|pattern| pattern.starts_with('!'));
    plain.iter().any(|pattern| super::super::matches(text, pattern))
        && !negated.iter().any(|pattern| super::super::matches(text, &pattern[1..]))
}

fn printable(text: &str) -> String {
    text.escape_debug().to_string()
}
