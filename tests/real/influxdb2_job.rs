//! A commit declares a bucket of InfluxDB 2, and the built program backs it up and brings it back.

use crate::lab::{
    fleet::Fleet,
    influxdb2::{Influx2, ORG, TOKEN},
};

#[test]
fn a_commit_backs_up_a_bucket_that_comes_back_beside_the_original_and_over_it() {
    let server = Influx2::start();
    server.make_bucket("tele");
    let points: String =
        (0..5000).map(|n| format!("cpu,host=h{} v={n} {}\n", n % 9, 1_700_000_000 + n * 600)).collect();
    server.write("tele", &points);
    let before = server.points("tele");
    assert!(before.0.lines().count() > 5000);
    let mut fleet = Fleet::new();
    let token = fleet.secret(TOKEN);
    let source = format!(
        "influxdb2 = {{ url = \"{}\", org = \"{ORG}\", token = {token}, buckets = [\"tele\"] }}",
        server.url()
    );
    fleet.declare("tele", &source);
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["verify", "tele", "--plaintext"], 0);

    fleet.expect(&["restore", "tele", "--to", "database:tele_copy"], 0);
    assert_eq!(server.points("tele_copy"), before);
    server.write("tele", "cpu,host=h1 v=1 1700000000\n");
    assert_ne!(server.points("tele"), before, "the original was touched");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), before);

    server.write("tele", "cpu,host=h2 v=7 1800000000\n");
    let more = server.points("tele");
    fleet.expect(&["backup", "tele", "--kind", "incremental"], 0);
    server.remove_bucket("tele");
    fleet.expect(&["restore", "tele", "--in-place"], 0);
    assert_eq!(server.points("tele"), more, "an incremental is whole");
}
