//! `[drill.NAME]`: what can be drilled, and its checks.

use super::*;

#[test]
fn drills_of_recoveries_are_told_what_they_would_leave_out_or_reach() {
    let site = "[recovery.site]\nsteps = [{ rebuild = \"web\" }, { restore = \"agama\" }]\n\
                [drill.site]\nrecovery = \"site\"\nschedule = \"0 4 1 * *\"\n";
    let web = "[vm.web]\ntemplate = \"a\"\nlibvirt = { image = \"/i\" }\n";
    let found = |more: &str| {
        let mut found = codes(&with(&format!("{NIGHTLY}{web}{site}{more}")));
        found.sort_unstable();
        found
    };
    let network = |name: &str| format!("[drill.site.stand_in.web]\nnetwork = \"{name}\"\n");
    assert_eq!(found(""), ["drill-leaves-out", "drill-network"]);
    assert_eq!(found(&network("drills")), ["drill-leaves-out"]);
    assert_eq!(found(&network("default")), ["drill-leaves-out", "drill-network"]);
    let taken = web.replace("vm.web", "vm.drill-site-web");
    assert_eq!(found(&(network("drills") + &taken)), ["drill-leaves-out", "drill-stand-in"]);
    let check = network("drills").replace("[drill", "check = [{ counts = \"captured\" }]\n[drill");
    assert_eq!(found(&check), ["drill-check", "drill-leaves-out"], "what is left out can't be asked");
    let module = web.replace("libvirt = { image = \"/i\" }", "terraform = { state = \"local\" }");
    let found = codes(&with(&format!("{NIGHTLY}{module}{site}")));
    assert!(found.contains(&"drill-stand-in"), "nobody says by what it is another: {found:?}");
    let differs = "[drill.site.stand_in.web]\nvariables = { size = \"small\" }\n";
    let found = codes(&with(&format!("{NIGHTLY}{module}{site}{differs}")));
    assert!(!found.contains(&"drill-stand-in"), "{found:?}");
}

#[test]
fn checks_of_drills_say_what_they_expect_and_only_what_their_source_can_have() {
    let found = |check: &str| {
        let drill = "[drill.agama]\nbackup = \"agama\"\nschedule = \"0 4 1 * *\"\n";
        codes(&with(&format!("{NIGHTLY}{drill}check = [{check}]\n")))
    };
    for good in [
        "",
        "{ counts = \"captured\" }",
        "{ sql = \"select 1\", equals = \"1\" }",
        "{ sql = \"select 1\", min = 1, max = 1 }",
        "{ file = \"agama.db\", min_bytes = \"1KiB\" }",
        "{ command = [\"check-agama\", \"--deep\"] }",
        "{ command = [\"/usr/local/bin/check-agama\"], timeout = \"2h\" }",
    ] {
        assert_eq!(found(good), [""; 0], "{good}");
    }
    for (bad, code) in [
        ("{ sql = \"select 1\" }", "drill-check"),
        ("{ sql = \"select 1\", min = 2, max = 1 }", "drill-check"),
        ("{ sql = \"select 1\", equals = \"1\", min = 1 }", "drill-check"),
        ("{ sql = \"select 1\", min = 1, sha256 = \"aa\" }", "drill-check"),
        ("{ file = \"agama.db\", sha256 = \"aa\" }", "drill-check"),
        ("{ file = \"agama.db\", min = 1 }", "drill-check"),
        ("{ file = \"../agama.db\" }", "path-escapes"),
        ("{ counts = \"captured\", max = 1 }", "drill-check"),
        ("{ counts = \"captured\", sql = \"select 1\", min = 1 }", "choose-one"),
        ("{ count = \"captured\" }", "choose-one"),
        ("{ influxql = \"select count(v) from m\", min = 1 }", "drill-check"),
        ("{ command = [] }", "empty-list"),
        ("{ command = [\"\"] }", "drill-check"),
        ("{ command = [\"bin/check\"] }", "drill-check"),
        ("{ command = [\"a\\u0000b\"] }", "drill-check"),
        ("{ command = [\"check\"], timeout = \"25h\" }", "drill-check"),
        ("{ command = [\"check\"], min = 1 }", "drill-check"),
        // Nothing listens in a sandbox.
        ("{ http = \"http://127.0.0.1:8080/health\", status = 204, contains = \"ok\" }", "drill-check"),
        ("{ tcp = \"127.0.0.1:8080\" }", "drill-check"),
        ("{ http = \"http://me:hunter2@web/\" }", "literal-secret"),
        ("{ http = \"ftp://web/\" }", "bad-value"),
        ("{ http = \"http://web/\", timeout = \"11m\" }", "drill-check"),
        ("{ http = \"http://web/\", equals = \"ok\" }", "drill-check"),
        ("{ tcp = \"web\" }", "bad-value"),
        ("{ tcp = \"web:80\", status = 200 }", "drill-check"),
    ] {
        assert!(found(bad).contains(&code), "{bad}: {:?}", found(bad));
    }
}
