//! Drills by the built program: restores into sandboxes of real servers, and what is told of them.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
        schedules, wait_until,
    },
    postgres_wal::ready,
};

/// A folder for sandboxes that the servers' users can reach, whoever may look into the fleet's own.
pub fn sandboxes() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// A fleet that makes its sandboxes in `folder`.
pub fn fleet_in(folder: &TempDir) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}\"\n", folder.path().display()));
    fleet
}

pub fn drill(checks: &str) -> String {
    let yearly = schedules::yearly();
    format!("[drill.trial]\nbackup = \"shop\"\nschedule = \"{yearly}\"\ncheck = [{checks}]\n")
}

/// What a drill with `-o json` told.
pub fn told(text: &str) -> Value {
    let start = text.find("{\n").unwrap();
    let mut all = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    all.next().unwrap().unwrap()
}

pub fn verdicts(told: &Value) -> Vec<&str> {
    let findings = told["drills"][0]["findings"].as_array().unwrap();
    findings.iter().map(|finding| finding["verdict"].as_str().unwrap()).collect()
}

/// What was found where the rows were compared with those that were captured.
pub fn counted(told: &Value) -> &str {
    let findings = told["drills"][0]["findings"].as_array().unwrap();
    let counts = findings.iter().find(|finding| finding["check"] == "counts as captured");
    counts.unwrap()["found"].as_str().unwrap()
}

/// No sandbox is left but the gate of them all.
pub fn assert_gone(sandboxes: &Path) {
    let left: Vec<_> = fs::read_dir(sandboxes).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| name == ".gate"), "{left:?}");
}

/// Processes that know of a place by their arguments.
pub fn processes_of(place: &Path) -> Vec<String> {
    let place = place.display().to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| {
        let line = String::from_utf8_lossy(&fs::read(entry.path().join("cmdline")).ok()?).replace('\0', " ");
        let name = entry.file_name().to_string_lossy().into_owned();
        (name.parse::<u32>().ok()? != std::process::id() && line.contains(&place)).then_some(line)
    });
    lines.collect()
}

fn shop(server: &MariaDb) {
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY, what TEXT)");
    server.sql("USE shop; INSERT INTO sale SELECT seq, MD5(seq) FROM seq_1_to_5000");
}

fn source(fleet: &mut Fleet, server: &MariaDb) -> String {
    let (port, user) = (server.port(), mariadb::USER);
    let password = fleet.secret(mariadb::PASSWORD);
    format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{user}\", password = {password}, databases = [\"shop\"] }}"
    )
}

#[test]
fn a_database_of_mariadb_is_drilled_by_itself_and_on_demand_and_its_status_tells() {
    let server = MariaDb::start();
    shop(&server);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let source = source(&mut fleet, &server);
    let good = "{ counts = \"captured\" }, { sql = \"select count(*) from sale\", min = 5000, max = 5000 }, \
                { sql = \"select what from shop.sale where id = 1\", equals = \"c4ca4238a0b923820dcc509a6f75849b\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(good)));
    let planned = fleet.expect(&["status"], 4);
    assert!(planned.contains("never"), "{planned}");
    // The pass captures, and then makes the drill whose slot has no result.
    let done = fleet.expect(&["apply", "--yes"], 0);
    assert!(done.contains("drill trial"), "{done}");
    let status = fleet.expect(&["status"], 0);
    assert!(status.contains("passed"), "{status}");
    let again = fleet.expect(&["apply", "--yes"], 0);
    assert!(!again.contains("drill trial"), "its slot has a result: {again}");

    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(json["format"], "backstay.drill/1");
    assert_eq!(verdicts(&json), ["passed"; 4], "CHECK TABLE and the declared ones: {json:#}");
    assert_eq!(json["drills"][0]["outcome"], "passed");
    assert_eq!(counted(&json), "5000 rows in 1 tables, the same by their checksums");
    assert!(json["drills"][0]["rto_seconds"].is_u64(), "{json:#}");
    let stages = json["drills"][0]["stages"].as_array().unwrap();
    assert_eq!(
        stages.iter().map(|it| it["stage"].as_str().unwrap()).collect::<Vec<_>>(),
        ["prepare", "load", "verify"]
    );
    let dry = fleet.expect(&["drill", "trial", "--dry-run"], 0);
    assert!(dry.contains("drill trial: shop"), "{dry}");
    // With the kit's script and the engine's own client, as the runbook prints it.
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 0));
    assert_eq!(verdicts(&by_hand), ["passed"; 4], "{by_hand:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
    let records = fleet.stored_records();
    assert!(records.contains("\"drilled\""), "{records}");
    for secret in ["sale", "c4ca4238a0b923820dcc509a6f75849b", "select"] {
        assert!(!records.contains(secret), "{secret} stands in clear in the records");
    }
}

#[test]
fn a_check_that_does_not_hold_fails_and_what_it_asks_can_do_nothing_but_read() {
    let server = MariaDb::start();
    shop(&server);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let source = source(&mut fleet, &server);
    let witness = place.path().join("witness");
    let bad = format!(
        "{{ counts = \"captured\" }}, {{ sql = \"select count(*) from sale\", min = 5001 }}, \
         {{ sql = \"select what from sale where id = 2\", equals = \"another\" }}, \
         {{ sql = \"\\\\! touch {0}\", equals = \"\" }}, {{ sql = \"delete from sale\", equals = \"\" }}, \
         {{ sql = \"select 1 into outfile '{0}'\", equals = \"1\" }}",
        witness.display()
    );
    fleet.declare("shop", &format!("{source}\n{}", drill(&bad)));
    let failed = fleet.expect(&["apply", "--yes"], 7);
    assert!(failed.contains("5 of 7 checks failed"), "{failed}");
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(
        verdicts(&json),
        ["passed", "passed", "failed", "failed", "failed", "failed", "failed"],
        "{json:#}"
    );
    assert_eq!(json["drills"][0]["findings"][2]["found"], "5000");
    assert!(!witness.exists(), "a check ran a program or wrote a file");
    let status = fleet.expect(&["status"], 4);
    assert!(status.contains("5 of 7 checks failed"), "{status}");
    let json = told(&fleet.expect(&["status", "-o", "json"], 4));
    assert!(
        json["conditions"].as_array().unwrap().iter().any(|it| it["concern"] == "drill-failed"),
        "{json:#}"
    );
    assert_gone(place.path());
    let unknown = fleet.expect(&["drill", "trail"], 1);
    assert!(unknown.contains("did you mean `trial`?"), "{unknown}");
}

#[test]
fn a_drill_that_can_not_be_made_is_no_pass() {
    let server = MariaDb::start();
    shop(&server);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let source = source(&mut fleet, &server);
    fleet.declare("shop", &format!("{source}\n{}", drill("{ counts = \"captured\" }")));
    fleet.expect(&["apply", "--yes"], 0);
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}/a/b\"\n", place.path().display()));
    let told = fleet.expect(&["drill", "trial"], 7);
    assert!(told.contains("could not run") && told.contains("drills.sandbox"), "{told}");
    let status = fleet.expect(&["status"], 4);
    assert!(status.contains("could not run"), "{status}");
}

#[test]
fn a_controller_that_is_killed_leaves_no_server_and_the_next_drill_no_sandbox() {
    let server = MariaDb::start();
    shop(&server);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let source = source(&mut fleet, &server);
    let slow = "{ sql = \"select count(*) from sale a, sale b, sale c, sale d\", min = 1 }";
    fleet.declare("shop", &format!("{source}\n{}", drill(slow)));
    fleet.expect(&["backup", "shop"], 0);
    let mut running =
        fleet.command(&["drill", "trial"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let longest = Duration::from_secs(60);
    let servers = || processes_of(place.path()).into_iter().filter(|line| line.contains("mariadbd")).count();
    wait_until("the sandbox's server asks", longest, || servers() > 0 && has_socket(place.path()));
    running.kill().unwrap();
    running.wait().unwrap();
    wait_until("its server is gone", longest, || servers() == 0);
    fleet.declare("shop", &format!("{source}\n{}", drill("{ counts = \"captured\" }")));
    fleet.expect(&["drill", "trial"], 0);
    assert_gone(place.path());
}

fn has_socket(place: &Path) -> bool {
    fs::read_dir(place).unwrap().flatten().any(|sandbox| sandbox.path().join("m.sock").exists())
}

#[test]
fn databases_of_postgresql_are_drilled_in_a_server_of_their_own() {
    let server = Postgres::start();
    server.sql("postgres", "CREATE ROLE seller");
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql(
        "shop",
        "CREATE TABLE sale AS SELECT n AS id, md5(n::text) AS what FROM generate_series(1, 5000) n",
    );
    server.sql("shop", "ALTER TABLE sale OWNER TO seller; GRANT SELECT ON sale TO seller");
    server.sql("postgres", &format!("ALTER ROLE {} SUPERUSER", postgres::USER));
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    let source = |databases: &str| {
        format!(
            "postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}{databases} }}",
            postgres::USER
        )
    };
    let witness = place.path().join("witness");
    let checks = format!(
        "{{ counts = \"captured\" }}, {{ sql = \"select count(*) from sale\", database = \"shop\", min = 5000 }}, \
         {{ sql = \"\\\\! touch {0}\", equals = \"\" }}, {{ sql = \"copy (select 1) to program 'touch {0}'\", equals = \"\" }}",
        witness.display()
    );
    for databases in [", databases = [\"shop\"]", ""] {
        fleet.declare("shop", &format!("{}\n{}", source(databases), drill(&checks)));
        fleet.expect(&["backup", "shop"], 0);
        let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
        assert_eq!(
            verdicts(&json),
            ["passed", "passed", "passed", "failed", "failed"],
            "pg_amcheck first: {json:#}"
        );
        assert!(!witness.exists(), "a check ran a program");
    }
    assert_gone(place.path());
}

#[test]
fn a_cluster_is_drilled_to_the_second_that_is_asked_for() {
    let server = Postgres::start();
    ready(&server);
    server.sql("postgres", "CREATE TABLE sale (what TEXT); INSERT INTO sale VALUES ('before the full')");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    let source = format!(
        "policy = \"transactional\"\npostgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, \
         method = \"physical\" }}\n{}",
        postgres::USER,
        schedules::with_log("transactional")
    );
    let expecting =
        |sales: u32| drill(&format!("{{ sql = \"select count(*) from sale\", equals = \"{sales}\" }}"));
    fleet.declare("shop", &format!("{source}\n{}", expecting(2)));
    fleet.expect(&["backup", "shop"], 0);
    server.sql("postgres", "INSERT INTO sale VALUES ('in the log')");
    let second = server.next_second().to_string();
    server.sql("postgres", "DROP TABLE sale");
    fleet.expect(&["backup", "shop", "--kind", "log"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "--at", &second, "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 3], "pg_verifybackup, pg_amcheck and the declared one: {json:#}");
    // The newest moment is after the table was dropped.
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["passed", "passed", "failed"], "{json:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn files_are_drilled_in_a_folder() {
    let place = sandboxes();
    let fleet = fleet_in(&place);
    let data = fleet.readable();
    fs::write(data.join("ledger"), "abc").unwrap();
    let path = data.join("ledger").display().to_string();
    let inner = path.trim_start_matches('/');
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let checks = format!("{{ file = \"{inner}\", min_bytes = \"3B\", sha256 = \"{sum}\" }}");
    let source = format!("files = {{ paths = [\"{}\"] }}", data.display());
    fleet.declare("shop", &format!("{source}\n{}", drill(&checks)));
    fleet.expect(&["apply", "--yes"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"], "{json:#}");
    fs::write(data.join("ledger"), "abcd").unwrap();
    fleet.expect(&["backup", "shop"], 0);
    fleet.expect(&["drill", "trial"], 7);
    assert_gone(place.path());
}
