//! A record of a name server that takes updates, by `nsupdate`.

use std::collections::BTreeSet;

use crate::{
    plan::by_hand::{Hand, Line, MadeByHand, Prepared},
    spec::traffic::{DynamicDns, Record, RecordKind},
};

/// The file that holds the key, as `tsig-keygen` writes it.
const KEY: &str = "tsig.key";

/// What puts `wanted` in the place of `before`, by an update that lies at `path`.
pub(super) fn by_hand(
    record: &Record,
    dns: &DynamicDns,
    before: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
    path: String,
) -> MadeByHand {
    let (server, port) = (format!("@{}", dns.server), dns.port.to_string());
    let ask = ["dig", &server, "-p", &port, "+short", &record.name, record.kind.as_str()];
    let key = Hand::Know(format!(
        "put the key {} into {KEY}, mode 0600: key \"{}\" {{ algorithm {}; secret \"…\"; }};",
        dns.key,
        dns.key,
        dns.algorithm.as_str()
    ));
    let condition = Hand::Know(format!(
        "the server takes it only where the record is as the lines `prereq` of {path} say; where it is not, and that is meant, put what \
         the first `dig` told into them"
    ));
    let hands = vec![
        key,
        Hand::Type(Line::of(ask)),
        condition,
        Hand::Type(Line::of(["nsupdate", "-v", "-k", KEY, &path])),
        Hand::Type(Line::of(ask)),
    ];
    MadeByHand { files: vec![Prepared { path, content: update(record, dns, before, wanted) }], hands }
}

/// The update that `nsupdate` sends: the record has exactly `wanted`, only if it has exactly `before` until then (RFC 2136, 2.4,
/// "Prerequisite Section").
pub fn update(
    record: &Record,
    dns: &DynamicDns,
    before: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
) -> String {
    let Record { name: record, kind, ttl } = record;
    let name = kind.as_str();
    let mut lines = vec![format!("server {} {}", dns.server, dns.port), format!("zone {}.", dns.zone)];
    if before.is_empty() {
        lines.push(format!("prereq nxrrset {record}. IN {name}"));
    }
    let before = before.iter();
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
    use crate::spec::{SecretRef, traffic::TsigAlgorithm};

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_update_holds_only_where_nothing_was_changed_since() {
        let record = Record { name: "www.example.org".to_owned(), kind: RecordKind::Cname, ttl: 60 };
        let dns = DynamicDns {
            zone: "example.org".to_owned(),
            server: "ns1.example.org".to_owned(),
            port: 53,
            key: "k".to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: SecretRef::File("/k".into()),
        };
        let head = "server ns1.example.org 53\nzone example.org.\n";
        let rest = "update delete www.example.org. CNAME\nupdate add www.example.org. 60 CNAME b.example.org.\nsend\n";
        let of = |before: &BTreeSet<String>| update(&record, &dns, before, &set(&["b.example.org"]));
        let found = "prereq yxrrset www.example.org. IN CNAME a.example.org.\n";
        assert_eq!(of(&set(&["a.example.org"])), format!("{head}{found}{rest}"));
        assert_eq!(of(&set(&[])), format!("{head}prereq nxrrset www.example.org. IN CNAME\n{rest}"));
    }
}
