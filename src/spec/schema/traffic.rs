//! Where users are led.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use crate::spec::values::{Length, Text, Word};

/// A record of DNS that a recovery may switch from one site to another.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Its name in DNS.
    #[schemars(required)]
    pub record: Option<Text<Word>>,
    /// What kind of values it has. Default: `A`.
    #[serde(rename = "type")]
    pub kind: Option<RecordKind>,
    /// How long resolvers may go on answering what they asked before. Default: 1 minute.
    pub ttl: Option<Text<Length>>,
    /// The values that lead to the site that serves users as a rule.
    #[schemars(required, length(min = 1))]
    pub primary: Option<Vec<Text<Word>>>,
    /// The values that lead to the site that stands by.
    #[schemars(required, length(min = 1))]
    pub standby: Option<Vec<Text<Word>>>,
    /// The server that is asked to change it.
    #[schemars(required)]
    pub dns: Option<DynamicDns>,
}

/// What kind of values a record has.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub enum RecordKind {
    /// Addresses of IPv4.
    A,
    /// Addresses of IPv6.
    #[serde(rename = "AAAA")]
    Aaaa,
    /// One name that it stands for.
    #[serde(rename = "CNAME")]
    Cname,
}

/// A server that takes signed dynamic updates (RFC 2136, TSIG).
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DynamicDns {
    /// The zone that the record is in. The host's `allow.traffic` must name it.
    #[schemars(required)]
    pub zone: Option<Text<Word>>,
    /// Name or address of the zone's primary server.
    #[schemars(required)]
    pub server: Option<Text<Word>>,
    /// Default: 53.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// The key that updates are signed with.
    #[schemars(required)]
    pub key: Option<TsigKey>,
}

/// A key that the server shares.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TsigKey {
    /// The name that the server knows it by.
    #[schemars(required)]
    pub name: Option<Text<Word>>,
    /// Default: `hmac-sha256`.
    pub algorithm: Option<TsigAlgorithm>,
    /// The key, base64. The host's `allow.secrets` binds it to the server.
    #[schemars(required)]
    pub secret: Option<Secret>,
}

/// What a key signs by.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}
