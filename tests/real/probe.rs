//! Probes: what a real server says is missing is exactly what makes captures possible.

use std::collections::BTreeSet;

use backstay::{artifact::Kind, diagnostic::Severity, sources::Source};
use serde_json::Value;

use crate::lab::{
    fleet::Fleet,
    mariadb::{self, MariaDb},
    postgres::{self, Postgres},
};

const KINDS: [Kind; 2] = [Kind::Full, Kind::Log];

async fn remedies(source: &dyn Source, kinds: &[Kind], severity: Severity) -> Vec<String> {
    let kinds: BTreeSet<Kind> = kinds.iter().copied().collect();
    let lacks = source.lacks(&kinds).await.expect("the server answers");
    lacks.into_iter().filter(|lack| lack.severity == severity).map(|lack| lack.remedy).collect()
}

#[tokio::test]
async fn what_a_user_of_mariadb_lacks_is_what_its_remedies_grant() {
    let server = MariaDb::start();
    let user = format!("{}@'127.0.0.1'", mariadb::USER);
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT)");
    assert!(remedies(&server.source(&["shop"]), &[Kind::Full], Severity::Error).await.is_empty());
    server.sql(&format!("REVOKE ALL PRIVILEGES, GRANT OPTION FROM {user}"));
    let source = server.source(&[]);
    let errors = remedies(&source, &KINDS, Severity::Error).await;
    assert!(errors.iter().any(|remedy| remedy.contains("REPLICATION SLAVE")), "{errors:?}");
    let warnings = remedies(&source, &KINDS, Severity::Warning).await;
    let routines = format!("GRANT SELECT ON mysql.proc TO '{}'@'127.0.0.1';", mariadb::USER);
    assert!(warnings.contains(&routines), "{warnings:?}");
    for remedy in errors {
        server.sql(&remedy);
    }
    assert!(remedies(&source, &KINDS, Severity::Error).await.is_empty());
    crate::source_conformance::captured(&source).await;
}

#[tokio::test]
async fn what_a_log_of_postgresql_lacks_is_what_its_remedies_give() {
    let server = Postgres::start();
    let source = server.cluster();
    assert!(remedies(&source, &[Kind::Full], Severity::Error).await.is_empty());
    let errors = remedies(&source, &KINDS, Severity::Error).await;
    assert_eq!(errors.len(), 2, "{errors:?}");
    for remedy in errors {
        // Each of its own: ALTER SYSTEM runs in no transaction.
        let remedy = remedy.trim_start_matches("in database postgres: ").to_owned();
        remedy.split_inclusive(';').for_each(|statement| drop(server.sql("postgres", statement)));
    }
    server.wait_for("SHOW max_slot_wal_keep_size", "10GB");
    assert!(remedies(&source, &KINDS, Severity::Error).await.is_empty());
}

#[test]
fn the_program_asks_every_source_before_the_first_capture() {
    let (maria, postgres) = (MariaDb::start(), Postgres::start());
    maria.sql(&format!("REVOKE RELOAD ON *.* FROM {}@'127.0.0.1'", mariadb::USER));
    let mut fleet = Fleet::new();
    let (one, other) = (fleet.secret(mariadb::PASSWORD), fleet.secret(postgres::PASSWORD));
    let server = |engine: &str, port: u16, user: &str, password: &str, databases: &str| {
        format!(
            "{engine} = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", password = {password}, databases = [{databases}] }}"
        )
    };
    fleet.declare("shop", &server("mysql", maria.port(), mariadb::USER, &one, "\"shop\""));
    fleet.declare("orders", &server("postgres", postgres.port(), postgres::USER, &other, ""));
    fleet.declare("gone", &server("postgres", 1, postgres::USER, &other, ""));
    let told: Value = serde_json::from_str(&fleet.expect(&["probe", "-o", "json"], 4)).unwrap();
    assert_eq!(told["format"], "backstay.probe/1");
    let of = |name: &str| {
        let probes = told["probes"].as_array().unwrap();
        probes.iter().find(|probe| probe["backup"] == name).unwrap_or_else(|| panic!("{told}")).clone()
    };
    assert_eq!(of("orders")["answer"], "reached");
    assert!(of("orders")["version"].as_str().unwrap().contains("PostgreSQL"));
    assert_eq!(of("gone")["answer"], "failed");
    assert_eq!(of("shop")["lacks"][0]["remedy"], "GRANT RELOAD ON *.* TO 'backup'@'127.0.0.1';");
    let text = fleet.expect(&["probe", "shop"], 0);
    assert!(text.contains("GRANT RELOAD ON *.*") && text.contains("warning"), "{text}");
    let unknown = fleet.expect(&["probe", "shp"], 1);
    assert!(unknown.contains("did you mean `shop`?"), "{unknown}");
}
