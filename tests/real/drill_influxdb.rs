//! Drills of InfluxDB 1.x by the built program: in a server of their own, asked in its language.

use crate::{
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::influxdb::{ADMIN, Influx, PASSWORD},
};

#[test]
fn databases_are_drilled_in_a_server_of_their_own_and_a_question_reads_and_changes_nothing() {
    let server = Influx::start();
    server.query("CREATE DATABASE tele");
    // Older than the retention policy keeps, where anybody minds it.
    let points: String =
        (0..2000).map(|n| format!("cpu,host=h{} v={n} {}\n", n % 9, 1_700_000_000 + n * 600)).collect();
    server.write("tele", "autogen", &points);
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let password = fleet.secret(PASSWORD);
    let source = format!(
        "influxdb = {{ host = \"127.0.0.1\", port = {}, rpc_port = {}, user = \"{ADMIN}\", password = {password}, \
         databases = [\"tele\"] }}",
        server.http(),
        server.rpc()
    );
    let checks = "{ influxql = \"select count(v) from cpu\", equals = \"2000\" }, \
                  { influxql = \"select max(v) from cpu\", database = \"tele\", min = 1999, max = 1999 }, \
                  { influxql = \"select count(v) from cpu\", min = 2001 }, \
                  { influxql = \"select v into copy from cpu\", min = 0 }, \
                  { influxql = \"drop measurement cpu\", equals = \"\" }, \
                  { influxql = \"select count(v) from copy\", min = 1 }, \
                  { influxql = \"select last(v) from cpu\", equals = \"1999\" }";
    fleet.declare("shop", &format!("{source}\n{}", drill(checks)));
    fleet.expect(&["backup", "shop"], 0);
    // Whatever is done with the original: the drill never asks it.
    server.query("DROP DATABASE tele");
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 7));
    assert_eq!(
        verdicts(&json),
        ["passed", "passed", "failed", "failed", "failed", "failed", "passed"],
        "{json:#}"
    );
    assert_eq!(json["drills"][0]["findings"][2]["found"], "2000");
    assert_eq!(json["drills"][0]["isolation"], "files");
    // By the very lines that runbooks print.
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 7));
    assert_eq!(verdicts(&by_hand), verdicts(&json), "{by_hand:#}");
    // Which databases there are only the archive tells: no command can name them, and that is no pass.
    let all = source.replace(", databases = [\"tele\"]", "").replace(" databases = [\"tele\"]", "");
    fleet.declare("shop", &format!("{all}\n{}", drill("")));
    let untold = fleet.expect(&["drill", "trial", "--by-hand"], 7);
    assert!(untold.contains("could not run") && untold.contains("databases"), "{untold}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}
