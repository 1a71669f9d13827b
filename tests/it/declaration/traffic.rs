//! `[traffic.NAME]` and the steps that switch it.

use super::*;
use backstay::spec::{
    RecoveryAction, RecoveryStage,
    traffic::{Forwards, LedBy, Side},
};

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
    assert_eq!((declared.what(), declared.zone()), ("www.example.org", Some("example.org")));
    let LedBy::Dns(record, server) = &declared.led_by else { panic!("{declared:?}") };
    assert_eq!((record.ttl, server.port), (60, 53));
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

const GROUP: &str = "arn:aws:elasticloadbalancing:eu-north-1:123456789012:targetgroup";
const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-north-1:123456789012:listener/app/web/01/02";

fn by_route53(record: &str, more: &str) -> String {
    format!(
        "{NIGHTLY}[traffic.www]\n{record}primary = [\"192.0.2.1\"]\nstandby = [\"192.0.2.2\"]\n\
         route53 = {{ zone = \"example.org\", id = \"/hostedzone/Z123\"{more} }}\n"
    )
}

fn by_balancer(primary: &str, standby: &str, more: &str) -> String {
    format!("{NIGHTLY}[traffic.www]\nprimary = [{primary}]\nstandby = [{standby}]\n{more}\n")
}

#[test]
fn a_record_of_route_53_is_declared_as_any_other() {
    let parsed = with(&by_route53("record = \"WWW.example.org.\"\n", ""));
    assert_eq!(parsed.diagnostics, []);
    let declared = &parsed.spec.unwrap().traffic["www"];
    let LedBy::Route53(record, zone) = &declared.led_by else { panic!("{declared:?}") };
    assert_eq!((record.name.as_str(), zone.id.as_str()), ("www.example.org", "Z123"));
    assert_eq!((declared.zone(), zone.reach.region.as_str()), (Some("example.org"), "us-east-1"));
    let record = "record = \"www.example.org\"\n";
    for (text, code) in [
        (by_route53("", ""), "missing-key"),
        (by_route53("record = \"www.example.net\"\n", ""), "record-outside-zone"),
        (by_route53(record, "").replace("Z123", "Z1/../2"), "bad-value"),
        (by_route53(record, ", access_key_id = { file = \"/k\" }"), "missing-key"),
        (by_route53(record, "") + DNS, "choose-one"),
    ] {
        let codes = found_codes(&text);
        assert!(codes.contains(&code), "{text}\n{codes:?}");
    }
}

#[test]
fn a_load_balancer_leads_to_one_target_group_of_its_own_region() {
    let (a, b) = (format!("\"{GROUP}/a/01\""), format!("\"{GROUP}/b/02\""));
    let listener = format!("load_balancer = {{ listener = \"{LISTENER}\" }}");
    let parsed = with(&by_balancer(&a, &b, &listener));
    assert_eq!(parsed.diagnostics, []);
    let declared = &parsed.spec.unwrap().traffic["www"];
    let LedBy::LoadBalancer(balancer) = &declared.led_by else { panic!("{declared:?}") };
    assert_eq!(
        (&balancer.forwards, balancer.reach.region.as_str()),
        (&Forwards::Listener(LISTENER.to_owned()), "eu-north-1")
    );
    assert_eq!((declared.what(), declared.zone()), (LISTENER, None));
    let rule = LISTENER.replace(":listener/", ":listener-rule/") + "/03";
    for (text, code) in [
        (by_balancer(&a, &a, &listener), "traffic-goes-nowhere"),
        (by_balancer(&format!("{a}, {b}"), &b, &listener), "bad-value"),
        (by_balancer(&a, &b.replace("eu-north-1", "eu-west-1"), &listener), "bad-value"),
        (by_balancer(&a, "\"192.0.2.1\"", &listener), "bad-value"),
        (by_balancer(&a, &b, &format!("record = \"www.example.org\"\n{listener}")), "bad-value"),
        (by_balancer(&a, &b, &listener.replace(LISTENER, &rule)), "bad-value"),
        (by_balancer(&a, &b, "load_balancer = {}"), "choose-one"),
    ] {
        let codes = found_codes(&text);
        assert!(codes.contains(&code), "{text}\n{codes:?}");
    }
}
