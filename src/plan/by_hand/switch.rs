//! Traffic by hand: the same update that Backstay sends, by `nsupdate`.

use std::collections::BTreeSet;

use super::{Hand, Line, MadeByHand, Prepared, reach::Folders};
use crate::spec::{
    Spec,
    names::TrafficName,
    traffic::{RecordKind, Side, Traffic},
};

/// The file that holds the key, as `tsig-keygen` writes it.
const KEY: &str = "tsig.key";

/// What leads users to a side.
pub fn by_hand(spec: &Spec, name: &TrafficName, to: Side, folders: &Folders) -> MadeByHand {
    let Some(traffic) = spec.traffic.get(name) else { return MadeByHand::default() };
    let (dns, path) = (&traffic.dns, folders.switch(name, to));
    let (server, port) = (format!("@{}", dns.server), dns.port.to_string());
    let ask = ["dig", &server, "-p", &port, "+short", &traffic.record, traffic.kind.as_str()];
    let hands = vec![
        Hand::Know(format!(
            "put the key {} into {KEY}, mode 0600: key \"{}\" {{ algorithm {}; secret \"…\"; }};",
            dns.key,
            dns.key,
            dns.algorithm.as_str()
        )),
        Hand::Type(Line::of(["nsupdate", "-v", "-k", KEY, &path])),
        Hand::Type(Line::of(ask)),
    ];
    MadeByHand { files: vec![Prepared { path, content: update(traffic, None, traffic.values(to)) }], hands }
}

/// The update that `nsupdate` sends: the record has exactly `wanted`; where `before` is told, only if it has exactly that until then
/// (RFC 2136, 2.4, "Prerequisite Section").
pub fn update(traffic: &Traffic, before: Option<&BTreeSet<String>>, wanted: &BTreeSet<String>) -> String {
    let Traffic { record, kind, ttl, dns, .. } = traffic;
    let name = kind.as_str();
    let mut lines = vec![format!("server {} {}", dns.server, dns.port), format!("zone {}.", dns.zone)];
    if before.is_some_and(BTreeSet::is_empty) {
        lines.push(format!("prereq nxrrset {record}. IN {name}"));
    }
    let before = before.into_iter().flatten();
    lines.extend(before.map(|value| format!("prereq yxrrset {record}. IN {name} {}", written(*kind, value))));
    lines.push(format!("update delete {record}. {name}"));
    let wanted = wanted.iter();
    lines.extend(wanted.map(|value| format!("update add {record}. {ttl} {name} {}", written(*kind, value))));
    lines.push("send".to_owned());
    lines.join("\n") + "\n"
}

/// A name without the root's dot would be taken for one below the zone.
fn written(kind: RecordKind, value: &str) -> String {
    if kind == RecordKind::Cname { format!("{value}.") } else { value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        SecretRef,
        traffic::{DynamicDns, TsigAlgorithm},
    };

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_update_holds_only_where_nothing_was_changed_since() {
        let traffic = Traffic {
            name: "www".parse().unwrap(),
            record: "www.example.org".to_owned(),
            kind: RecordKind::Cname,
            ttl: 60,
            primary: set(&["a.example.org"]),
            standby: set(&["b.example.org"]),
            dns: DynamicDns {
                zone: "example.org".to_owned(),
                server: "ns1.example.org".to_owned(),
                port: 53,
                key: "k".to_owned(),
                algorithm: TsigAlgorithm::HmacSha256,
                secret: SecretRef::File("/k".into()),
            },
        };
        let head = "server ns1.example.org 53\nzone example.org.\n";
        let rest = "update delete www.example.org. CNAME\nupdate add www.example.org. 60 CNAME b.example.org.\nsend\n";
        let of = |before: Option<&BTreeSet<String>>| update(&traffic, before, &traffic.standby);
        let found = "prereq yxrrset www.example.org. IN CNAME a.example.org.\n";
        assert_eq!(of(Some(&traffic.primary)), format!("{head}{found}{rest}"));
        assert_eq!(of(Some(&set(&[]))), format!("{head}prereq nxrrset www.example.org. IN CNAME\n{rest}"));
        assert_eq!(of(None), format!("{head}{rest}"));
    }
}
