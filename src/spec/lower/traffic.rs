//! Where users are led.

use std::collections::BTreeSet;

use super::{Lower, below, length, store::secret, word};
use crate::spec::{
    names::TrafficName,
    places::{Path, path},
    schema,
    traffic::{
        AwsReach, DynamicDns, Forwards, HostedZone, LedBy, LoadBalancer, Record, RecordKind, Traffic,
        TsigAlgorithm, host_name, is_within, region_of_arn,
    },
    values::{Length, Text, Word},
    walk::show,
};

/// How long resolvers may go on answering what they asked before, where nothing is declared, seconds.
const TTL: u32 = 60;
const PORT: u16 = 53;
/// The region of what AWS has once for the whole world.
const WORLD: &str = "us-east-1";

/// What a record is declared by.
struct RecordForm {
    name: Option<Text<Word>>,
    kind: Option<schema::RecordKind>,
    ttl: Option<Text<Length>>,
}

/// The values of both sides, as they are declared.
type Sides = [Option<Vec<Text<Word>>>; 2];

impl Lower<'_> {
    pub(super) fn traffic(&mut self, name: &TrafficName, traffic: schema::Traffic) -> Option<Traffic> {
        let at = path(["traffic", name.as_str()]);
        let schema::Traffic { record, kind, ttl, primary, standby, dns, route53, load_balancer } = traffic;
        let (form, sides) = (RecordForm { name: record, kind, ttl }, [primary, standby]);
        let (led_by, [primary, standby]) = match (dns, route53, load_balancer) {
            (Some(dns), None, None) => {
                let server = self.dynamic_dns(&below(&at, ["dns"]), dns);
                let (record, sides) = self.record(&at, form, sides)?;
                (LedBy::Dns(record, server?), sides)
            }
            (None, Some(zone), None) => {
                let zone = self.hosted_zone(&below(&at, ["route53"]), zone);
                let (record, sides) = self.record(&at, form, sides)?;
                (LedBy::Route53(record, zone?), sides)
            }
            (None, None, Some(balancer)) => {
                self.has_no_record(&at, &form);
                let balancer = self.load_balancer(&below(&at, ["load_balancer"]), balancer)?;
                let sides = self.target_groups(&at, sides, &balancer.reach.region)?;
                (LedBy::LoadBalancer(balancer), sides)
            }
            // Told already: there is exactly one.
            _ => return None,
        };
        self.leads_somewhere(&at, Traffic { name: name.clone(), primary, standby, led_by })
    }

    /// Traffic whose sides are two, and whose record is in its zone.
    fn leads_somewhere(&mut self, at: &Path, traffic: Traffic) -> Option<Traffic> {
        if let Some(zone) = traffic.zone().filter(|zone| !is_within(traffic.what(), zone)) {
            let message = format!("`{}` is not in the zone `{zone}`", traffic.what());
            self.error("record-outside-zone", &below(at, ["record"]), message, "name the zone that it is in");
            return None;
        }
        if traffic.primary == traffic.standby {
            let message = format!("both sides of traffic `{}` lead to the same place", traffic.name);
            self.error("traffic-goes-nowhere", &below(at, ["standby"]), message, "declare what stands by");
            return None;
        }
        Some(traffic)
    }

    fn record(
        &mut self,
        at: &Path,
        form: RecordForm,
        [primary, standby]: Sides,
    ) -> Option<(Record, [BTreeSet<String>; 2])> {
        let kind = match form.kind {
            None | Some(schema::RecordKind::A) => RecordKind::A,
            Some(schema::RecordKind::Aaaa) => RecordKind::Aaaa,
            Some(schema::RecordKind::Cname) => RecordKind::Cname,
        };
        if form.name.is_none() {
            let message = format!("[{}] has no `record`", show(at));
            self.error("missing-key", at, message, "name the record that leads users");
        }
        let name = self.host_name(&below(at, ["record"]), form.name);
        let primary = self.record_values(&below(at, ["primary"]), kind, primary);
        let standby = self.record_values(&below(at, ["standby"]), kind, standby);
        let ttl = length(form.ttl).map(|ttl| u32::try_from(ttl.as_secs()));
        if ttl.is_some_and(|ttl| ttl.is_err()) {
            let message = format!("`{}` is longer than a record's may be", show(&below(at, ["ttl"])));
            self.error("bad-value", &below(at, ["ttl"]), message, "say `1m`, so that a switch soon holds");
        }
        let record = Record { name: name?, kind, ttl: ttl.map_or(Some(TTL), Result::ok)? };
        Some((record, [primary?, standby?]))
    }

    /// What a record has means nothing to a load balancer.
    fn has_no_record(&mut self, at: &Path, form: &RecordForm) {
        let declared =
            [("record", form.name.is_some()), ("type", form.kind.is_some()), ("ttl", form.ttl.is_some())];
        for (key, _) in declared.into_iter().filter(|(_, is_declared)| *is_declared) {
            let at = below(at, [key]);
            let message = format!("`{}` means nothing to a load balancer", show(&at));
            self.error("bad-value", &at, message, "remove it");
        }
    }

    fn hosted_zone(&mut self, at: &Path, zone: schema::Route53) -> Option<HostedZone> {
        let credentials = self.access_key(at, zone.access_key_id, zone.secret_access_key);
        let name = self.host_name(&below(at, ["zone"]), zone.zone);
        let id = word(zone.id)?;
        // As answers have it, and as people copy it.
        let bare = id.strip_prefix("/hostedzone/").unwrap_or(&id).to_owned();
        if bare.is_empty() || !bare.chars().all(|c| c.is_ascii_alphanumeric()) {
            let message =
                format!("`{}` is no zone's identifier: `{}`", show(&below(at, ["id"])), id.escape_debug());
            self.error("bad-value", &below(at, ["id"]), message, "such as `Z0123456789ABC`");
            return None;
        }
        let region = word(zone.region).unwrap_or_else(|| WORLD.to_owned());
        let endpoint = zone.endpoint.map(|url| url.0.0);
        Some(HostedZone { name: name?, id: bare, reach: AwsReach { region, endpoint, credentials } })
    }

    fn load_balancer(&mut self, at: &Path, balancer: schema::LoadBalancer) -> Option<LoadBalancer> {
        let credentials = self.access_key(at, balancer.access_key_id, balancer.secret_access_key);
        let (forwards, key, kind) = match (word(balancer.listener), word(balancer.rule)) {
            (Some(arn), None) => (Forwards::Listener(arn), "listener", "listener"),
            (None, Some(arn)) => (Forwards::Rule(arn), "rule", "listener-rule"),
            // Told already: there is exactly one.
            _ => return None,
        };
        let region = self.region(&below(at, [key]), forwards.arn(), kind)?;
        let endpoint = balancer.endpoint.map(|url| url.0.0);
        Some(LoadBalancer { forwards, reach: AwsReach { region, endpoint, credentials } })
    }

    /// The region of an ARN, which must be of this kind.
    fn region(&mut self, at: &Path, arn: &str, kind: &str) -> Option<String> {
        let region = region_of_arn(arn, kind).map(str::to_owned);
        if region.is_none() {
            let message = format!("`{}` is no ARN of a {kind}: `{}`", show(at), arn.escape_debug());
            let hint = format!("such as `arn:aws:elasticloadbalancing:eu-north-1:123456789012:{kind}/…`");
            self.error("bad-value", at, message, hint);
        }
        region
    }

    /// The target groups of both sides: one each, in the region of what forwards to them.
    fn target_groups(&mut self, at: &Path, sides: Sides, region: &str) -> Option<[BTreeSet<String>; 2]> {
        let mut found = Vec::new();
        for (key, side) in ["primary", "standby"].into_iter().zip(sides) {
            let at = below(at, [key]);
            let groups: Vec<String> = side?.into_iter().map(|group| group.0.0).collect();
            let [group] = groups.as_slice() else {
                let message =
                    format!("`{}` has several values, and users are led to one target group", show(&at));
                self.error("bad-value", &at, message, "leave one");
                return None;
            };
            if self.region(&at, group, "targetgroup")? != region {
                let message =
                    format!("`{}` is in another region than what forwards to it: `{region}`", show(&at));
                self.error("bad-value", &at, message, "name a target group of that region");
                return None;
            }
            found.push(BTreeSet::from([group.clone()]));
        }
        found.try_into().ok()
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
