//! Networks that break between the controller and a server: nothing half counts, and what is made afterwards is whole.

use std::time::Duration;

use backstay::{
    sources::{CaptureRequest, Source},
    stores::Class,
};
use serde_json::Value;

use crate::{
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        proxy::{Break, Proxy},
        schedules,
    },
    source_conformance::{Collected, request},
};

/// Bytes of a server's answers before its way breaks: behind the beginning of a dump, before its end.
const INTO_THE_DUMP: u64 = 2_000_000;

fn mysql(fleet: &mut Fleet, port: u16, rest: &str) -> String {
    let password = fleet.secret(mariadb::PASSWORD);
    let user = mariadb::USER;
    format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", password = {password}{rest} }}"
    )
}

fn postgres(fleet: &mut Fleet, port: u16, rest: &str) -> String {
    let password = fleet.secret(postgres::PASSWORD);
    let user = postgres::USER;
    format!(
        "postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", password = {password}{rest} }}"
    )
}

fn maria() -> MariaDb {
    let server = MariaDb::start();
    server.sql(
        "CREATE DATABASE shop; CREATE TABLE shop.photo (id INT PRIMARY KEY AUTO_INCREMENT, photo LONGBLOB)",
    );
    server.sql("INSERT INTO shop.photo (photo) SELECT RANDOM_BYTES(1024) FROM mysql.help_topic LIMIT 700");
    for _ in 0..3 {
        server.sql("INSERT INTO shop.photo (photo) SELECT CONCAT(photo, RANDOM_BYTES(1024)) FROM shop.photo");
    }
    server
}

fn artifacts(fleet: &Fleet) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&fleet.expect(&["list", "shop", "-o", "json"], 0)).unwrap();
    listed["artifacts"].as_array().expect("a list").clone()
}

/// A capture through a way that breaks in its middle leaves nothing that counts; one after it is whole.
fn breaks_and_is_made_anew(proxy: &Proxy, fleet: &Fleet, source: &str) {
    fleet.declare("shop", source);
    proxy.break_after(INTO_THE_DUMP, Break::Cut);
    let told = fleet.expect(&["apply", "--yes"], 4);
    assert!(proxy.is_broken(), "the capture was too short to be broken");
    assert!(told.contains("shop"), "{told}");
    assert_eq!(artifacts(fleet), Vec::<Value>::new());
    proxy.mend();
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(artifacts(fleet).len(), 1);
    fleet.expect(&["verify", "shop", "--plaintext"], 0);
}

#[test]
fn a_dump_of_mariadb_whose_network_is_cut_is_no_artifact() {
    let server = maria();
    let (proxy, mut fleet) = (Proxy::to(server.port()), Fleet::new());
    let source = mysql(&mut fleet, proxy.port(), ", databases = [\"shop\"]");
    breaks_and_is_made_anew(&proxy, &fleet, &source);
}

fn photos() -> Postgres {
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE photo AS SELECT n, string_agg(md5(random()::text), '') AS photo \
         FROM generate_series(1, 2000) n, generate_series(1, 64) m GROUP BY n",
    );
    server
}

#[test]
fn a_dump_and_a_copy_of_postgresql_whose_network_is_cut_are_no_artifacts() {
    let server = photos();
    for method in [", databases = [\"shop\"]", ", method = \"physical\""] {
        let (proxy, mut fleet) = (Proxy::to(server.port()), Fleet::new());
        let source = postgres(&mut fleet, proxy.port(), method);
        breaks_and_is_made_anew(&proxy, &fleet, &source);
    }
}

#[test]
fn a_log_whose_network_is_cut_goes_on_without_a_gap() {
    let server = maria();
    server.sql(&format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* TO {}@'127.0.0.1'", mariadb::USER));
    server.sql(&format!("GRANT REPLICATION SLAVE ON *.* TO {}@'127.0.0.1'", mariadb::USER));
    let (proxy, mut fleet) = (Proxy::to(server.port()), Fleet::new());
    let source = mysql(&mut fleet, proxy.port(), "");
    fleet.declare(
        "shop",
        &format!("policy = \"transactional\"\n{source}\n{}", schedules::with_log("transactional")),
    );
    fleet.expect(&["apply", "--yes"], 0);
    let before = artifacts(&fleet).len();
    server.sql("INSERT INTO shop.photo (photo) SELECT photo FROM shop.photo");
    proxy.break_after(INTO_THE_DUMP, Break::Cut);
    let log = ["backup", "shop", "--kind", "log", "--reason", "now"];
    fleet.expect(&log, 4);
    assert!(proxy.is_broken(), "the log was too short to be broken");
    assert_eq!(artifacts(&fleet).len(), before, "half a log counts");
    proxy.mend();
    fleet.expect(&log, 0);
    let all = artifacts(&fleet);
    assert_eq!(all.len(), before + 1);
    let newest = all.iter().max_by_key(|row| row["newest"].as_str().map(str::to_owned)).unwrap();
    assert_eq!(newest["kind"], "log");
    assert!(!newest["goes_on_from"].is_null(), "the log has a gap: {newest}");
    let status = fleet.expect(&["status", "shop"], 0);
    assert!(status.contains("any second of"), "{status}");
}

#[tokio::test]
async fn a_network_that_falls_silent_fails_the_capture_once_it_was_silent_for_too_long() {
    let server = photos();
    let proxy = Proxy::to(server.port());
    let source = Postgres::cluster_at(proxy.port(), None);
    proxy.break_after(INTO_THE_DUMP, Break::Silent);
    let request = CaptureRequest { stall: Duration::from_secs(2), ..request() };
    let error = source.capture(&request, &mut Collected::default()).await.unwrap_err();
    assert!(proxy.is_broken(), "the capture was too short to be broken");
    assert!(error.class == Class::Retry && error.to_string().contains("silent"), "{error}");
}
