//! Drills of etcd by the built program: a new cluster is made of the snapshot that came back.

use crate::{
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::etcd::{Etcd, PASSWORD},
};

#[test]
fn a_snapshot_is_drilled_by_a_new_member_that_serves_what_was_captured() {
    let server = Etcd::start();
    server.fill("key", 40, 500);
    server.run(&["del", "key7"]);
    let place = sandboxes();
    let fleet = fleet_in(&place);
    let source = format!("etcd = {{ endpoints = [\"{}\"] }}", server.url());
    let checks = "{ counts = \"captured\" }, { file = \"snapshot.db\", min_bytes = \"1KiB\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(checks)));
    fleet.expect(&["backup", "shop"], 0);
    server.run(&["del", "", "--from-key"]);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 3], "{json:#}");
    let finding = &json["drills"][0]["findings"][0];
    assert_eq!(
        (&finding["check"], &finding["found"]),
        (&"etcd".into(), &"a new member serves 39 keys".into())
    );
    // By the very lines that runbooks print.
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 0));
    assert_eq!(verdicts(&by_hand), ["passed"; 3], "{by_hand:#}");
    assert!(
        by_hand["drills"][0]["findings"][0]["found"].as_str().unwrap().contains("39 keys"),
        "{by_hand:#}"
    );
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn a_snapshot_with_users_is_drilled_by_a_member_that_asks_for_them() {
    let mut server = Etcd::start();
    server.fill("key", 4, 50);
    server.enable_authentication();
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let password = fleet.secret(PASSWORD);
    let source =
        format!("etcd = {{ endpoints = [\"{}\"], user = \"root\", password = {password} }}", server.url());
    fleet.declare("shop", &format!("{source}\n{}", drill("")));
    fleet.expect(&["backup", "shop"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"], "{json:#}");
    assert!(json["drills"][0]["findings"][0]["found"].as_str().unwrap().contains("4 keys"), "{json:#}");
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 0));
    assert!(by_hand["drills"][0]["findings"][0]["found"].as_str().unwrap().contains("4 keys"), "{by_hand:#}");
    assert_gone(place.path());
}
