//! A commit declares a etcd cluster, and the built program backs it up and brings it back.

use crate::lab::{
    etcd::{Etcd, PASSWORD},
    fleet::Fleet,
};

#[test]
fn a_commit_backs_up_a_cluster_that_comes_back_as_a_new_one() {
    let mut server = Etcd::start();
    server.fill("app/setting", 20, 2000);
    let everything = server.everything(0);
    server.enable_authentication();
    let mut fleet = Fleet::new();
    let password = fleet.secret(PASSWORD);
    let url = server.url();
    let source = format!("etcd = {{ endpoints = [\"{url}\"], user = \"root\", password = {password} }}");
    fleet.declare("settings", &source);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "settings", "--plaintext"], 0);

    server.run(&["del", "app/setting3"]);
    server.run(&["put", "app/other", "x"]);
    let told = fleet.expect(&["restore", "settings", "--in-place"], 0);
    assert!(told.contains("(20 keys)") && told.contains("users and roles are left out"), "{told}");
    let values = |all: &serde_json::Value| -> Vec<serde_json::Value> {
        all.as_array().unwrap().iter().map(|pair| serde_json::json!([pair["key"], pair["value"]])).collect()
    };
    assert_eq!(values(&server.everything(0)), values(&everything));
    let file = fleet.restored().join("snapshot.db");
    fleet.expect(&["restore", "settings", "--to", file.to_str().unwrap()], 0);
    // The users are in the snapshot as well.
    assert_eq!(Etcd::start_secured_on(&file).everything(0), everything);
}
