//! What must hold of restored data: the checks of a drill.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    MysqlMethod, PostgresMethod, Source,
    endpoint::{Endpoint, WebAddress},
};

/// Something that must hold of restored data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DrillCheck {
    /// Every table has exactly the rows that were counted when the data was captured.
    Counts,
    /// A table that was made of a native backup has as many items as expected.
    Items {
        /// How many.
        expect: Expected,
    },
    /// The only value that a question gives is as expected.
    Sql {
        /// The question: one statement.
        sql: String,
        /// In which database; the only one that is declared, or the engine's own choice, when `None`.
        database: Option<String>,
        /// What the answer must be.
        expect: Expected,
    },
    /// The only value that a question in InfluxQL gives is as expected.
    Influxql {
        /// The question: one statement.
        influxql: String,
        /// In which database; the only one that is declared when `None`.
        database: Option<String>,
        /// What the answer must be.
        expect: Expected,
    },
    /// A file is there.
    File {
        /// Relative to the folder that the data is restored into.
        path: String,
        /// The fewest bytes that it may have.
        min_bytes: Option<u64>,
        /// Its SHA-256, lower-case hexadecimal.
        sha256: Option<String>,
    },
    /// A web server answers a GET as expected.
    Http(HttpCheck),
    /// Something takes connections.
    Tcp(TcpCheck),
    /// A program of the controller's host, run on what was restored, ends with exit status 0.
    Command(CommandCheck),
}

/// What a web server must answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpCheck {
    /// What is asked for.
    pub url: WebAddress,
    /// The status of the answer. Redirections are not followed.
    pub status: u16,
    /// A text that the answer must hold.
    pub contains: Option<String>,
    /// How long the whole answer may take.
    pub within: Duration,
}

/// Something that must take connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TcpCheck {
    /// Where.
    pub endpoint: Endpoint,
    /// How long that may take.
    pub within: Duration,
}

/// A program that looks at what was restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CommandCheck {
    /// Its name or its path, as the controller's configuration allows it.
    pub program: String,
    /// What it is told.
    pub arguments: Vec<String>,
    /// How long it may run.
    pub within: Duration,
}

/// What an answer must be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Expected {
    /// This very text.
    Equals(String),
    /// A number within these bounds, both included.
    Within {
        /// The least.
        min: Option<i64>,
        /// The most.
        max: Option<i64>,
    },
}

impl Expected {
    /// Whether an answer is as expected. Of a number with a fraction nothing is rounded away.
    pub fn allows(&self, answer: &str) -> bool {
        let answer = answer.trim();
        match self {
            Expected::Equals(text) => text.trim() == answer,
            Expected::Within { min, max } => floor_and_ceiling(answer).is_some_and(|(floor, ceiling)| {
                min.is_none_or(|min| floor >= i128::from(min))
                    && max.is_none_or(|max| ceiling <= i128::from(max))
            }),
        }
    }
}

/// The whole numbers around a decimal number; `None` for what is none.
fn floor_and_ceiling(text: &str) -> Option<(i128, i128)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix(['-', '+']).unwrap_or(whole);
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if digits.is_empty() || !are_digits(digits) || !are_digits(fraction) {
        return None;
    }
    let number: i128 = whole.parse().ok()?;
    match (fraction.bytes().any(|byte| byte != b'0'), whole.starts_with('-')) {
        (false, _) => Some((number, number)),
        (true, false) => Some((number, number.checked_add(1)?)),
        (true, true) => Some((number.checked_sub(1)?, number)),
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Equals(text) => write!(f, "{text}"),
            Expected::Within { min: Some(min), max: Some(max) } => write!(f, "{min} to {max}"),
            Expected::Within { min: Some(min), max: None } => write!(f, "at least {min}"),
            Expected::Within { min: None, max: Some(max) } => write!(f, "at most {max}"),
            Expected::Within { min: None, max: None } => write!(f, "a number"),
        }
    }
}

impl fmt::Display for DrillCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DrillCheck::Counts => f.write_str("counts as captured"),
            DrillCheck::Items { .. } => f.write_str("count the items"),
            DrillCheck::Sql { sql: asked, database, .. }
            | DrillCheck::Influxql { influxql: asked, database, .. } => match database {
                None => f.write_str(asked),
                Some(database) => write!(f, "{asked} in {database}"),
            },
            DrillCheck::File { path, .. } => write!(f, "file {path}"),
            DrillCheck::Http(check) => write!(f, "GET {}", check.url),
            DrillCheck::Tcp(check) => write!(f, "connect to {}", check.endpoint),
            DrillCheck::Command(check) => {
                let words = std::iter::once(&check.program).chain(&check.arguments);
                write!(f, "run {}", words.map(String::as_str).collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// Why a check can't be made of what a source restores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmakeable {
    /// By nobody: it makes no sense there.
    Ever(String),
    /// By this build.
    Here(String),
}

impl DrillCheck {
    /// The program of the controller's host that it runs, if it runs one.
    pub fn program(&self) -> Option<&str> {
        match self {
            DrillCheck::Command(command) => Some(&command.program),
            _ => None,
        }
    }

    /// The place of the service that it asks, if it asks one.
    pub fn endpoint(&self) -> Option<&Endpoint> {
        match self {
            DrillCheck::Http(http) => Some(http.url.endpoint()),
            DrillCheck::Tcp(tcp) => Some(&tcp.endpoint),
            _ => None,
        }
    }

    /// Why it can't be made of what `source` restores; `None` where it can.
    pub fn unmakeable(&self, source: &Source) -> Option<Unmakeable> {
        let kind = source.kind();
        if source.is_native() {
            return match (self, source) {
                (DrillCheck::Items { .. }, Source::Dynamodb(_)) => None,
                _ => Some(Unmakeable::Ever(
                    "a drill of a provider's own backup restores nothing onto this host; that it can be used is always looked at, and \
                     of a table `counts = \"items\"` may be asked"
                        .to_owned(),
                )),
            };
        }
        match self {
            DrillCheck::Items { .. } => Some(Unmakeable::Ever(
                "items are counted of native backups of tables; look at what was captured with `file` or `command`".to_owned(),
            )),
            DrillCheck::Counts => match source {
                Source::Sqlite { .. } | Source::Etcd(_) => None,
                Source::Mysql(mysql) if mysql.method == MysqlMethod::Logical => None,
                Source::Postgres(postgres) if postgres.method == PostgresMethod::Logical => None,
                Source::Mysql(_) | Source::Postgres(_) => Some(Unmakeable::Ever(
                    "a physical capture counts no rows; ask for some with `sql`".to_owned(),
                )),
                Source::Influxdb(_) | Source::Influxdb2(_) => Some(Unmakeable::Ever(format!(
                    "a capture of `{kind}` counts no points; ask for some with `influxql`"
                ))),
                Source::Redis(_) => Some(Unmakeable::Ever(
                    "a capture of `redis` counts no keys: those that a drill finds are told by themselves".to_owned(),
                )),
                _ => Some(Unmakeable::Here(format!(
                    "this build has no sandbox for `{kind}` in which what was restored could be counted"
                ))),
            },
            DrillCheck::Sql { .. } => match source {
                Source::Mysql(_) | Source::Sqlite { .. } | Source::Postgres(_) => None,
                Source::Influxdb(_) | Source::Influxdb2(_) => {
                    Some(Unmakeable::Ever(format!("`{kind}` is not asked in SQL; ask with `influxql`")))
                }
                _ => Some(Unmakeable::Ever(format!("`{kind}` is not asked in SQL"))),
            },
            DrillCheck::Influxql { .. } => match source {
                Source::Influxdb(_) | Source::Influxdb2(_) => None,
                _ => Some(Unmakeable::Ever(format!("`{kind}` is not asked in InfluxQL"))),
            },
            DrillCheck::File { .. } => match source {
                Source::Mysql(_) | Source::Postgres(_) => Some(Unmakeable::Ever(format!(
                    "a drill of `{kind}` restores into a server, and not into files; ask with `sql`"
                ))),
                Source::Influxdb(_) | Source::Influxdb2(_) => Some(Unmakeable::Ever(format!(
                    "a drill of `{kind}` restores into a server, and not into files; ask with `influxql`"
                ))),
                _ => None,
            },
            DrillCheck::Http(_) | DrillCheck::Tcp(_) => Some(Unmakeable::Ever(
                "nothing listens in a sandbox; ask for the data, run a `command` on it, or try a whole recovery".to_owned(),
            )),
            DrillCheck::Command(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_included_and_nothing_is_rounded_away() {
        let within = |min, max| Expected::Within { min, max };
        let check = |expected: &Expected, answer: &str, allowed: bool| {
            assert_eq!(expected.allows(answer), allowed, "{answer} against {expected}");
        };
        check(&within(Some(1), None), "1", true);
        check(&within(Some(1), None), "0.99", false);
        check(&within(Some(1), None), "1.5\n", true);
        check(&within(None, Some(2)), "2.0001", false);
        check(&within(None, Some(2)), "2.000", true);
        check(&within(Some(-1), Some(0)), "-0.5", true);
        check(&within(Some(0), None), "-0.5", false);
        check(&within(Some(i64::MAX), None), "9223372036854775806", false);
        for no_number in ["", "NULL", "1e9", "nan", "1.2.3", "-", "."] {
            check(&within(Some(0), None), no_number, false);
        }
        check(&Expected::Equals("ok".to_owned()), "ok\n", true);
        check(&Expected::Equals("5".to_owned()), "5.0", false);
    }
}
