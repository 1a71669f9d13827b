//! What a program in a sandbox can reach, by the built program: its data, and nothing of the host.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    drill::{assert_gone, drill, processes_of, sandboxes, told, verdicts},
    lab::{
        fleet::Fleet,
        mariadb::{self, MariaDb},
        postgres::{self, Postgres},
    },
};

/// Tries to reach what is none of its business. Its arguments: a file of the host's, and a port that something listens on.
const TRESPASS: &str = r#"#!/bin/bash
[ "$(find "$BACKSTAY_FILES" -name ledger -exec cat {} +)" = abc ] || { echo "the data can't be read"; exit 1; }
[ "$(id -u)" != 0 ] || { echo "it is root"; exit 1; }
touch "$BACKSTAY_SANDBOX/mark" || { echo "its own folder can't be written to"; exit 1; }
if (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null; then echo "the network is reached"; exit 1; fi
if cat "$1" >/dev/null 2>&1; then echo "the host's files are read"; exit 1; fi
if [ -e /etc/shadow ] || [ -e /root ] || [ -e /home ]; then echo "the host is seen"; exit 1; fi
if touch /usr/lib/backstay-mark 2>/dev/null; then echo "the system is written to"; exit 1; fi
[ "$(ls -d /proc/[0-9]* | wc -l)" -lt 10 ] || { echo "other processes are seen"; exit 1; }
echo "nothing is reached"
"#;

/// A user without rights.
const NOBODY: u32 = 65534;

fn program(folder: &TempDir, name: &str, script: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn configure(fleet: &mut Fleet, place: &Path, isolation: &str) {
    fleet.configure(&format!("\n[drills]\nsandbox = \"{}\"\nisolation = \"{isolation}\"\n", place.display()));
}

/// A fleet with a file, whose drill runs `check`.
fn ledger(place: &TempDir, check: &Path, arguments: &[&str]) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.allow_run(check);
    configure(&mut fleet, place.path(), "auto");
    fs::write(fleet.readable().join("ledger"), "abc").unwrap();
    let source = format!("files = {{ paths = [\"{}\"] }}", fleet.readable().display());
    let words: Vec<String> = std::iter::once(check.display().to_string())
        .chain(arguments.iter().map(|word| (*word).to_owned()))
        .map(|word| format!("\"{word}\""))
        .collect();
    fleet
        .declare("shop", &format!("{source}\n{}", drill(&format!("{{ command = [{}] }}", words.join(", ")))));
    fleet.expect(&["backup", "shop"], 0);
    fleet
}

#[test]
fn a_program_behind_walls_reaches_its_data_and_neither_network_nor_host() {
    let (place, own) = (sandboxes(), sandboxes());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let secret = program(&own, "secret", "everybody may read this");
    let check = program(&own, "trespass", TRESPASS);
    let mut fleet = ledger(&place, &check, &[secret.to_str().unwrap(), &port]);
    for isolation in ["auto", "bubblewrap"] {
        configure(&mut fleet, place.path(), isolation);
        let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
        assert_eq!(json["drills"][0]["findings"][0]["found"], "exit status 0: nothing is reached");
        assert_eq!(json["drills"][0]["isolation"], "bubblewrap");
    }
    let text = fleet.expect(&["drill", "trial"], 0);
    assert!(text.contains("bubblewrap"), "{text}");
    // Without them the same program gets out, and the result says that there were none.
    configure(&mut fleet, place.path(), "none");
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(json["drills"][0]["findings"][0]["found"], "exit status 1: the network is reached");
    assert_eq!(json["drills"][0]["isolation"], "none");
    assert_gone(place.path());
    assert!(fleet.stored_records().contains("\"isolation\""));
}

#[test]
fn a_controller_without_rights_walls_its_programs_in_as_well() {
    let (place, own) = (sandboxes(), sandboxes());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let secret = program(&own, "secret", "everybody may read this");
    let check = program(&own, "trespass", TRESPASS);
    let mut fleet = ledger(&place, &check, &[secret.to_str().unwrap(), &port]);
    if rustix::process::geteuid().is_root() {
        // What was made in it as root is no affair of the user's.
        fs::remove_dir_all(place.path()).unwrap();
        fs::create_dir(place.path()).unwrap();
        std::os::unix::fs::chown(place.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        fleet.give_to(NOBODY);
    }
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(json["drills"][0]["findings"][0]["found"], "exit status 0: nothing is reached");
    assert_eq!(json["drills"][0]["isolation"], "bubblewrap");
    assert_gone(place.path());
}

#[test]
fn where_bubblewrap_does_not_work_a_drill_that_asks_for_it_could_not_run() {
    let (place, own) = (sandboxes(), sandboxes());
    let check = program(&own, "check", "#!/bin/sh\nexit 0\n");
    let mut fleet = ledger(&place, &check, &[]);
    program(&own, "bwrap", "#!/bin/sh\necho no namespaces >&2\nexit 1\n");
    let path = format!("{}:{}", own.path().display(), std::env::var("PATH").unwrap());
    let without = [("PATH", path)];
    let json = told(&fleet.expect_with(&without, &["drill", "trial", "-o", "json"], 0));
    let walls = if rustix::process::geteuid().is_root() { "network" } else { "none" };
    assert_eq!(json["drills"][0]["isolation"], walls);
    configure(&mut fleet, place.path(), "bubblewrap");
    let json = told(&fleet.expect_with(&without, &["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["could-not-run"], "{json:#}");
    let why = json["drills"][0]["findings"][0]["found"].as_str().unwrap();
    assert!(why.contains("drills.isolation") && why.contains("no namespaces"), "{why}");
}

#[test]
fn a_program_fails_by_its_exit_status_and_in_time_and_only_what_the_host_allows_is_run() {
    let (place, own) = (sandboxes(), sandboxes());
    let check =
        program(&own, "check", "#!/bin/sh\necho looks; echo 3 accounts are out of balance >&2; exit 3\n");
    let fleet = ledger(&place, &check, &[]);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["failed"], "{json:#}");
    assert_eq!(
        json["drills"][0]["findings"][0]["found"],
        "exit status 3: looks; 3 accounts are out of balance"
    );
    let source = format!("files = {{ paths = [\"{}\"] }}", fleet.readable().display());
    fleet.declare("shop", &format!("{source}\n{}", drill("{ command = [\"/usr/bin/true\"] }")));
    let refused = fleet.expect(&["drill", "trial"], 1);
    assert!(refused.contains("/usr/bin/true") && refused.contains("`run` in [allow]"), "{refused}");
    program(&own, "check", "#!/bin/sh\nsleep 600\n");
    let endless = format!("{{ command = [\"{}\"], timeout = \"1s\" }}", check.display());
    fleet.declare("shop", &format!("{source}\n{}", drill(&endless)));
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["failed"], "{json:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}

#[test]
fn a_program_asks_the_server_of_its_sandbox_by_what_its_environment_tells() {
    let (place, own) = (sandboxes(), sandboxes());
    let ask = "#!/bin/sh\nset -e\ncount=$(mariadb --no-defaults --user=\"$BACKSTAY_USER\" --socket=\"$BACKSTAY_SOCKET\" \
               --batch --skip-column-names -e 'select count(*) from sale' \"$BACKSTAY_DATABASE\")\n[ \"$count\" = 500 ]\n";
    let check = program(&own, "ask-mariadb", ask);
    let server = MariaDb::start();
    server.sql("CREATE DATABASE shop; CREATE TABLE shop.sale (id INT PRIMARY KEY)");
    server.sql("USE shop; INSERT INTO sale SELECT seq FROM seq_1_to_500");
    let mut fleet = Fleet::new();
    fleet.allow_run(&check);
    configure(&mut fleet, place.path(), "bubblewrap");
    let (port, password) = (server.port(), fleet.secret(mariadb::PASSWORD));
    configure(&mut fleet, place.path(), "bubblewrap");
    let source = format!(
        "mysql = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, databases = [\"shop\"] }}",
        mariadb::USER
    );
    let run = format!("{{ command = [\"{}\"] }}", check.display());
    fleet.declare("shop", &format!("{source}\n{}", drill(&run)));
    fleet.expect(&["backup", "shop"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 2], "{json:#}");

    let ask = "#!/bin/sh\nset -e\n[ \"$(psql -X -A -t -c 'select count(*) from sale')\" = 500 ]\n";
    program(&own, "ask-mariadb", ask);
    let server = Postgres::start();
    server.sql("postgres", "CREATE DATABASE shop");
    server.sql("shop", "CREATE TABLE sale AS SELECT n AS id FROM generate_series(1, 500) n");
    let (port, password) = (server.port(), fleet.secret(postgres::PASSWORD));
    configure(&mut fleet, place.path(), "bubblewrap");
    let source = format!(
        "postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"{}\", password = {password}, databases = [\"shop\"] }}",
        postgres::USER
    );
    fleet.declare("shop", &format!("{source}\n{}", drill(&run)));
    fleet.expect(&["backup", "shop", "--kind", "full"], 0);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 2], "{json:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}
