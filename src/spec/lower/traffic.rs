//! Where users are led.

use std::collections::BTreeSet;

use super::{Lower, below, length, store::secret, word};
use crate::spec::{
    names::TrafficName,
    places::{Path, path},
    schema,
    traffic::{DynamicDns, RecordKind, Traffic, TsigAlgorithm, host_name, is_within},
    values::{Text, Word},
    walk::show,
};

/// How long resolvers may go on answering what they asked before, where nothing is declared, seconds.
const TTL: u32 = 60;
const PORT: u16 = 53;

impl Lower<'_> {
    pub(super) fn traffic(&mut self, name: &TrafficName, traffic: schema::Traffic) -> Option<Traffic> {
        let at = path(["traffic", name.as_str()]);
        let kind = match traffic.kind {
            None | Some(schema::RecordKind::A) => RecordKind::A,
            Some(schema::RecordKind::Aaaa) => RecordKind::Aaaa,
            Some(schema::RecordKind::Cname) => RecordKind::Cname,
        };
        let record = self.host_name(&below(&at, ["record"]), traffic.record);
        let primary = self.record_values(&below(&at, ["primary"]), kind, traffic.primary);
        let standby = self.record_values(&below(&at, ["standby"]), kind, traffic.standby);
        let dns = traffic.dns.and_then(|dns| self.dynamic_dns(&below(&at, ["dns"]), dns));
        let ttl = length(traffic.ttl).map(|ttl| u32::try_from(ttl.as_secs()));
        if ttl.is_some_and(|ttl| ttl.is_err()) {
            let message = format!("`{}` is longer than a record's may be", show(&below(&at, ["ttl"])));
            self.error("bad-value", &below(&at, ["ttl"]), message, "say `1m`, so that a switch soon holds");
        }
        let traffic = Traffic {
            name: name.clone(),
            record: record?,
            kind,
            ttl: ttl.map_or(Some(TTL), Result::ok)?,
            primary: primary?,
            standby: standby?,
            dns: dns?,
        };
        if !is_within(&traffic.record, &traffic.dns.zone) {
            let message = format!("`{}` is not in the zone `{}`", traffic.record, traffic.dns.zone);
            self.error(
                "record-outside-zone",
                &below(&at, ["record"]),
                message,
                "name the zone that it is in",
            );
            return None;
        }
        if traffic.primary == traffic.standby {
            let message = format!("both sides of traffic `{name}` lead to the same place");
            self.error("traffic-goes-nowhere", &below(&at, ["standby"]), message, "declare what stands by");
            return None;
        }
        Some(traffic)
    }

    fn dynamic_dns(&mut self, at: &Path, dns: schema::DynamicDns) -> Option<DynamicDns> {
        let key = dns.key?;
        let zone = self.host_name(&below(at, ["zone"]), dns.zone);
        let name = self.host_name(&below(at, ["key", "name"]), key.name);
        let server = word(dns.server)?;
        // An address holds nothing else than a name does, but for the colons of IPv6.
        if server.parse::<std::net::IpAddr>().is_err() && host_name(&server).is_none() {
            self.no_host_name(&below(at, ["server"]), &server);
            return None;
        }
        Some(DynamicDns {
            zone: zone?,
            server,
            port: dns.port.unwrap_or(PORT),
            key: name?,
            algorithm: match key.algorithm {
                None | Some(schema::TsigAlgorithm::HmacSha256) => TsigAlgorithm::HmacSha256,
                Some(schema::TsigAlgorithm::HmacSha384) => TsigAlgorithm::HmacSha384,
                Some(schema::TsigAlgorithm::HmacSha512) => TsigAlgorithm::HmacSha512,
            },
            secret: secret(key.secret?)?,
        })
    }

    fn host_name(&mut self, at: &Path, text: Option<Text<Word>>) -> Option<String> {
        let text = word(text)?;
        let name = host_name(&text);
        if name.is_none() {
            self.no_host_name(at, &text);
        }
        name
    }

    fn no_host_name(&mut self, at: &Path, text: &str) {
        let message = format!("`{}` is no name of DNS: `{}`", show(at), text.escape_debug());
        self.error("bad-value", at, message, "such as `www.example.org`");
    }

    /// The values of one side, each written as all others that mean the same.
    fn record_values(
        &mut self,
        at: &Path,
        kind: RecordKind,
        values: Option<Vec<Text<Word>>>,
    ) -> Option<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        let declared = values?;
        for (number, Text(Word(text))) in declared.iter().enumerate() {
            match kind.value(text) {
                Some(value) => drop(found.insert(value)),
                None => {
                    let at = below(at, [&number.to_string()]);
                    let message = format!(
                        "`{}` is no value of {}: `{}`",
                        show(&at),
                        kind.as_str(),
                        text.escape_debug()
                    );
                    self.error("bad-value", &at, message, "see `type`");
                    return None;
                }
            }
        }
        if kind == RecordKind::Cname && found.len() > 1 {
            let message = format!("`{}` has several values, and a CNAME has one", show(at));
            self.error("bad-value", at, message, "leave one");
            return None;
        }
        Some(found)
    }
}
