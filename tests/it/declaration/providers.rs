//! Backups that a provider keeps.

use super::*;

/// Backups of the same table, or of an instance, by what each says besides.
fn kept_by_a_provider(backups: &[(&str, &str, &str)]) -> Parsed {
    let declared = backups.iter().map(|(policy, kind, more)| {
        let name = more.bytes().map(|byte| format!("{byte:x}")).take(12).collect::<String>();
        let at = match *kind {
            "rds" => "region = \"eu-north-1\"\ninstance = \"customers\"",
            "atlas" => {
                "project = \"64b31e47c40e886d5ea00001\"\ncluster = \"courses\"\nclient_id = { file = \"/id\" }\n\
                 client_secret = { file = \"/secret\" }"
            }
            _ => "region = \"eu-north-1\"\ntable = \"sessions\"",
        };
        format!(
            "[backup.b-{name}]\npolicy = \"{policy}\"\nstores = [\"here\", \"there\"]\n[backup.b-{name}.{kind}]\n{at}\n{more}\n"
        )
    });
    let policies = "[policy.often]\nfull = \"0 1 * * 0\"\nincremental = \"0 1 * * *\"\n\
                    [policy.log]\nrpo = \"15m\"\nfull = \"0 1 * * *\"\nlog = { every = \"5m\" }\n";
    with(&format!("{NIGHTLY}{policies}{}", declared.collect::<String>()))
}

#[test]
fn what_a_provider_keeps_is_declared_in_so_many_words_and_better_not_alone() {
    let found = |backups: &[(&str, &str, &str)]| {
        let mut found = codes(&kept_by_a_provider(backups));
        found.retain(|code| *code != "unused-policy");
        found
    };
    let native = ("nightly", "dynamodb", "method = \"native\"");
    assert_eq!(found(&[native]), ["native-only"]);
    assert_eq!(found(&[native, ("nightly", "dynamodb", "method = \"logical\"")]), [""; 0]);
    assert_eq!(found(&[("nightly", "rds", "")]), ["native-only"]);
    let beside = "[backup.dumps]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.dumps.mysql]\n\
                  host = \"customers.c9akciq32.eu-north-1.rds.amazonaws.com\"\nuser = \"backup\"";
    assert_eq!(found(&[("nightly", "rds", beside)]), [""; 0]);
    assert_eq!(found(&[("often", "rds", "")]), ["native-kind", "native-only"]);
    let beside = |host: &str| {
        format!(
            "[backup.dumps]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.dumps.mongodb]\n\
             host = \"{host}\"\nuser = \"backup\""
        )
    };
    for (host, other) in [
        ("courses-shard-00-00.ab1cd.mongodb.net", ""),
        ("Courses-pl-0.ab1cd.mongodb.net", ""),
        ("courses-copy-shard-00-00.ab1cd.mongodb.net", "native-only"),
        ("courses-shard-copy-shard-00-00.ab1cd.mongodb.net", "native-only"),
    ] {
        let codes = found(&[("nightly", "atlas", beside(host).as_str())]);
        assert_eq!(codes.contains(&"native-only"), !other.is_empty(), "{host}: {codes:?}");
    }
    for good in ["on", "off", "1d", "35d"] {
        let good = format!("point_in_time = \"{good}\"");
        assert_eq!(found(&[("nightly", "dynamodb", good.as_str())]), [""; 0], "{good}");
    }
    for bad in ["", "0d", "36d", "35", "yes", "-1d", "1h", "99999999999d"] {
        let bad = format!("point_in_time = \"{bad}\"");
        assert_eq!(found(&[("nightly", "dynamodb", bad.as_str())]), ["invalid-value"], "{bad}");
    }
    let twice = |more: [&str; 2]| {
        let at = "region = \"eu-north-1\"\ninstance = \"customers\"\n";
        let backup = |name: &str, more: &str| {
            format!(
                "[backup.{name}]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.{name}.rds]\n{at}{more}\n"
            )
        };
        let all = with(&format!("{NIGHTLY}{}{}", backup("one", more[0]), backup("two", more[1])));
        let found = all.diagnostics.into_iter().filter(|diagnostic| diagnostic.code == "provider-set-twice");
        found.map(|diagnostic| (diagnostic.location.is_some(), diagnostic.related.len())).collect::<Vec<_>>()
    };
    assert_eq!(twice(["point_in_time = \"7d\"", "point_in_time = \"14d\""]), [(true, 1)]);
    assert_eq!(twice(["point_in_time = \"on\"", "point_in_time = \"14d\""]), []);
    assert_eq!(twice(["backup_window = \"03:00-04:00\"", "backup_window = \"04:00-05:00\""]), [(true, 1)]);
    let drill = |kind: &str, more: &str, check: &str| {
        let key = if kind == "rds" { "instance" } else { "table" };
        let backup = format!(
            "[backup.kept]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n\
             [backup.kept.{kind}]\nregion = \"eu-north-1\"\n{key} = \"sessions\"\n{more}\n"
        );
        let drill = format!("[drill.d]\nbackup = \"kept\"\nschedule = \"0 4 1 * *\"\ncheck = [{check}]\n");
        codes(&with(&format!("{NIGHTLY}{backup}{drill}")))
    };
    let items = "{ counts = \"items\", min = 1 }";
    assert_eq!(drill("dynamodb", "method = \"native\"", items), ["native-only"]);
    assert_eq!(drill("rds", "", ""), ["native-only"]);
    for (kind, more, check) in [
        ("rds", "", items),
        ("dynamodb", "method = \"native\"", "{ counts = \"captured\" }"),
        ("dynamodb", "method = \"native\"", "{ file = \"items.jsonl\" }"),
    ] {
        assert!(drill(kind, more, check).contains(&"drill-check"), "{kind} {check}");
    }
    assert!(drill("dynamodb", "", items).contains(&"drill-check"), "what is captured is in a file");
    assert!(
        drill("dynamodb", "method = \"native\"", "{ counts = \"items\" }").contains(&"drill-check"),
        "no bound"
    );
    let too_short = "backup_window = \"03:00-03:10\"";
    assert_eq!(found(&[("nightly", "rds", too_short)]), ["native-only", "invalid-value"]);
}

#[test]
fn snapshots_that_a_provider_makes_by_itself_are_rules_that_it_has() {
    let found = |more: &str| {
        let mut found = codes(&kept_by_a_provider(&[("nightly", "atlas", more)]));
        found.retain(|code| *code != "unused-policy" && *code != "native-only");
        found
    };
    let good = "point_in_time = \"7d\"\nsnapshot_time = \"03:30\"\n\
                snapshots = [\"every 6h, keep 7d\", \"every day, keep 7d\", \"every monday, keep 4w\", \"every sunday, keep 4w\"]";
    assert_eq!(found(good), [""; 0]);
    assert_eq!(found("url = \"https://atlas.example.org/\""), [""; 0]);
    for (bad, code) in [
        ("snapshots = []", "empty-list"),
        ("snapshots = [\"every 5h, keep 7d\"]", "invalid-value"),
        ("snapshots = [\"daily\"]", "invalid-value"),
        ("snapshots = [\"every day, keep 7d\", \"every day, keep 8d\"]", "duplicate"),
        ("snapshots = [\"every 6h, keep 7d\", \"every 12h, keep 7d\"]", "duplicate"),
        ("snapshots = [\"every monday, keep 4w\", \"every monday, keep 4w\"]", "duplicate"),
        ("snapshot_time = \"3:30\"", "invalid-value"),
        ("backup_window = \"03:00-04:00\"", "unknown-key"),
    ] {
        assert_eq!(found(bad), [code], "{bad}");
    }
    let beside = "[backup.dumps]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.dumps.mongodb]\n\
                  host = \"courses-shard-00-00.ab1cd.mongodb.net\"\nuser = \"backup\"";
    let all = codes(&kept_by_a_provider(&[("nightly", "atlas", beside)]));
    assert!(!all.contains(&"native-only"), "{all:?}");
    for (key, bad) in [("project", "64b31e47c40e886d5ea0000"), ("cluster", "../../courses")] {
        let head = "client_id = { file = \"/id\" }\nclient_secret = { file = \"/secret\" }\n";
        let project = if key == "project" { bad } else { "64b31e47c40e886d5ea00001" };
        let cluster = if key == "cluster" { bad } else { "courses" };
        let backup = format!(
            "{NIGHTLY}[backup.a]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.a.atlas]\n{head}\
             project = \"{project}\"\ncluster = \"{cluster}\"\n"
        );
        assert!(codes(&with(&backup)).contains(&"invalid-value"), "{key}");
    }
}

#[test]
fn a_log_that_the_provider_keeps_is_not_captured() {
    let log = |more: &str| {
        let parsed = kept_by_a_provider(&[("log", "dynamodb", more)]);
        let backups = parsed.spec.as_ref().unwrap().backups.values();
        let captured =
            backups.filter(|b| b.policy.schedules.contains_key(&backstay::artifact::Kind::Log)).count();
        (captured, codes(&parsed).contains(&"cannot-run-here"))
    };
    assert_eq!(log("point_in_time = \"on\""), (0, false));
    assert_eq!(log(""), (1, true));
    assert_eq!(log("point_in_time = \"off\""), (1, true));
}
