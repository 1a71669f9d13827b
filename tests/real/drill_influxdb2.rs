//! Drills of InfluxDB 2 by the built program: in a server of their own, asked in InfluxQL.

use crate::{
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::influxdb2::{Influx2, ORG, TOKEN},
};

#[test]
fn buckets_are_drilled_in_a_server_of_their_own_and_a_question_reads_and_changes_nothing() {
    let mut server = Influx2::start();
    server.make_bucket("tele");
    let points: String =
        (0..2000).map(|n| format!("cpu,host=h{} v={n} {}\n", n % 9, 1_700_000_000 + n * 600)).collect();
    server.write("tele", &points);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let token = fleet.secret(TOKEN);
    let source = format!(
        "influxdb2 = {{ url = \"{}\", org = \"{ORG}\", token = {token}, buckets = [\"tele\"] }}",
        server.url()
    );
    let checks = "{ influxql = \"select count(v) from cpu\", equals = \"2000\" }, \
                  { influxql = \"select max(v) from cpu\", database = \"tele\", min = 1999, max = 1999 }, \
                  { influxql = \"select count(v) from cpu\", min = 2001 }, \
                  { influxql = \"drop measurement cpu\", equals = \"\" }, \
                  { influxql = \"select last(v) from cpu\", equals = \"1999\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(checks)));
    fleet.expect(&["backup", "shop"], 0);
    // Whatever becomes of the original: the drill never asks it.
    server.kill();
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(verdicts(&json), ["passed", "passed", "failed", "failed", "passed"], "{json:#}");
    assert_eq!(json["drills"][0]["isolation"], "files");
    // By the very script that runbooks print.
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 7));
    assert_eq!(verdicts(&by_hand), verdicts(&json), "{by_hand:#}");
    // Also without names of buckets: those that were captured.
    let last = "{ influxql = \"select last(v) from cpu\", database = \"tele\", equals = \"1999\" }";
    fleet.declare("shop", &format!("{}\n{}", source.replace(", buckets = [\"tele\"]", ""), drill(last)));
    let all = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 0));
    assert_eq!(verdicts(&all), ["passed"], "{all:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}
