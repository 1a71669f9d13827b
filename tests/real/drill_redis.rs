//! Drills of Redis by the built program: a server of its own loads the file that came back.

use crate::{
    drill::{assert_gone, drill, fleet_in, processes_of, sandboxes, told, verdicts},
    lab::redis::{PASSWORD, Redis, Sends, USER},
};

#[test]
fn a_file_is_drilled_by_a_server_that_loads_it_and_tells_how_many_keys_it_found() {
    let server = Redis::start(Sends::AsMade);
    server.script(0, "for n = 1, 500 do redis.call('SET', 'cart:' .. n, string.rep(n, 50)) end");
    server.script(3, "redis.call('SET', 'another', 'database')");
    let place = sandboxes();
    let mut fleet = fleet_in(&place);
    let password = fleet.secret(PASSWORD);
    let port = server.port();
    let source = format!(
        "redis = {{ host = \"127.0.0.1\", port = {port}, user = \"{USER}\", password = {password} }}"
    );
    fleet.declare("shop", &format!("{source}\n{}", drill("{ file = \"dump.rdb\", min_bytes = \"1KiB\" }")));
    fleet.expect(&["backup", "shop"], 0);
    server.run(&["FLUSHALL"]);
    let json = told(&fleet.expect(&["drill", "trial", "-o", "json"], 0));
    assert_eq!(verdicts(&json), ["passed"; 2], "{json:#}");
    let finding = &json["drills"][0]["findings"][0];
    assert_eq!((&finding["check"], &finding["found"]), (&"redis-server".into(), &"501 keys loaded".into()));
    // By the very lines that runbooks print.
    let by_hand = told(&fleet.expect(&["drill", "trial", "--by-hand", "-o", "json"], 0));
    assert_eq!(verdicts(&by_hand), ["passed"; 2], "{by_hand:#}");
    assert_eq!(by_hand["drills"][0]["findings"][0]["found"], "501 keys loaded", "{by_hand:#}");
    assert_gone(place.path());
    assert!(processes_of(place.path()).is_empty());
}
