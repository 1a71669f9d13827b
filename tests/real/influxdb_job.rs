//! A commit declares an InfluxDB database, and the built program backs it up and brings it back.

use crate::lab::{
    fleet::Fleet,
    influxdb::{ADMIN, Influx, PASSWORD},
};

#[test]
fn a_commit_backs_up_a_database_that_comes_back_beside_the_original_and_over_it() {
    let server = Influx::start();
    server.query("CREATE DATABASE tele");
    let points: String =
        (0..5000).map(|n| format!("cpu,host=h{} v={n} {}\n", n % 9, 1_700_000_000 + n * 600)).collect();
    server.write("tele", "autogen", &points);
    let before = server.points("tele");
    let mut fleet = Fleet::new();
    let password = fleet.secret(PASSWORD);
    let source = format!(
        "influxdb = {{ host = \"127.0.0.1\", port = {}, rpc_port = {}, user = \"{ADMIN}\", password = {password}, \
         databases = [\"tele\"] }}",
        server.http(),
        server.rpc()
    );
    fleet.declare("tele", &source);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "tele", "--plaintext"], 0);

    fleet.expect(&["restore", "tele", "--to", "database:tele_copy"], 0);
    assert_eq!(server.points("tele_copy"), before);
    server.write("tele", "autogen", "cpu,host=h1 v=1 1700000000\n");
    assert_ne!(server.points("tele"), before, "the original was touched");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), before);

    server.write("tele", "autogen", "cpu,host=h2 v=7 1800000000\n");
    let more = server.points("tele");
    fleet.expect(&["backup", "tele", "--kind", "differential"], 0);
    server.query("DROP DATABASE tele");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), more, "a differential is whole");
}
