//! Where users are led.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Secret;
use crate::spec::values::{HttpUrl, Length, Text, Word};

/// What a recovery may switch from one site to another: exactly one of `dns`, `route53` and `load_balancer`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    { "required": ["dns"] }, { "required": ["route53"] }, { "required": ["load_balancer"] },
]))]
pub struct Traffic {
    /// The record's name, of `dns` and `route53`.
    pub record: Option<Text<Word>>,
    /// What kind of values the record has. Default: `A`.
    #[serde(rename = "type")]
    pub kind: Option<RecordKind>,
    /// How long resolvers may go on answering what they asked before. Default: 1 minute.
    pub ttl: Option<Text<Length>>,
    /// The values that lead to the site that serves users as a rule: of a record, or one target group by its ARN.
    #[schemars(required, length(min = 1))]
    pub primary: Option<Vec<Text<Word>>>,
    /// The values that lead to the site that stands by.
    #[schemars(required, length(min = 1))]
    pub standby: Option<Vec<Text<Word>>>,
    /// The name server that is asked to change a record.
    pub dns: Option<DynamicDns>,
    /// The zone of Route 53 that a record is in.
    pub route53: Option<Route53>,
    /// The load balancer of AWS that forwards to a target group.
    pub load_balancer: Option<LoadBalancer>,
}

/// A zone of Route 53.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route53 {
    /// The zone's name. The host's `allow.traffic` must name it, or the record.
    #[schemars(required)]
    pub zone: Option<Text<Word>>,
    /// The zone's identifier, such as `Z0123456789ABC`.
    #[schemars(required)]
    pub id: Option<Text<Word>>,
    /// The region that requests are signed for. Default: `us-east-1`, which is Route 53's own.
    pub region: Option<Text<Word>>,
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Public half of the access key. Default: the host's own environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
}

/// A load balancer of AWS's Elastic Load Balancing, version 2: exactly one of `listener` and `rule`. Its region is that of the ARN.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("oneOf" = [{ "required": ["listener"] }, { "required": ["rule"] }]))]
pub struct LoadBalancer {
    /// The ARN of the listener whose default action forwards. The host's `allow.traffic` must name it.
    pub listener: Option<Text<Word>>,
    /// The ARN of the listener's rule whose action forwards. The host's `allow.traffic` must name it.
    pub rule: Option<Text<Word>>,
    /// Where it isn't AWS.
    pub endpoint: Option<Text<HttpUrl>>,
    /// Public half of the access key. Default: the host's own environment.
    pub access_key_id: Option<Secret>,
    /// Secret half of the access key.
    pub secret_access_key: Option<Secret>,
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
    /// The zone that the record is in. The host's `allow.traffic` must name it, or the record.
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
