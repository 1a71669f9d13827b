//! Where users are led: a record of DNS, or what a load balancer does with what it is asked, with the values of the site that serves
//! users as a rule, and of the one that stands by.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{AwsCredentials, SecretRef, names::TrafficName};

/// What a recovery may switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Its name in the declaration.
    pub name: TrafficName,
    /// The values that lead to the site that serves users as a rule.
    pub primary: BTreeSet<String>,
    /// The values that lead to the one that stands by.
    pub standby: BTreeSet<String>,
    /// What leads them, and who is asked to change that.
    pub led_by: LedBy,
}

/// What leads users, and who is asked to change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedBy {
    /// A record of a name server that takes updates. Its values are those of its kind.
    Dns(Record, DynamicDns),
    /// A record of Route 53. Its values are those of its kind.
    Route53(Record, HostedZone),
    /// A load balancer. Its values are target groups, by their ARNs: one a side.
    LoadBalancer(LoadBalancer),
}

/// A record of DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name, lower case, without a dot at its end.
    pub name: String,
    /// What kind of values it has.
    pub kind: RecordKind,
    /// How long others may go on answering what they asked before, seconds.
    pub ttl: u32,
}

impl Traffic {
    /// The values that lead to a side.
    pub fn values(&self, side: Side) -> &BTreeSet<String> {
        match side {
            Side::Primary => &self.primary,
            Side::Standby => &self.standby,
        }
    }

    /// What leads users: the name of a record, or the ARN of a listener or of one of its rules.
    pub fn what(&self) -> &str {
        match &self.led_by {
            LedBy::Dns(record, _) | LedBy::Route53(record, _) => &record.name,
            LedBy::LoadBalancer(balancer) => balancer.forwards.arn(),
        }
    }

    /// The zone that the record is in, where it is one.
    pub fn zone(&self) -> Option<&str> {
        match &self.led_by {
            LedBy::Dns(_, server) => Some(&server.zone),
            LedBy::Route53(_, zone) => Some(&zone.name),
            LedBy::LoadBalancer(_) => None,
        }
    }
}

/// A zone of Route 53.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedZone {
    /// Its name, lower case, without a dot at its end.
    pub name: String,
    /// Its identifier.
    pub id: String,
    /// How AWS is reached.
    pub reach: AwsReach,
}

/// A load balancer of AWS's Elastic Load Balancing, version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// What forwards users' requests to a target group.
    pub forwards: Forwards,
    /// How AWS is reached.
    pub reach: AwsReach,
}

/// What forwards users' requests to a target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forwards {
    /// The default actions of the listener of this ARN.
    Listener(String),
    /// The actions of the rule of this ARN.
    Rule(String),
}

impl Forwards {
    /// The ARN.
    pub fn arn(&self) -> &str {
        match self {
            Forwards::Listener(arn) | Forwards::Rule(arn) => arn,
        }
    }
}

/// How AWS is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsReach {
    /// The region.
    pub region: String,
    /// URL, where it isn't AWS.
    pub endpoint: Option<String>,
    /// The access key; `None` takes that of the environment.
    pub credentials: Option<AwsCredentials>,
}

/// The region of the ARN of a resource of Elastic Load Balancing, whose kind (`listener`, `listener-rule`, `targetgroup`) is `kind`;
/// `None` where it is none. As in "Amazon Resource Names (ARNs)" of the AWS General Reference:
/// `arn:PARTITION:elasticloadbalancing:REGION:ACCOUNT:KIND/REST`.
pub fn region_of_arn<'a>(arn: &'a str, kind: &str) -> Option<&'a str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next().filter(|part| !part.is_empty());
    let (scheme, _partition, service, region) = (next()?, next()?, next()?, next()?);
    let (_account, resource) = (next()?, next()?);
    let rest = resource.strip_prefix(kind)?.strip_prefix('/')?;
    let is_one = scheme == "arn" && service == "elasticloadbalancing" && !rest.is_empty();
    (is_one && arn.chars().all(is_plain)).then_some(region)
}

/// A server that takes dynamic updates (RFC 2136) that are signed (TSIG, RFC 8945).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicDns {
    /// The zone that the record is in, lower case, without a dot at its end.
    pub zone: String,
    /// The name or address of the zone's primary server.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// The name of the key.
    pub key: String,
    /// What it signs by.
    pub algorithm: TsigAlgorithm,
    /// The key, base64.
    pub secret: SecretRef,
}

/// What a key signs by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl TsigAlgorithm {
    /// Its name, as RFC 8945 (6, "Algorithms and Identifiers") has it.
    pub fn as_str(self) -> &'static str {
        match self {
            TsigAlgorithm::HmacSha256 => "hmac-sha256",
            TsigAlgorithm::HmacSha384 => "hmac-sha384",
            TsigAlgorithm::HmacSha512 => "hmac-sha512",
        }
    }
}

/// Where users are led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// To the site that serves them as a rule.
    Primary,
    /// To the one that stands by.
    Standby,
}

impl Side {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Side::Primary => Side::Standby,
            Side::Standby => Side::Primary,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Primary => "primary",
            Side::Standby => "standby",
        })
    }
}

/// The kinds of values that a record may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RecordKind {
    /// Addresses of IPv4.
    #[default]
    A,
    /// Addresses of IPv6.
    Aaaa,
    /// The name that it stands for: one.
    Cname,
}

impl RecordKind {
    /// Its name in DNS.
    pub fn as_str(self) -> &'static str {
        match self {
            RecordKind::A => "A",
            RecordKind::Aaaa => "AAAA",
            RecordKind::Cname => "CNAME",
        }
    }

    /// A value of this kind, written as all others that mean the same; `None` where it is none.
    pub fn value(self, text: &str) -> Option<String> {
        match self {
            RecordKind::A => text.parse::<Ipv4Addr>().ok().map(|address| address.to_string()),
            RecordKind::Aaaa => text.parse::<Ipv6Addr>().ok().map(|address| address.to_string()),
            RecordKind::Cname => host_name(text),
        }
    }
}

/// A name of DNS (RFC 1035, 2.3.1, with the underscore of service names), lower case and without the dot of the root; `None`
/// where it is none.
pub fn host_name(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.chars().all(is_plain) && !label.starts_with('-')
    };
    (name.len() <= 253 && name.split('.').all(is_label)).then_some(name)
}

/// Whether a name is that of a zone, or below it.
pub fn is_within(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_the_same_is_written_the_same_and_nothing_else_is_a_value() {
        assert_eq!(RecordKind::A.value("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(RecordKind::Aaaa.value("2001:DB8:0::1").as_deref(), Some("2001:db8::1"));
        assert_eq!(RecordKind::Cname.value("WWW.example.org.").as_deref(), Some("www.example.org"));
        for bad in ["", "192.0.2.1\nsend", "192.0.2.256", "example.org"] {
            assert_eq!(RecordKind::A.value(bad), None, "{bad}");
        }
        for bad in ["", ".", "a..b", "a b", "-a.org", "a.org\nupdate", "ä.org", "*.org"] {
            assert_eq!(RecordKind::Cname.value(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_region_of_a_load_balancer_stands_in_its_arns() {
        let group =
            "arn:aws:elasticloadbalancing:eu-north-1:123456789012:targetgroup/site-b/0123456789abcdef";
        assert_eq!(region_of_arn(group, "targetgroup"), Some("eu-north-1"));
        assert_eq!(region_of_arn(group, "listener"), None);
        for bad in [
            "",
            "targetgroup/a",
            "arn:aws:elasticloadbalancing:eu-north-1:1:targetgroup/",
            "arn:aws:ec2:eu-north-1:1:targetgroup/a",
            "arn:aws:elasticloadbalancing::1:targetgroup/a",
            "arn:aws:elasticloadbalancing:eu-north-1:1:targetgroup/a --endpoint-url=x",
        ] {
            assert_eq!(region_of_arn(bad, "targetgroup"), None, "{bad}");
        }
    }

    #[test]
    fn a_zone_holds_what_is_below_it_and_nothing_beside_it() {
        for within in ["example.org", "www.example.org", "a.b.example.org"] {
            assert!(is_within(within, "example.org"), "{within}");
        }
        for beside in ["badexample.org", "org", "example.org.evil"] {
            assert!(!is_within(beside, "example.org"), "{beside}");
        }
    }
}
