//! Values that a declaration writes as text: durations, sizes, paths, keys. Each form is read in one place, and that
//! place also tells the JSON Schema and the messages what the form is.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use jiff::tz::TimeZone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    DailyWindow, MOST_DAYS, PointInTime, Recipient, SlotName, SnapshotRule, TimeOfDay, approvals::CommitId,
    cron::Cron, names, suspension::Moment, window::Span,
};
use crate::artifact::approval::PlanHash;

/// Why a text is not of its form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The diagnostic's code.
    pub code: &'static str,
    /// What is wrong; ends the sentence "`key` ‹noun expected›: …".
    pub reason: String,
}

impl Invalid {
    pub(crate) fn value(reason: impl Into<String>) -> Self {
        Self { code: "invalid-value", reason: reason.into() }
    }

    fn path(reason: impl Into<String>) -> Self {
        Self { code: "path-escapes", reason: reason.into() }
    }

    fn secret(reason: impl Into<String>) -> Self {
        Self { code: "literal-secret", reason: reason.into() }
    }
}

/// A value that is written as text.
pub trait TextForm: Sized {
    /// The form's name: `format` in the JSON Schema.
    const FORMAT: &'static str;
    /// What it is, for messages: "a duration".
    const NOUN: &'static str;
    /// A text of this form.
    const EXAMPLE: &'static str;

    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Invalid>;
}

/// A value read from its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<'de, T: TextForm> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::parse(&text).map(Text).map_err(|invalid| D::Error::custom(invalid.reason))
    }
}

impl<T: TextForm> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::FORMAT, "examples": [T::EXAMPLE] })
    }
}

/// What the walk knows of a form.
pub struct Format {
    /// [`TextForm::FORMAT`].
    pub name: &'static str,
    /// [`TextForm::NOUN`].
    pub noun: &'static str,
    /// [`TextForm::EXAMPLE`].
    pub example: &'static str,
    /// [`TextForm::parse`] without its value.
    pub check: fn(&str) -> Result<(), Invalid>,
}

const fn format_of<T: TextForm>() -> Format {
    Format { name: T::FORMAT, noun: T::NOUN, example: T::EXAMPLE, check: |text| T::parse(text).map(drop) }
}

/// Every form.
pub static FORMATS: [Format; 26] = [
    format_of::<Length>(),
    format_of::<Size>(),
    format_of::<AbsolutePath>(),
    format_of::<HostPath>(),
    format_of::<InnerPath>(),
    format_of::<Word>(),
    format_of::<Line>(),
    format_of::<Name>(),
    format_of::<Span>(),
    format_of::<Moment>(),
    format_of::<Zone>(),
    format_of::<Recipient>(),
    format_of::<Cron>(),
    format_of::<Glob>(),
    format_of::<HttpUrl>(),
    format_of::<GitUrl>(),
    format_of::<LocalPath>(),
    format_of::<SshKey>(),
    format_of::<Address>(),
    format_of::<CommitId>(),
    format_of::<PlanHash>(),
    format_of::<SlotName>(),
    format_of::<PointInTime>(),
    format_of::<DailyWindow>(),
    format_of::<SnapshotRule>(),
    format_of::<TimeOfDay>(),
];

/// The form of that name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// A duration, at least a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(pub Duration);

/// Durations beyond this would overflow dates when they are added.
const LONGEST: Duration = Duration::from_secs(1000 * 366 * 24 * 3600);

impl TextForm for Length {
    const FORMAT: &'static str = "duration";
    const NOUN: &'static str = "a duration";
    const EXAMPLE: &'static str = "15m";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let length = humantime::parse_duration(text).map_err(|error| {
            Invalid::value(match error {
                humantime::DurationError::UnknownUnit { unit, .. } if !unit.is_empty() => {
                    format!("`{}` is not a unit: use s, m, h, d, w", unit.escape_debug())
                }
                humantime::DurationError::UnknownUnit { .. } => "a unit is missing: s, m, h, d, w".to_owned(),
                humantime::DurationError::NumberOverflow => "the number is too large".to_owned(),
                humantime::DurationError::Empty => "it is empty".to_owned(),
                _ => "a number with a unit is needed: s, m, h, d, w".to_owned(),
            })
        })?;
        match length {
            l if l < Duration::from_secs(1) => Err(Invalid::value("it must be at least a second")),
            l if l > LONGEST => Err(Invalid::value("it must be at most 1000 years")),
            l => Ok(Self(l)),
        }
    }
}

impl TextForm for PointInTime {
    const FORMAT: &'static str = "point-in-time";
    const NOUN: &'static str = "`on`, `off` or a number of days";
    const EXAMPLE: &'static str = "35d";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let days = || {
            let days = text.strip_suffix('d').filter(|days| days.bytes().all(|b| b.is_ascii_digit()));
            days?.parse().ok().filter(|days| (1..=MOST_DAYS).contains(days))
        };
        match text {
            "on" => Ok(PointInTime::On { days: None }),
            "off" => Ok(PointInTime::Off),
            _ => match days() {
                Some(days) => Ok(PointInTime::On { days: Some(days) }),
                None => Err(Invalid::value(format!("write \"on\", \"off\", or \"1d\" to \"{MOST_DAYS}d\""))),
            },
        }
    }
}

impl TextForm for DailyWindow {
    const FORMAT: &'static str = "daily-window";
    const NOUN: &'static str = "a stretch of every day";
    const EXAMPLE: &'static str = "03:00-04:00";

    fn parse(text: &str) -> Result<Self, Invalid> {
        DailyWindow::parse(text).map_err(Invalid::value)
    }
}

impl TextForm for SnapshotRule {
    const FORMAT: &'static str = "snapshot-rule";
    const NOUN: &'static str = "when snapshots are made and for how long each is kept";
    const EXAMPLE: &'static str = "every day, keep 7d";

    fn parse(text: &str) -> Result<Self, Invalid> {
        SnapshotRule::parse(text).map_err(Invalid::value)
    }
}

impl TextForm for TimeOfDay {
    const FORMAT: &'static str = "time-of-day";
    const NOUN: &'static str = "a time of day";
    const EXAMPLE: &'static str = "03:30";

    fn parse(text: &str) -> Result<Self, Invalid> {
        TimeOfDay::parse(text).map_err(Invalid::value)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl TextForm for Size {
    const FORMAT: &'static str = "size";
    const NOUN: &'static str = "a size";
    const EXAMPLE: &'static str = "2TiB";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let reason = "a number with a unit is needed: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB";
        text.parse::<bytesize::ByteSize>().map(|size| Self(size.0)).map_err(|_| Invalid::value(reason))
    }
}

/// An absolute path without `..`, of the controller's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

impl TextForm for AbsolutePath {
    const FORMAT: &'static str = "absolute-path";
    const NOUN: &'static str = "an absolute path";
    const EXAMPLE: &'static str = "/srv/backups";

    fn parse(text: &str) -> Result<Self, Invalid> {
        absolute(text)?;
        Ok(Self(PathBuf::from(text)))
    }
}

/// An absolute path without `..`, of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath(pub String);

impl TextForm for HostPath {
    const FORMAT: &'static str = "host-path";
    const NOUN: &'static str = "an absolute path of the host";
    const EXAMPLE: &'static str = "/srv/backups";

    fn parse(text: &str) -> Result<Self, Invalid> {
        absolute(text)?;
        Ok(Self(text.to_owned()))
    }
}

fn absolute(text: &str) -> Result<(), Invalid> {
    match text {
        t if !t.starts_with('/') => Err(Invalid::path("it must begin with `/`")),
        t => no_escape(t),
    }
}

fn no_escape(text: &str) -> Result<(), Invalid> {
    if text.split('/').any(|part| part == "..") {
        return Err(Invalid::path("`..` may lead out of where it belongs: write where it ends up"));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::path("control characters are not allowed"));
    }
    Ok(())
}

/// A relative path without `..`, inside the infra repo or a bucket. May be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InnerPath(pub String);

impl TextForm for InnerPath {
    const FORMAT: &'static str = "relative-path";
    const NOUN: &'static str = "a relative path";
    const EXAMPLE: &'static str = "backups/fleet";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.starts_with('/') {
            return Err(Invalid::path("it must not begin with `/`"));
        }
        no_escape(text)?;
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

/// A word: a host, a user, a bucket. Never begins with `-`, so that no program takes it for an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

impl TextForm for Word {
    const FORMAT: &'static str = "word";
    const NOUN: &'static str = "a word";
    const EXAMPLE: &'static str = "backup";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::value("it is empty"));
        }
        if text.starts_with('-') {
            return Err(Invalid::value("it must not begin with `-`"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Invalid::value("spaces and control characters are not allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A line of text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(pub String);

impl TextForm for Line {
    const FORMAT: &'static str = "line";
    const NOUN: &'static str = "a line of text";
    const EXAMPLE: &'static str = "Agama's user data";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(char::is_control) {
            return Err(Invalid::value("control characters and line breaks are not allowed"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The name of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(pub String);

impl TextForm for Name {
    const FORMAT: &'static str = "name";
    const NOUN: &'static str = "a name";
    const EXAMPLE: &'static str = "agama";

    fn parse(text: &str) -> Result<Self, Invalid> {
        // All names share one rule.
        let name: Result<names::StoreName, _> = text.parse();
        name.map(|name| Self(name.into())).map_err(|_| Invalid {
            code: "invalid-name",
            reason: format!(
                "use 1 to {} of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit",
                names::LONGEST_NAME
            ),
        })
    }
}

/// A zone of the IANA database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(pub TimeZone);

impl TextForm for Zone {
    const FORMAT: &'static str = "time-zone";
    const NOUN: &'static str = "a time zone";
    const EXAMPLE: &'static str = "Europe/Stockholm";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let known = TimeZone::get(text).ok().filter(|_| text != "local");
        known.map(Self).ok_or_else(|| Invalid::value("the IANA database has no zone of this name"))
    }
}

impl TextForm for Recipient {
    const FORMAT: &'static str = "age-recipient";
    const NOUN: &'static str = "an age public key";
    const EXAMPLE: &'static str = "age1…";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            return Err(Invalid::secret(
                "it is an identity, which is secret: give its public key, and make a new one",
            ));
        }
        match text.parse::<age::x25519::Recipient>() {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                Err(Invalid::value("a key as `backstay keygen` or `age-keygen` prints it is needed: age1…"))
            }
        }
    }
}

impl TextForm for Cron {
    const FORMAT: &'static str = "cron";
    const NOUN: &'static str = "a cron expression in five fields";
    const EXAMPLE: &'static str = "0 1 * * *";

    fn parse(text: &str) -> Result<Self, Invalid> {
        text.parse::<Cron>().map_err(|invalid| Invalid::value(invalid.reason))
    }
}

/// A glob relative to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(pub String);

impl TextForm for Glob {
    const FORMAT: &'static str = "glob";
    const NOUN: &'static str = "a glob";
    const EXAMPLE: &'static str = "cache/**";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() || text.starts_with('/') {
            return Err(Invalid::value("it must be relative to the folder"));
        }
        match globset::Glob::new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(Invalid::value(error.kind().to_string())),
        }
    }
}

/// An address of HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(pub String);

impl TextForm for HttpUrl {
    const FORMAT: &'static str = "http-url";
    const NOUN: &'static str = "a URL";
    const EXAMPLE: &'static str = "https://s3.example.org";

    fn parse(text: &str) -> Result<Self, Invalid> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        match rest {
            Some(rest) if rest.contains('@') => {
                Err(Invalid::secret("a URL must not hold a user or a password"))
            }
            Some(rest) if !rest.is_empty() && !rest.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(Invalid::value("it must begin with https:// or http://")),
        }
    }
}

/// A URL that git pushes to: ssh, https, file, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUrl(pub String);

impl TextForm for GitUrl {
    const FORMAT: &'static str = "git-url";
    const NOUN: &'static str = "a git URL";
    const EXAMPLE: &'static str = "ssh://git@backup.example.org/infra.git";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Invalid::value("spaces and control characters are not allowed"));
        }
        if text.starts_with('/') {
            no_escape(text)?;
            return Ok(Self(text.to_owned()));
        }
        let known = ["ssh://", "https://", "file:///"];
        let Some(rest) = known.iter().find_map(|scheme| text.strip_prefix(scheme)).filter(|r| !r.is_empty())
        else {
            return Err(Invalid::value("it must begin with ssh://, https://, file:/// or `/`"));
        };
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                Err(Invalid::secret("a URL must not hold a password: use a key or a credential helper"))
            }
            _ if authority.starts_with('-') => Err(Invalid::value("a host must not begin with `-`")),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

/// A path of this host, absolute or relative, without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalPath(pub PathBuf);

impl TextForm for LocalPath {
    const FORMAT: &'static str = "path";
    const NOUN: &'static str = "a path";
    const EXAMPLE: &'static str = "/var/lib/backstay";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::value("it is empty"));
        }
        no_escape(text)?;
        Ok(Self(PathBuf::from(text)))
    }
}

/// A public key of SSH, as in `known_hosts` and `*.pub` files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey(pub String);

impl TextForm for SshKey {
    const FORMAT: &'static str = "ssh-public-key";
    const NOUN: &'static str = "a public key of SSH";
    const EXAMPLE: &'static str = "ssh-ed25519 AAAA…";

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.contains("PRIVATE KEY") {
            return Err(Invalid::secret("it is a private key: give the public one, and make a new pair"));
        }
        let invalid = "a line as in a `.pub` file is needed: ssh-ed25519 AAAA…";
        let key = ssh_key::PublicKey::from_openssh(text).map_err(|_| Invalid::value(invalid))?;
        Ok(Self(format!("{} {}", key.algorithm(), text.split_whitespace().nth(1).unwrap_or_default())))
    }
}

/// An address and a port to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(pub std::net::SocketAddr);

impl TextForm for Address {
    const FORMAT: &'static str = "address";
    const NOUN: &'static str = "an address and a port";
    const EXAMPLE: &'static str = "127.0.0.1:9180";

    fn parse(text: &str) -> Result<Self, Invalid> {
        text.parse().map(Self).map_err(|_| Invalid::value("an IP address and a port are needed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason<T: TextForm + std::fmt::Debug>(text: &str) -> String {
        T::parse(text).unwrap_err().reason
    }

    #[test]
    fn every_forms_example_is_of_that_form() {
        for format in FORMATS.iter().filter(|format| !format.example.ends_with('…')) {
            assert_eq!((format.check)(format.example), Ok(()), "{}", format.name);
        }
    }

    #[test]
    fn durations_and_sizes_are_numbers_with_units() {
        assert_eq!(Length::parse("15m"), Ok(Length(Duration::from_secs(900))));
        assert_eq!(Length::parse("1h 30m"), Ok(Length(Duration::from_secs(5400))));
        assert_eq!(Length::parse("14d"), Ok(Length(Duration::from_secs(14 * 86400))));
        assert_eq!(reason::<Length>("15"), "a unit is missing: s, m, h, d, w");
        assert_eq!(reason::<Length>("15 fortnights"), "`fortnights` is not a unit: use s, m, h, d, w");
        assert_eq!(reason::<Length>("0s"), "it must be at least a second");
        assert!(reason::<Length>("99999999999999999999y").contains("large"));
        assert!(reason::<Length>("2000y").contains("1000 years"));
        assert_eq!(Size::parse("2TiB"), Ok(Size(2 << 40)));
        assert!(Size::parse("lots").is_err());
    }

    #[test]
    fn paths_that_could_lead_elsewhere_are_refused() {
        for bad in ["srv", "../srv", "/srv/../etc", "/srv\0", "/srv/\u{1b}[2J", ""] {
            assert_eq!(AbsolutePath::parse(bad).unwrap_err().code, "path-escapes", "{bad:?}");
        }
        for bad in ["/srv", "a/../b", "..", "a\0"] {
            assert_eq!(InnerPath::parse(bad).unwrap_err().code, "path-escapes", "{bad:?}");
        }
        assert_eq!(InnerPath::parse("a/b/"), Ok(InnerPath("a/b".into())));
    }

    #[test]
    fn words_never_look_like_options() {
        assert!(Word::parse("-oProxyCommand=evil").is_err());
        assert!(GitUrl::parse("ssh://-oProxyCommand=evil/x").is_err());
        assert!(GitUrl::parse("ext::sh -c evil").is_err());
        assert!(GitUrl::parse("--upload-pack=evil").is_err());
    }

    #[test]
    fn secrets_in_urls_and_recipients_are_literal_secrets() {
        assert_eq!(GitUrl::parse("https://me:hunter2@example.org/x").unwrap_err().code, "literal-secret");
        assert_eq!(HttpUrl::parse("https://me:hunter2@example.org").unwrap_err().code, "literal-secret");
        assert_eq!(Recipient::parse("AGE-SECRET-KEY-1QQ").unwrap_err().code, "literal-secret");
    }
}
