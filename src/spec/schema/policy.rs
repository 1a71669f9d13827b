//! Policies: schedules, retention and objectives.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use crate::spec::{
    cron::Cron,
    schedule::Cadence,
    values::{Length, Text, TextForm, Zone},
    window::Span,
};

/// Schedules, retention and objectives; reusable.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The most data, in time, that may be lost.
    pub rpo: Option<Text<Length>>,
    /// The longest that recovery may take.
    pub rto: Option<Text<Length>>,
    /// How late a run may end before `rpo` counts as breached. Default: 5 % of `rpo`.
    pub grace: Option<Text<Length>>,
    /// When a full is made: it stands alone.
    pub full: Option<CadenceForm>,
    /// When an incremental is made: it shares what has not changed since its epoch's full.
    pub incremental: Option<CadenceForm>,
    /// When a differential is made: it shares with its epoch's full only.
    pub differential: Option<CadenceForm>,
    /// When the log since the last artifact is captured, for a restore to any second.
    pub log: Option<CadenceForm>,
    /// What happens to missed runs. Default: `once`.
    pub catch_up: Option<CatchUp>,
    /// The most by which a run is put off, so that not all begin at once; stable per backup. Default: none.
    pub jitter: Option<Text<Length>>,
    /// When captures other than logs may begin.
    pub window: Option<Window>,
    /// What is kept. Rules are a union; a kind without any rule is kept for ever.
    pub keep: Option<Keep>,
    /// How often artifacts are checked.
    pub verify: Option<Verify>,
}

/// What happens to missed runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CatchUp {
    /// The newest one is run, once.
    #[default]
    Once,
    /// They are left out: a run that is later than `grace` waits for the next slot.
    Skip,
}

/// When captures other than logs may begin, and when they must not. What falls due while it is closed is caught up with
/// when it opens.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// When they must not: `08:00-18:00`, `22:00-04:00` over midnight, `mon-fri 08:00-18:00`, or whole days, `sat,sun`.
    #[schemars(length(min = 1))]
    pub deny: Option<Vec<Text<Span>>>,
    /// The only times when they may. Default: all.
    #[schemars(length(min = 1))]
    pub allow: Option<Vec<Text<Span>>>,
    /// IANA zone of both. Default: the fleet's.
    pub timezone: Option<Text<Zone>>,
}

/// What is kept. Rules are a union; a kind without any rule is kept for ever.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Fulls younger than this.
    pub full: Option<Text<Length>>,
    /// Incrementals younger than this.
    pub incremental: Option<Text<Length>>,
    /// Differentials younger than this.
    pub differential: Option<Text<Length>>,
    /// Logs younger than this.
    pub log: Option<Text<Length>>,
    /// Manual artifacts younger than this, of whatever kind.
    pub manual: Option<Text<Length>>,
    /// The newest verified full of each of so many hours.
    #[schemars(range(min = 1))]
    pub hourly: Option<u32>,
    /// The newest verified full of each of so many days.
    #[schemars(range(min = 1))]
    pub daily: Option<u32>,
    /// The newest verified full of each of so many ISO weeks.
    #[schemars(range(min = 1))]
    pub weekly: Option<u32>,
    /// The newest verified full of each of so many months.
    #[schemars(range(min = 1))]
    pub monthly: Option<u32>,
    /// The newest verified full of each of so many years.
    #[schemars(range(min = 1))]
    pub yearly: Option<u32>,
    /// So many newest verified fulls.
    #[schemars(range(min = 1))]
    pub last: Option<u32>,
}

/// How often artifacts are checked. Default: never.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Signature, presence and sizes.
    pub metadata: Option<Text<Length>>,
    /// Digests of what is stored.
    pub data: Option<Text<Length>>,
    /// Decryption and digests of the plaintext; needs the controller's identity.
    pub plaintext: Option<Text<Length>>,
}

/// When a kind of artifact is to be made: cron in five fields in the fleet's zone, or `{ every = "15m" }`.
#[derive(Clone, Debug)]
pub struct CadenceForm(pub Cadence);

impl JsonSchema for CadenceForm {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Cadence".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let cron = Text::<Cron>::json_schema(generator);
        let length = Text::<Length>::json_schema(generator);
        json_schema!({ "anyOf": [cron, {
            "type": "object",
            "description": "Every so often, counted from the Unix epoch.",
            "properties": { "every": length },
            "additionalProperties": false,
            "required": ["every"],
        }] })
    }
}

impl<'de> Deserialize<'de> for CadenceForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CadenceForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("cron in five fields, or { every = \"15m\" }")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CadenceForm, E> {
                let cron = Cron::parse(text).map_err(|invalid| E::custom(invalid.reason))?;
                Ok(CadenceForm(Cadence::Cron(cron)))
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<CadenceForm, A::Error> {
                match map.next_entry::<String, Text<Length>>()? {
                    Some((key, Text(length))) if key == "every" => Ok(CadenceForm(Cadence::Every(length.0))),
                    _ => Err(de::Error::missing_field("every")),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// The default of [`Policy::grace`]: 5 % of the RPO.
pub fn default_grace(rpo: Option<Duration>) -> Duration {
    rpo.unwrap_or_default() / 20
}
