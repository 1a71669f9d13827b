//! `[traffic.NAME]` and the steps that switch it.

use super::*;
use backstay::spec::{RecoveryAction, RecoveryStage, traffic::Side};

const DNS: &str = "dns = { zone = \"Example.org.\", server = \"ns1.example.org\", key = { name = \"k\", secret = { file = \"/k\" } } }\n";

fn traffic(record: &str, primary: &str, standby: &str, more: &str) -> String {
    format!(
        "{NIGHTLY}[traffic.www]\nrecord = \"{record}\"\nprimary = [{primary}]\nstandby = [{standby}]\n{more}{DNS}"
    )
}

fn switching(to: &str) -> String {
    let steps = format!("[recovery.away]\nsteps = [{{ switch = \"www\"{to} }}, {{ restore = \"agama\" }}]\n");
    traffic("WWW.example.org", "\"192.0.2.1\"", "\"192.0.2.2\"", "") + &steps
}

#[test]
fn a_switch_comes_last_and_names_are_those_of_dns() {
    let parsed = with(&switching(", to = \"standby\""));
    assert_eq!(parsed.diagnostics, []);
    let spec = parsed.spec.unwrap();
    let declared = &spec.traffic["www"];
    assert_eq!((declared.record.as_str(), declared.dns.zone.as_str()), ("www.example.org", "example.org"));
    assert_eq!((declared.ttl, declared.dns.port), (60, 53));
    let recovery = &spec.recoveries["away"];
    let RecoveryAction::Switch(switch) = &recovery.steps[0].action else { panic!("{:?}", recovery.steps) };
    assert_eq!(switch.to, Side::Standby);
    assert_eq!(recovery.steps[0].action.stage(&spec), RecoveryStage::Traffic);
    assert_eq!(recovery.waits(&spec)[0].iter().collect::<Vec<_>>(), [&1], "data comes back before users do");
}

#[test]
fn what_leads_nowhere_or_would_mean_more_than_a_value_is_refused() {
    let one = "\"192.0.2.1\"";
    for (text, code) in [
        (traffic("www.example.net", one, "\"192.0.2.2\"", ""), "record-outside-zone"),
        (traffic("badexample.org", one, "\"192.0.2.2\"", ""), "record-outside-zone"),
        (traffic("www.example.org", one, one, ""), "traffic-goes-nowhere"),
        (traffic("www.example.org", one, "\"elsewhere.example.org\"", ""), "bad-value"),
        (traffic("a b.example.org", one, "\"192.0.2.2\"", ""), "invalid-value"),
        (traffic("a..example.org", one, "\"192.0.2.2\"", ""), "bad-value"),
        (traffic("www.example.org", one, "", ""), "empty-list"),
        (traffic("www.example.org", "\"a.org\", \"b.org\"", "\"c.org\"", "type = \"CNAME\"\n"), "bad-value"),
        (switching(""), "missing-key"),
        (switching(", to = \"elsewhere\""), "invalid-value"),
        (switching(", to = \"standby\"").replace("switch = \"www\"", "switch = \"ww\""), "unknown-name"),
    ] {
        let codes = found_codes(&text);
        assert!(codes.contains(&code), "{text}\n{codes:?}");
    }
}
