//! Declarations as an infra repo holds them: what is read, what is refused, and how that looks.

mod accounts;
mod approvals;
mod drills;
mod increments;
mod providers;
mod traffic;

use std::collections::BTreeMap;

use backstay::{
    diagnostic::{Diagnostic, Severity},
    render::{Palette, diagnostics},
    spec::{Parsed, parse},
};

type Files = BTreeMap<String, Vec<u8>>;

fn file(text: &str) -> Files {
    Files::from([("fleet.toml".to_owned(), text.as_bytes().to_vec())])
}

fn codes(parsed: &Parsed) -> Vec<&'static str> {
    parsed.diagnostics.iter().map(|diagnostic| diagnostic.code).collect()
}

/// A small fleet that is all right, to add to.
const SOUND: &str = r#"
[fleet]
name = "pavroto"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[infra]
stores = ["here", "there"]
[store.here.local]
path = "/srv/here"
[store.there]
location = "there"
local = { path = "/srv/there" }
[backup.agama]
policy = "nightly"
stores = ["here", "there"]
sqlite = { path = "/srv/agama.db" }
"#;

/// That fleet with another source, whose accounts somebody makes.
fn sound_with(source: &str) -> String {
    let source = format!("accounts = \"elsewhere\"\n{source}");
    SOUND.replace("sqlite = { path = \"/srv/agama.db\" }", &source)
}

const NIGHTLY: &str = "[policy.nightly]\nfull = \"0 1 * * *\"\n";

fn with(text: &str) -> Parsed {
    parse(&file(&format!("{SOUND}{text}")))
}

/// What `text`, beside the sound fleet, is reported for.
fn found(text: &str) -> Vec<Diagnostic> {
    with(text).diagnostics
}

fn found_codes(text: &str) -> Vec<&'static str> {
    let found = found(text).into_iter().filter(|diagnostic| diagnostic.severity > Severity::Note);
    found.map(|diagnostic| diagnostic.code).collect()
}

#[test]
fn a_sound_declaration_has_no_findings() {
    let parsed = with(NIGHTLY);
    assert_eq!(parsed.diagnostics, []);
    let spec = parsed.spec.unwrap();
    assert_eq!(spec.fleet.name.as_str(), "pavroto");
    assert_eq!(spec.backups["agama"].stores.len(), 2);
    assert_eq!(spec.backups["agama"].policy.schedules.len(), 1);
}

#[test]
fn files_are_merged_in_any_order_and_only_toml_is_read() {
    let parts: Vec<&str> = SOUND.split_inclusive("[store.here.local]").collect();
    let split = Files::from([
        ("z.toml".to_owned(), parts[0].trim_end_matches("[store.here.local]").as_bytes().to_vec()),
        ("a/b.toml".to_owned(), format!("[store.here.local]{}", parts[1]).into_bytes()),
        ("policies.toml".to_owned(), NIGHTLY.as_bytes().to_vec()),
        ("README.md".to_owned(), b"[not toml".to_vec()),
    ]);
    let parsed = parse(&split);
    assert_eq!(parsed.diagnostics, []);
    assert!(parsed.spec.is_some());
}

#[test]
fn the_same_resource_in_two_files_shows_both_places() {
    let mut files = file(&format!("{SOUND}{NIGHTLY}"));
    files.insert("again.toml".to_owned(), b"[policy.nightly]\nfull = \"0 2 * * *\"\n".to_vec());
    let parsed = parse(&files);
    assert_eq!(codes(&parsed), ["duplicate"]);
    let duplicate = &parsed.diagnostics[0];
    assert_eq!(duplicate.location.as_ref().unwrap().file, "fleet.toml");
    assert_eq!(duplicate.related[0].location.file, "again.toml");
}

#[test]
fn an_unknown_key_asks_whether_its_neighbour_was_meant() {
    let all = found("[policy.nightly]\nfull = \"0 1 * * *\"\nkep = { full = \"7d\" }\n");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].hint.as_deref(), Some("did you mean `keep`?"));
    let place = all[0].location.as_ref().unwrap();
    assert!(format!("{SOUND}[policy.nightly]\nfull = \"0 1 * * *\"\n").len() == place.span.start);
}

#[test]
fn what_is_missing_is_named_with_what_it_is_for() {
    let all = found(&format!("{NIGHTLY}[backup.db]\nstores = [\"here\", \"there\"]\n[drill.db]\n"));
    let missing: Vec<_> = all.iter().map(|found| (found.code, found.message.as_str())).collect();
    assert_eq!(
        missing,
        [
            (
                "choose-one",
                "[backup.db] needs one of `files`, `sqlite`, `mysql`, `postgres`, `influxdb`, `influxdb2`, `mongodb`, `redis`, `etcd`, `dynamodb`, `rds`, `atlas` and `s3`"
            ),
            ("missing-key", "[backup.db] needs `policy`"),
            ("choose-one", "[drill.db] needs one of `backup` and `recovery`"),
            ("missing-key", "[drill.db] needs `schedule`"),
        ]
    );
    assert_eq!(all[1].hint.as_deref(), Some("`policy`: Name of the policy."));
}

#[test]
fn a_retention_policy_is_one_of_a_single_database() {
    let backup = "[backup.tele]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\naccounts = \"elsewhere\"\n\
                  [backup.tele.influxdb]\nhost = \"tsdb\"\n";
    let codes = |keys: &str| {
        let all = found(&format!("{NIGHTLY}{backup}retention_policy = \"long\"\n{keys}"));
        all.iter().map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(codes("databases = [\"tele\"]\n"), [""; 0]);
    assert_eq!(codes("databases = [\"tele\", \"other\"]\n"), ["policy-databases"]);
    assert_eq!(codes(""), ["policy-databases"]);
}

#[test]
fn buckets_of_influxdb_2_are_each_named_once_and_none_is_the_engines_own() {
    let backup = "[backup.tele]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\naccounts = \"elsewhere\"\n\
                  [backup.tele.influxdb2]\n\
                  org = \"ops & more\"\ntoken = { file = \"/etc/token\" }\n";
    let codes = |keys: &str| {
        let all = found(&format!("{NIGHTLY}{backup}{keys}"));
        all.iter().map(|found| found.code).collect::<Vec<_>>()
    };
    assert_eq!(codes("url = \"http://tsdb:8086/\"\n"), [""; 0]);
    assert_eq!(
        codes("url = \"https://tsdb\"\nbuckets = [\"a b\", \"c\"]\ntls = { ca = \"/etc/ca\" }\n"),
        [""; 0]
    );
    assert_eq!(codes("url = \"http://tsdb\"\ntls = { ca = \"/etc/ca\" }\n"), ["tls-without-https"]);
    assert_eq!(
        codes("url = \"http://tsdb\"\nbuckets = [\"a\", \"a\", \"_tasks\"]\n"),
        ["duplicate", "own-bucket"]
    );
    assert_eq!(codes("buckets = [\"a\"]\n"), ["missing-key"]);
}

#[test]
fn a_literal_secret_is_found_and_never_printed() {
    let text = r#"
[backup.db]
policy = "nightly"
stores = ["here", "there"]
[backup.db.mysql]
host = "db"
user = "u"
password = "hunter2"
"#;
    for text in [
        text.to_owned(),
        text.replace("password =", "pasword ="),
        text.replace("password = \"hunter2\"", "password = [\"hunter2\"]"),
    ] {
        let files = file(&format!("{SOUND}{NIGHTLY}{text}"));
        let parsed = parse(&files);
        assert!(codes(&parsed).contains(&"literal-secret"), "{text}");
        let shown = diagnostics::text(&parsed.diagnostics, &files, Palette::Plain);
        let json = diagnostics::json(&parsed.diagnostics, &files).to_string();
        assert!(!shown.contains("hunter2") && !json.contains("hunter2"), "{shown}\n{json}");
    }
}

#[test]
fn no_escape_sequence_of_a_declaration_reaches_the_terminal() {
    let files = Files::from([(
        "evil\u{1b}[2J.toml".to_owned(),
        b"[fleet]\n\"\\u001b[31mname\" = \"\\u001b[2J\"\n# \x1b[31m\nname = \"\x1b[31m\"\n[backup.\"x\\u001b[0m\"]\n".to_vec(),
    )]);
    let parsed = parse(&files);
    assert!(!parsed.diagnostics.is_empty());
    let shown = diagnostics::text(&parsed.diagnostics, &files, Palette::Plain);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn what_is_no_text_or_too_large_is_refused_as_such() {
    let large = format!("# {}\n", "x".repeat(1 << 20));
    let cases: [(&[u8], &str); 3] =
        [(b"a = \"\0\"", "not-text"), (b"a = \"\xff\"", "not-text"), (large.as_bytes(), "file-too-large")];
    for (content, code) in cases {
        let mut files = file(&format!("{SOUND}{NIGHTLY}"));
        files.insert("odd.toml".to_owned(), content.to_vec());
        assert_eq!(codes(&parse(&files)), [code]);
    }
}

#[test]
fn a_fault_of_syntax_hides_no_fault_of_other_lines_and_files() {
    let mut files = file(&format!("{SOUND}[policy.nightly]\nfull = \"0 1 * * *\nrpoo = \"1d\"\n"));
    files.insert("other.toml".to_owned(), b"[store.third.local]\npath = \"relative\"\n".to_vec());
    let parsed = parse(&files);
    assert_eq!(codes(&parsed), ["syntax", "unknown-key", "path-escapes"]);
    assert!(parsed.spec.is_none());
}

#[test]
fn a_revision_that_declares_nothing_is_refused() {
    for text in ["", "[fleet]\nname = \"x\"\nrecipients = []\n"] {
        let parsed = parse(&file(text));
        assert!(parsed.spec.is_none());
        assert!(codes(&parsed).contains(&"nothing-declared"), "{:?}", codes(&parsed));
    }
    assert!(parse(&Files::new()).spec.is_none());
}

#[test]
fn an_rpo_must_cover_the_gap_and_the_capture() {
    let policy = |rpo: &str, rest: &str| format!("[policy.nightly]\nrpo = \"{rpo}\"\n{rest}\n");
    let daily = "full = \"0 1 * * *\"";
    assert_eq!(found_codes(&policy("24h", daily)), [""; 0]);
    assert_eq!(found_codes(&policy("23h", daily)), ["rpo-unreachable"]);
    assert_eq!(
        found_codes(&policy("6h", &format!("{daily}\nincremental = {{ every = \"6h\" }}"))),
        ["rpo-unreachable"]
    );
    assert_eq!(found_codes(&policy("7h", &format!("{daily}\nincremental = {{ every = \"6h\" }}"))), [""; 0]);
    assert_eq!(found_codes(&policy("1h", "")), ["rpo-unreachable"]);
    // What counts is all kinds together: no day is without one of the two.
    assert_eq!(found_codes(&policy("24h", "full = \"0 1 * * 0\"\nincremental = \"0 1 * * 1-6\"")), [""; 0]);
    assert_eq!(
        found_codes(&policy("24h", "full = \"0 1 * * 0\"\nincremental = \"0 1 * * 1-5\"")),
        ["rpo-unreachable"]
    );
    // A window that holds captures back widens the gap.
    let hourly = "full = \"0 1 * * *\"\nincremental = { every = \"1h\" }";
    assert_eq!(found_codes(&policy("2h", hourly)), [""; 0]);
    let held = format!("{hourly}\nwindow = {{ deny = [\"08:00-18:00\"] }}");
    assert_eq!(found_codes(&policy("2h", &held)), ["rpo-unreachable"]);
    assert_eq!(found_codes(&policy("12h", &held)), [""; 0]);
}

#[test]
fn logs_every_15_minutes_cannot_keep_an_rpo_of_15_minutes() {
    let text = |every: &str| {
        sound_with("mysql = { host = \"db\" }")
            + &format!(
                "[policy.nightly]\nrpo = \"15m\"\nfull = \"0 1 * * *\"\nlog = {{ every = \"{every}\" }}\n"
            )
    };
    assert_eq!(codes(&parse(&file(&text("15m")))), ["rpo-unreachable"]);
    assert_eq!(codes(&parse(&file(&text("5m")))), [""; 0]);
}

#[test]
fn a_log_needs_data_that_it_can_go_on_from() {
    let policy = "[policy.nightly]\nfull = \"0 1 * * *\"\nlog = { every = \"5m\" }\n";
    let of = |source: &str| sound_with(source) + policy;
    let cases: [(&str, &[&str]); 21] = [
        ("postgres = { host = \"db\", method = \"physical\", log_from = \"archive\" }", &[]),
        ("postgres = { host = \"db\", log_from = \"archive\" }", &["no-log", "log-from-without-log"]),
        (
            "postgres = { host = \"db\", method = \"physical\", log_from = \"archive\", slot = \"ours\" }",
            &["slot-with-archive"],
        ),
        ("mongodb = { host = \"db\" }", &[]),
        ("mongodb = { host = \"db\", databases = [\"a\"] }", &["log-of-some"]),
        ("postgres = { host = \"db\", method = \"physical\", data_dir = \"/srv/pg\" }", &[]),
        ("postgres = { host = \"db\", data_dir = \"/srv/pg\" }", &["no-log", "data-dir-without-physical"]),
        ("mysql = { host = \"db\", method = \"physical\", purge_binary_logs = true }", &[]),
        (
            "mysql = { host = \"db\", method = \"physical\", databases = [\"a\"] }",
            &["log-of-some", "physical-databases"],
        ),
        ("mysql = { host = \"db\", data_dir = \"/srv/mysql\" }", &["data-dir-without-physical"]),
        ("mysql = { host = \"db\" }", &[]),
        ("mysql = { host = \"db\", databases = [\"a\"] }", &["log-of-some"]),
        ("postgres = { host = \"db\", method = \"physical\" }", &[]),
        ("postgres = { host = \"db\" }", &["no-log"]),
        ("postgres = { host = \"db\", method = \"physical\", slot = \"Ours\" }", &["invalid-value"]),
        ("postgres = { host = \"db\", slot = \"ours\" }", &["no-log", "slot-without-log"]),
        ("postgres = { host = \"db\", databases = [\"a\"], jobs = 4 }", &["no-log"]),
        ("postgres = { host = \"db\", jobs = 4 }", &["no-log", "jobs-of-one-database"]),
        ("postgres = { host = \"db\", method = \"physical\", checksums = true }", &["checksums-of-files"]),
        ("postgres = { host = \"db\", method = \"physical\", jobs = 4 }", &["jobs-of-one-database"]),
        ("postgres = { host = \"db\", databases = [\"a\"], jobs = 65 }", &["no-log", "invalid-value"]),
    ];
    for (source, expected) in cases {
        assert_eq!(codes(&parse(&file(&of(source)))), expected, "{source}");
    }
    let unlogged =
        of("mysql = { host = \"db\", purge_binary_logs = true }").replace("log = { every = \"5m\" }\n", "");
    assert_eq!(codes(&parse(&file(&unlogged))), ["purge-without-log"]);
    let purging = of("mysql = { host = \"db\", purge_binary_logs = true }");
    for (beside, expected) in [
        ("host = \"db\", method = \"physical\"", vec!["shared-purge"]),
        ("host = \"db\", port = 3306", vec!["shared-purge"]),
        ("host = \"db\", port = 3307", vec![]),
        ("host = \"other\"", vec![]),
    ] {
        let both = format!(
            "{purging}[backup.other]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\naccounts = \"elsewhere\"\nmysql = {{ {beside} }}\n"
        );
        assert_eq!(codes(&parse(&file(&both))), expected, "{beside}");
    }
    let physical = of("postgres = { host = \"db\", method = \"physical\" }");
    let other = |slot: &str| {
        format!(
            "{physical}[backup.other]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n\
             postgres = {{ host = \"db\", method = \"physical\", slot = \"{slot}\" }}\n"
        )
    };
    assert_eq!(codes(&parse(&file(&other("backstay_agama")))), ["shared-slot"]);
    assert_eq!(codes(&parse(&file(&other("backstay_other")))), [""; 0]);
}

#[test]
fn an_rpo_that_only_the_change_of_clocks_breaks_is_a_warning() {
    let text = SOUND.replace("[infra]", "timezone = \"Europe/Stockholm\"\n[infra]");
    let parsed = |rest: &str| parse(&file(&format!("{text}[policy.nightly]\nrpo = \"24h\"\n{rest}")));
    let daily = parsed("full = \"0 1 * * *\"\n");
    assert_eq!(codes(&daily), ["rpo-missed-when-clocks-change"]);
    assert!(daily.spec.is_some());
    assert_eq!(codes(&parsed("full = \"0 1 * * *\"\ngrace = \"3h\"\n")), [""; 0]);
}

#[test]
fn each_rule_across_resources_has_its_code() {
    let cases: [(&str, &[&str]); 12] = [
        ("[policy.nightly]\nincremental = \"0 1 * * *\"\n", &["incremental-without-full"]),
        ("[policy.nightly]\nfull = \"0 1 * * *\"\nlog = { every = \"5m\" }\n", &["no-log"]),
        ("[policy.nightly]\nfull = \"0 1 * * *\"\nkeep = { full = \"12h\" }\n", &["retention-too-short"]),
        ("[policy.nightly]\nfull = \"0 1 * * *\"\nkeep = { full = \"12h\", last = 2 }\n", &[]),
        (
            "[policy.nightly]\nfull = \"0 9 * * *\"\nwindow = { deny = [\"08:00-18:00\"] }\n",
            &["window-delays-schedule"],
        ),
        (
            "[policy.nightly]\nfull = \"0 9 * * *\"\nwindow = { deny = [\"08:00-18:00\"] }\ncatch_up = \"skip\"\n",
            &["window-leaves-no-time"],
        ),
        (
            "[policy.nightly]\nfull = \"0 9 * * *\"\nwindow = { deny = [\"08:00-18:00\", \"18:00-08:00\"] }\n",
            &["window-leaves-no-time"],
        ),
        (
            "[policy.nightly]\nfull = \"0 1 * * *\"\n[policy.other]\nfull = \"0 1 * * *\"\n",
            &["unused-policy"],
        ),
        (
            "[policy.nightly]\nfull = \"0 1 * * *\"\n[store.third.local]\npath = \"/srv/3\"\n",
            &["unused-store"],
        ),
        (
            "[policy.nightly]\nfull = \"0 1 * * *\"\n[orphan.agama]\ndelete_after = \"90d\"\n",
            &["orphan-declared"],
        ),
        ("[policy.nightly]\nfull = \"0 1 * * *\"\n[orphan.gone]\ndelete_after = \"90d\"\n", &[]),
        ("[policy.nightl]\nfull = \"0 1 * * *\"\n", &["unknown-name", "unused-policy"]),
    ];
    for (text, expected) in cases {
        assert_eq!(found_codes(text), expected, "{text}");
    }
}

#[test]
fn a_bucket_that_holds_a_store_is_no_source() {
    let found = |source: &str, store: &str| {
        let bucket = |prefix: &str, endpoint: &str| {
            format!("bucket = \"b\"\nprefix = \"{prefix}\"\nendpoint = \"https://{endpoint}\"\n")
        };
        let (source, store) = (bucket(source, "a.example.org"), bucket(store, "a.example.org"));
        let declared = format!(
            "[policy.nightly]\nfull = \"0 1 * * *\"\n[store.bucket.s3]\n{store}[backup.objects]\npolicy = \"nightly\"\n\
             stores = [\"here\", \"bucket\"]\n[backup.objects.s3]\n{source}"
        );
        found_codes(&declared)
    };
    assert_eq!(found("", "backups"), ["store-in-source"]);
    assert_eq!(found("backups", "backups"), ["store-in-source"]);
    assert_eq!(found("in", "in/backups"), ["store-in-source"]);
    for (source, store) in [("in", "backups"), ("in", "inner"), ("backups/in", "backups")] {
        assert_eq!(found(source, store), [""; 0], "{source} {store}");
    }
}

#[test]
fn copies_in_one_store_or_place_are_warnings() {
    let one = SOUND.replace("stores = [\"here\", \"there\"]\nsqlite", "stores = [\"here\"]\nsqlite");
    assert_eq!(codes(&parse(&file(&format!("{one}{NIGHTLY}")))), ["single-store"]);
    let together = SOUND.replace("location = \"there\"\n", "");
    let parsed = parse(&file(&format!("{together}{NIGHTLY}")));
    assert_eq!(codes(&parsed), ["single-location", "single-location"]);
    assert!(parsed.spec.is_some());
    let bare = SOUND.replace("[infra]\nstores = [\"here\", \"there\"]\n", "");
    assert_eq!(codes(&parse(&file(&format!("{bare}{NIGHTLY}")))), ["infra-without-backup"]);
}

#[test]
fn a_further_store_with_recipients_of_its_own_is_a_warning() {
    let own = |key: &str| {
        let there = format!("[store.there]\nrecipients = [\"{key}\"]\n");
        codes(&parse(&file(&format!("{}{NIGHTLY}", SOUND.replace("[store.there]\n", &there)))))
    };
    let fleets = "age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm";
    let another = "age1azjfk57nw7npfgadqvlc0gzgkjjgjvqq6mhn07c8rhqrrxpvsdeszk0dv7";
    assert_eq!(own(another), ["copy-needs-identity"]);
    assert_eq!(own(fleets), [""; 0]);
}

#[test]
fn what_cannot_run_here_is_a_warning_and_told_to_the_planner() {
    let azure = "[store.azure]\nlocation = \"cloud\"\nazblob = { account = \"a\", container = \"c\" }\n\
                 [backup.more]\npolicy = \"nightly\"\nstores = [\"here\", \"azure\"]\n\
                 sqlite = { path = \"/srv/more.db\" }\n";
    let parsed = with(&format!("{NIGHTLY}{azure}"));
    assert_eq!(codes(&parsed), ["cannot-run-here"]);
    let cannot = parsed.spec.unwrap().cannot_run();
    let resources: Vec<String> = cannot.iter().map(|it| it.resource.to_string()).collect();
    assert_eq!(resources, ["store `azure`"]);
}

#[test]
fn every_finding_has_a_place_a_hint_and_a_kebab_case_code() {
    let files = crate::examples::files("rotten");
    for diagnostic in parse(&files).diagnostics {
        assert!(diagnostic.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{}", diagnostic.code);
        assert!(diagnostic.message.starts_with(|c: char| !c.is_uppercase()), "{}", diagnostic.message);
        let place = diagnostic.location.expect("everything in that repo has a place");
        assert!(place.span.end <= files[&place.file].len());
    }
}

#[test]
fn the_page_about_declarations_tells_every_code_and_kind() {
    let page = include_str!("../../docs/declaration.md");
    for example in crate::examples::ALL {
        for diagnostic in parse(&crate::examples::files(example)).diagnostics {
            assert!(page.contains(&format!("`{}`", diagnostic.code)), "{}", diagnostic.code);
        }
    }
    let schema = backstay::spec::schema::json_schema();
    for section in schema["properties"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("[{section}")), "{section}");
    }
}

#[test]
fn the_page_about_configuration_shows_one_that_works() {
    let page = include_str!("../../docs/configuration.md");
    let text = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    backstay::config::Config::parse("page", text.as_bytes(), std::path::Path::new("/")).unwrap();
}

#[test]
fn a_hostile_file_takes_time_in_proportion_to_its_size() {
    let filled = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for number in 0.. {
            let next = line(number);
            if text.len() + next.len() > 1 << 17 {
                return text.into_bytes();
            }
            text.push_str(&next);
        }
        unreachable!("the numbers do not end")
    };
    let hostile = [
        filled(&|n| format!("k{n}=\n")),
        filled(&|n| format!("[backup.b{n}]\npasword=\"x\"\n")),
        filled(&|n| format!("[backup.b{n}]\npolicy=\"p{n}\"\n")),
        filled(&|n| format!("[store.s{n}.local]\npath=\"..\"\n")),
        filled(&|_| "[a]\n".to_owned()),
        filled(&|_| "[".to_owned()),
        filled(&|_| "a={".to_owned()),
        filled(&|_| "a.".to_owned()),
        filled(&|_| "\"".to_owned()),
        filled(&|_| "é=".to_owned()),
    ];
    for content in hostile {
        let files = Files::from([("a.toml".to_owned(), content)]);
        let parsed = parse(&files);
        assert!(parsed.spec.is_none());
        assert!(!diagnostics::text(&parsed.diagnostics, &files, Palette::Plain).contains("not shown"));
        assert_eq!(diagnostics::json(&parsed.diagnostics, &files)["format"], diagnostics::FORMAT);
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(content in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let files = Files::from([("a.toml".to_owned(), content)]);
        let parsed = parse(&files);
        proptest::prop_assert!(parsed.spec.is_none());
        diagnostics::text(&parsed.diagnostics, &files, Palette::Plain);
    }

    #[test]
    fn no_change_of_an_example_makes_the_parser_panic(
        example in proptest::sample::select(crate::examples::ALL.to_vec()),
        edits in proptest::collection::vec((proptest::num::usize::ANY, 0_usize..12, "[\\[\\]{}=\",\\.0-9a-z \n\\*-]{0,6}"), 1..6),
    ) {
        let mut files = crate::examples::files(example);
        for (at, cut, put) in edits {
            let (number, at) = (at % files.len(), at / 16);
            let content = files.values_mut().nth(number).unwrap();
            let from = at % (content.len() + 1);
            let until = (from + cut).min(content.len());
            content.splice(from..until, put.into_bytes());
        }
        let parsed = parse(&files);
        let faulty = parsed.diagnostics.iter().any(|d| d.severity == Severity::Error);
        proptest::prop_assert_eq!(parsed.spec.is_none(), faulty);
        diagnostics::text(&parsed.diagnostics, &files, Palette::Plain);
        diagnostics::json(&parsed.diagnostics, &files);
    }
}

/// What a backup with this source, beside the sound fleet, is reported for.
fn source_codes(source: &str) -> Vec<&'static str> {
    found_codes(&format!(
        "{NIGHTLY}[backup.kv]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\naccounts = \"elsewhere\"\n{source}\n"
    ))
}

#[test]
fn redis_and_etcd_need_both_halves_of_what_they_log_in_with() {
    let secret = "{ file = \"/etc/backstay/secrets/kv\" }";
    for sound in [
        "redis = { host = \"cache\" }".to_owned(),
        format!("redis = {{ host = \"cache\", port = 6380, password = {secret} }}"),
        format!(
            "redis = {{ host = \"cache\", user = \"backup\", password = {secret}, tls = {{ ca = \"/ca.pem\" }} }}"
        ),
        format!("etcd = {{ endpoints = [\"http://e1:2379\"], user = \"root\", password = {secret} }}"),
        format!(
            "etcd = {{ endpoints = [\"https://e1:2379\"], tls = {{ cert = \"/c.pem\", key = {secret} }} }}"
        ),
    ] {
        assert_eq!(source_codes(&sound), Vec::<&str>::new(), "{sound}");
    }
    for (faulty, code) in [
        ("redis = { port = 6380 }".to_owned(), "missing-key"),
        ("redis = { host = \"cache\", user = \"backup\" }".to_owned(), "missing-key"),
        ("redis = { host = \"cache\", password = \"hunter2\" }".to_owned(), "literal-secret"),
        ("etcd = { endpoints = [] }".to_owned(), "empty-list"),
        ("etcd = { endpoints = [\"e1:2379\"] }".to_owned(), "invalid-value"),
        ("etcd = { endpoints = [\"https://e1\"], user = \"root\" }".to_owned(), "missing-key"),
        (format!("etcd = {{ endpoints = [\"https://e1\"], password = {secret} }}"), "missing-key"),
        (format!("etcd = {{ endpoints = [\"https://e1\"], tls = {{ key = {secret} }} }}"), "missing-key"),
        (
            "etcd = { endpoints = [\"https://e1\", \"http://e2\"], tls = { ca = \"/ca.pem\" } }".to_owned(),
            "tls-without-https",
        ),
    ] {
        assert_eq!(source_codes(&faulty), [code], "{faulty}");
    }
    let port = with(&format!(
        "{NIGHTLY}[backup.kv]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\nredis = {{ host = \"cache\" }}\n"
    ));
    match &port.spec.unwrap().backups["kv"].source {
        backstay::spec::Source::Redis(redis) => assert_eq!(redis.port, 6379),
        other => panic!("{other:?}"),
    }
}
