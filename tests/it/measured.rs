//! What the controller measured, where a declaration is checked: `validate --measured` and `plan --against … --measured`.

use std::fs;

use crate::checkout::{Checkout, declaration};

/// A drill of `orders` that took 71 minutes, as a status of `NOW` tells it.
const STATUS: &str = r#"{"format": "backstay.status/1", "fleet": "shop", "at": "NOW", "backups": {"orders": {}, "infra": {}},
    "drills": {"orders": {"backup": "orders", "last": {"began": "2026-11-20T04:00:00Z", "rto_seconds": 4260},
                          "last_passed": "2026-11-20T04:00:00Z", "estimate": null}}}"#;

fn promising(rto: &str) -> String {
    declaration("30d").replace("rpo = \"26h\"\n", &format!("rpo = \"26h\"\nrto = \"{rto}\"\n"))
}

fn measured(status: &str) -> Checkout {
    let checkout = Checkout::new();
    let now = jiff::Timestamp::now().to_string();
    fs::write(checkout.beside("status.json"), status.replace("NOW", &now)).unwrap();
    checkout.write(&promising("2h"));
    checkout.commit("Promise two hours");
    checkout.git(&["push", "--quiet", "origin", "main"]);
    checkout
}

#[test]
fn validate_warns_at_the_promise_that_a_drill_missed() {
    let checkout = measured(STATUS);
    let validate =
        ["validate", "backup", "--measured", "../status.json", "--fail-on", "warning", "--format", "github"];
    checkout.run(&validate, 0);
    checkout.write(&promising("1h"));
    let told = checkout.run(&validate, 11);
    let line = promising("1h").lines().position(|line| line.starts_with("rto =")).unwrap() + 1;
    assert!(told.starts_with(&format!("::warning file=backup/fleet.toml,line={line},")), "{told}");
    for part in
        ["rto-missed-in-drill", "took 1h 11m until the data of backup `orders` could be used; its RTO is 1h"]
    {
        assert!(told.contains(part), "{told}");
    }
    checkout.run(&["validate", "backup", "--fail-on", "warning"], 0);
}

#[test]
fn a_review_tells_what_the_change_puts_in_doubt_and_nothing_that_stood_before() {
    let checkout = measured(STATUS);
    let review = ["plan", "backup", "--against", "origin/main", "--measured", "../status.json"];
    checkout.write(&promising("1h"));
    let told = checkout.run(&review, 10);
    assert!(told.contains("new warning[rto-missed-in-drill]"), "{told}");
    checkout.commit("Promise one hour");
    checkout.git(&["push", "--quiet", "origin", "main"]);
    assert!(!checkout.run(&review, 0).contains("rto-missed"));
    checkout.write(&promising("2h"));
    assert!(checkout.run(&review, 10).contains("resolved warning[rto-missed-in-drill]"));
}

#[test]
fn measurements_that_are_old_are_told_with_their_age() {
    let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * 9 + 5);
    let checkout = measured(&STATUS.replace("NOW", &then.to_string()));
    let validate = ["validate", "backup", "--measured", "../status.json", "--fail-on", "warning"];
    let told = checkout.run(&validate, 11);
    assert!(told.contains("measured-stale") && told.contains("9days 5h") && told.contains("ago"), "{told}");
    let review = ["plan", "backup", "--against", "origin/main", "--measured", "../status.json"];
    let reviewed = checkout.backstay(&review);
    let said = String::from_utf8(reviewed.stderr).unwrap();
    assert!(reviewed.status.code() == Some(0) && said.contains("9days 5h"), "{said}");
    let undated = STATUS.replace("\"at\": \"NOW\", ", "");
    fs::write(checkout.beside("status.json"), undated).unwrap();
    assert!(checkout.run(&validate, 1).contains("missing field `at`"));
}

#[test]
fn what_is_no_status_of_this_fleet_is_refused() {
    let checkout = measured(&STATUS.replace("\"shop\"", "\"pavroto\""));
    let validate = ["validate", "backup", "--measured", "../status.json"];
    assert!(checkout.run(&validate, 1).contains("is of fleet pavroto"));
    for (text, why) in
        [("no json", "no JSON of Backstay's"), (r#"{"format": "backstay.fleets/1"}"#, "backstay.fleets/1")]
    {
        fs::write(checkout.beside("status.json"), text).unwrap();
        assert!(checkout.run(&validate, 1).contains(why));
    }
    fs::remove_file(checkout.beside("status.json")).unwrap();
    assert!(checkout.run(&validate, 1).contains("../status.json"));
}
