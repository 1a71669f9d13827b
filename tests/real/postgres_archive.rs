//! A PostgreSQL server that archives its log by `backstay wal-push`, and comes back by `backstay wal-fetch`.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    lab::{
        fleet::Fleet,
        postgres::{OWNER, PASSWORD, Postgres, USER},
        schedules,
    },
    postgres_wal::{sell, sold},
};

/// A command of the built program, as the server's settings name it.
fn command(fleet: &Fleet, arguments: &str) -> String {
    let (program, config) = (env!("CARGO_BIN_EXE_backstay"), fleet.config_file());
    format!("{program} {arguments} --config {}", config.display())
}

fn artifacts(fleet: &Fleet) -> Vec<Value> {
    let run = fleet.command(&["list", "cluster", "--output", "json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&run.stdout).unwrap();
    list["artifacts"].as_array().unwrap().clone()
}

fn capture_log(fleet: &Fleet) {
    fleet.expect(&["backup", "cluster", "--kind", "log", "--reason", "now"], 0);
    let all = artifacts(fleet);
    let newest = all.iter().max_by_key(|row| row["newest"].as_str().map(str::to_owned)).unwrap();
    assert!(newest["kind"] == "log" && !newest["goes_on_from"].is_null(), "the log has a gap: {newest}");
}

fn set(server: &Postgres, name: &str, value: &str) {
    server.sql("postgres", &format!("ALTER SYSTEM SET {name} = '{}'", value.replace('\'', "''")));
    server.sql("postgres", "SELECT pg_reload_conf()");
}

/// The complete segments in a folder, oldest first.
fn segments(folder: &std::path::Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = found.filter(|path| path.file_name().unwrap().len() == 24).collect();
    found.sort_unstable();
    found
}

#[test]
fn a_server_that_archives_its_log_needs_no_slot_and_recovers_by_what_was_archived() {
    let server = Postgres::start();
    server.sql("postgres", &format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {USER}"));
    set(&server, "archive_mode", "on");
    let data = server.data();
    let mut server = Postgres::start_on(server.stop(), &data);
    server.sql("postgres", "CREATE TABLE sale (id SERIAL PRIMARY KEY, what TEXT)");
    sell(&server, "before the full");

    let mut fleet = Fleet::new();
    let (port, password) = (server.port(), fleet.secret(PASSWORD));
    fleet.give_to(OWNER);
    let nightly = schedules::nightly();
    let declare = |fleet: &Fleet, log: &str| {
        let text = format!(
            "policy = \"transactional\"\npostgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{USER}\", \
             password = {password}, method = \"physical\", log_from = \"archive\" }}\n\
             [policy.transactional]\nrpo = \"48h\"\nfull = \"{nightly}\"\n{log}"
        );
        fleet.declare("cluster", &text);
    };
    let segment = segments(&data.join("pg_wal")).remove(0);
    let by_hand = |fleet: &Fleet, path: &std::path::Path, code| {
        fleet.expect(&["wal-push", "cluster", path.to_str().unwrap()], code)
    };
    let undeclared = by_hand(&fleet, &segment, 1);
    assert!(undeclared.contains("log_from = \"archive\""), "{undeclared}");
    declare(&fleet, "");
    fleet.expect(&["apply", "--yes"], 0);
    set(&server, "archive_command", &command(&fleet, "wal-push cluster %p"));
    declare(&fleet, &format!("log = \"{nightly}\"\n"));
    sell(&server, "in the first log");
    capture_log(&fleet);
    sell(&server, "in the second log");
    capture_log(&fleet);
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_replication_slots"), "0");

    let archive = fleet.state().join("readers/cluster/archive");
    let taken = segments(&archive).pop().expect("the newest stays");
    let again = data.join("pg_wal").join(taken.file_name().unwrap());
    by_hand(&fleet, &again, 0);
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join(taken.file_name().unwrap());
    let mut changed = fs::read(&taken).unwrap();
    changed[9_000_000] ^= 1;
    fs::write(&other, changed).unwrap();
    super::lab::postgres::open_to_all(folder.path());
    assert!(by_hand(&fleet, &other, 1).contains("another file of that name"));
    by_hand(&fleet, &folder.path().join("postgresql.conf"), 1);

    // The server dies: what it has archived is stored all the same.
    sell(&server, "archived before it died");
    let before = segments(&archive).len();
    server.sql("postgres", "SELECT pg_switch_wal()");
    super::lab::wait_until("it is archived", super::lab::READY, || segments(&archive).len() > before);
    server.kill();
    capture_log(&fleet);

    // Its full comes back by hand, and the log behind that by the server's own restore_command: from the stores.
    fs::remove_dir_all(fleet.state().join("readers")).unwrap();
    let full = artifacts(&fleet).into_iter().find(|row| row["kind"] == "full").unwrap();
    let to = fleet.restored().join("data");
    fleet.give_to(OWNER);
    let full = full["id"].as_str().or(full["artifact"].as_str()).unwrap().to_owned();
    fleet.expect(&["restore", "cluster", "--at", &full, "--to", &format!("{}/", to.display())], 0);
    let place = tempfile::tempdir().unwrap();
    let moved = place.path().join("data");
    fs::rename(&to, &moved).unwrap();
    let settings =
        format!("archive_mode = 'off'\nrestore_command = '{}'\n", command(&fleet, "wal-fetch cluster %f %p"));
    let file = moved.join("postgresql.auto.conf");
    fs::write(&file, fs::read_to_string(&file).unwrap() + &settings).unwrap();
    fs::write(moved.join("recovery.signal"), "").unwrap();
    let copy = Postgres::start_on(place, &moved);
    copy.wait_for("SELECT pg_is_in_recovery()", "f");
    let all = "before the full,in the first log,in the second log,archived before it died";
    assert_eq!(sold(&copy), all);
    let missing = fleet.expect(&["wal-fetch", "cluster", "0000000100000000000000FF", "/tmp/never"], 1);
    assert!(missing.contains("neither on this host nor in a store"), "{missing}");
}
