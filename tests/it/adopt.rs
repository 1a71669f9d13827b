//! What crontabs and timers dump already, as a declaration that the front end takes.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    process::{Command, Output, Stdio},
};

use backstay::{
    adopt::{self, Adopted, Form},
    artifact::Kind,
    diagnostic::Severity,
    spec::{Spec, parse::parse},
};

const FLEET: &str = r#"[fleet]
name = "pavroto"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[store.offsite.local]
path = "/srv/offsite"
"#;

const CRONTAB: &str = r#"MAILTO=ops@example.org
# dumps
0 1 * * *  root  mysqldump -h db1 -ubackup -phunter2 --databases shop crm | gzip > /b/all-$(date +\%F).gz && find /b -mtime +14 -delete
CRON_TZ=Europe/Stockholm
30 2 * * mon-fri postgres pg_dump -Fc -h db2 -U app shop > /b/shop.dump
30 2 * * mon-fri postgres pg_dump -Fc -h db2 -U app crm > /b/crm.dump
@daily root tar czf /b/etc.tgz --exclude=*.tmp --exclude=/srv/www/cache /etc /srv/www
*/15 * * * * root rsync -a --delete /home/ backup@nas:/b/home && find /b/home -mtime +6 -delete
@reboot root sqlite3 /srv/app/app.db ".backup '/b/app.db'"
15 * * * * root /usr/local/bin/rotate-logs --token hunter2
20 * * * * root mysqldump -phunter2 'shop
25 * * * * root tar cz $DIRS > /b/dirs.tgz
0 4 * * 0 root find /b -mtime +30 -delete
0 5 * *
"#;

fn adopted(text: &str, form: Form) -> Adopted {
    adopt::declare(&adopt::crontab("/etc/cron.d/dumps", text, form), &["offsite".parse().unwrap()])
}

/// What the front end makes of a declaration, with a fleet and a store beside it.
fn spec(declaration: &str) -> Spec {
    let files = [("fleet.toml", FLEET), ("adopted.toml", declaration)];
    let parsed = parse(&files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into());
    parsed.spec.unwrap_or_else(|| panic!("{:#?}\n{declaration}", parsed.diagnostics))
}

#[test]
fn a_crontab_is_declared_without_its_secrets_and_what_is_left_out_is_told() {
    let adopted = adopted(CRONTAB, Form::System);
    let notes: Vec<String> =
        adopted.notes.iter().map(|note| format!("{}: {}\n", note.place, note.text)).collect();
    let all = format!("{}\n--- notes\n{}", adopted.declaration, notes.concat());
    assert!(!all.contains("hunter2"), "{all}");
    let spec = spec(&adopted.declaration);
    assert_eq!(spec.backups.len(), adopted.backups);
    insta::assert_snapshot!(all);
}

#[test]
fn what_is_dumped_seldom_is_kept_until_it_is_dumped_again() {
    let adopted = adopted("0 1 * 1 * tar czf /b/etc.tgz /etc && find /b -mtime +14 -delete\n", Form::User);
    let spec = spec(&adopted.declaration);
    let policy = &spec.backups.values().next().expect("it is declared").policy;
    let kept = policy.keep.age(Kind::Full).expect("it is kept for a time");
    assert!(kept >= policy.schedules[&Kind::Full].longest_gap(), "{kept:?}\n{}", adopted.declaration);
    assert!(adopted.declaration.contains("delete a dump after 15 days"), "{}", adopted.declaration);
}

#[test]
fn timers_are_declared_with_their_zone_and_delay() {
    let units: BTreeMap<String, String> = [
        ("mongo.timer", "[Timer]\nOnCalendar=*-*-* 04:00:00 Europe/Stockholm\nRandomizedDelaySec=10min\nPersistent=true\n"),
        ("mongo.service", "[Service]\nExecStart=/usr/bin/mongodump --host m1 -u backup -p hunter2 --db app --out /b/app\n"),
        ("influx.timer", "[Timer]\nOnBootSec=5min\nOnUnitActiveSec=6h\n"),
        ("influx.service", "[Service]\nExecStart=/usr/bin/influxd backup -portable -host tsdb:8088 /b/influx\n"),
        ("photos.timer", "[Timer]\nOnCalendar=Mon *-*-1..7 03:00\n"),
        ("photos.service", "[Service]\nExecStart=/usr/bin/aws s3 sync s3://photos/raw /b/photos --region eu-north-1\n"),
        ("apt-daily.timer", "[Timer]\nOnCalendar=daily\n"),
        ("apt-daily.service", "[Service]\nExecStart=/usr/lib/apt/apt.systemd.daily update\n"),
    ]
    .map(|(name, text)| (name.to_owned(), text.to_owned()))
    .into();
    let adopted =
        adopt::declare(&adopt::timers("/etc/systemd/system", &units), &["offsite".parse().unwrap()]);
    let notes: Vec<String> =
        adopted.notes.iter().map(|note| format!("{}: {}\n", note.place, note.text)).collect();
    let all = format!("{}\n--- notes\n{}", adopted.declaration, notes.concat());
    assert!(!all.contains("hunter2"), "{all}");
    let spec = spec(&adopted.declaration);
    assert_eq!(spec.backups["influxdb-tsdb"].policy.schedules[&Kind::Full].to_string(), "every 6h");
    insta::assert_snapshot!(all);
}

#[test]
fn hostile_lines_are_told_and_break_nothing() {
    let long = format!("0 1 * * * mysqldump {}", "x".repeat(200 << 10));
    let many = "0 1 * * * sh -c \"sh -c 'sh -c pg_dump'\"\n".repeat(2000);
    for (text, backups, notes) in [
        (long.as_str(), 0, 1),
        ("0 1 * * * tar cf x /a\0b", 0, 1),
        ("0 1 * * * tar cf x \"/a", 0, 1),
        ("0 1 * * * tar cf x $(((((", 0, 1),
        ("\u{feff}0 1 * * * tar cf x /a", 1, 1),
        ("0 1 * * * tar cf x '/a\"]\n[store.x]'", 0, 2),
        ("0 1 * * * tar cf x '/a\"]'", 1, 0),
        (many.as_str(), 2000, 0),
    ] {
        let adopted = adopted(text, Form::User);
        let shown = &text[..text.len().min(60)];
        assert_eq!(
            (adopted.backups, adopted.notes.len()),
            (backups, notes),
            "{shown:?} {:?}",
            adopted.notes.first()
        );
        if backups > 0 {
            assert_eq!(spec(&adopted.declaration).backups.len(), backups, "{shown:?}");
        }
    }
}

proptest::proptest! {
    #[test]
    fn whatever_a_crontab_holds_the_declaration_has_no_errors(
        line in "(mysqldump|pg_dump|mongodump|influxd backup|tar cf x|rsync a|borg create r|sqlite3|aws s3 sync|find) [ -~ä]{0,60}",
    ) {
        let adopted = adopted(&format!("0 1 * * * {line}\n@reboot {line}\n"), Form::User);
        let files = BTreeMap::from([
            ("fleet.toml".to_owned(), FLEET.as_bytes().to_vec()),
            ("adopted.toml".to_owned(), adopted.declaration.clone().into_bytes()),
        ]);
        let parsed = parse(&files);
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).collect();
        let nothing = adopted.backups == 0;
        proptest::prop_assert!(errors.is_empty() || nothing, "{errors:?}\n{}", adopted.declaration);
    }
}

fn backstay(arguments: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_backstay"))
        .args(arguments)
        .env_remove("BACKSTAY_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // One that does not read its input may be gone already.
    let _ = child.stdin.take().expect("it is piped").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the program ends")
}

#[test]
fn the_command_reads_crontabs_folders_and_drop_ins_and_writes_what_validate_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        fs::write(dir.path().join(name), text).unwrap();
    };
    write("cron.d/dumps", "0 1 * * * root mysqldump -h db1 -phunter2 shop\n");
    write("cron.d/dumps.dpkg-old", "0 1 * * * root mysqldump -h db9 old\n");
    write("units/mongo.timer", "[Timer]\nOnCalendar=daily\n");
    write("units/mongo.timer.d/night.conf", "[Timer]\nOnCalendar=\nOnCalendar=*-*-* 04:00:00\n");
    write("units/mongo.service", "[Service]\nExecStart=/usr/bin/mongodump --host m1 --db app\n");
    write("backup/fleet.toml", FLEET);
    let out = path("backup/adopted.toml");
    let (cron_d, units) = (path("cron.d"), path("units"));
    let arguments = [
        "adopt",
        "--crontab",
        "-",
        "--system-crontab",
        &cron_d,
        "--timers",
        &units,
        "--store",
        "offsite",
        "--out",
        &out,
    ];
    let run =
        backstay(&arguments, "0 2 * * * tar cf /b/x.tar /srv\n0 3 * * * /usr/bin/true-backup -p hunter2\n");
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(run.status.success() && run.stdout.is_empty(), "{said}");
    assert!(
        said.contains("stdin:2: it is not recognised as a backup: it starts /usr/bin/true-backup"),
        "{said}"
    );
    let spec = spec(&fs::read_to_string(&out).unwrap());
    let schedules: Vec<String> = spec
        .backups
        .iter()
        .map(|(name, backup)| format!("{name} {}", backup.policy.schedules[&Kind::Full]))
        .collect();
    assert_eq!(schedules, ["app 0 4 * * *", "shop 0 1 * * *", "srv 0 2 * * *"]);
    let validated = backstay(&["validate", &path("backup")], "");
    assert_eq!(validated.status.code(), Some(0), "{}", String::from_utf8_lossy(&validated.stdout));
    let again = backstay(&arguments, "");
    assert_eq!(again.status.code(), Some(1), "what is there already is not overwritten");
}

#[test]
fn without_a_store_validate_asks_for_one_and_a_store_and_dumps_are_not_adopted_at_once() {
    let run = backstay(&["adopt", "--crontab", "-", "-o", "json"], "0 1 * * * pg_dumpall -h db1\n");
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (json["format"].as_str(), json["backups"].as_u64()),
        (Some("backstay.adopted-dumps/1"), Some(1))
    );
    let declaration = json["declaration"].as_str().unwrap();
    let files = [("fleet.toml", FLEET), ("adopted.toml", declaration)];
    let parsed = parse(&files.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into());
    let named = parsed.diagnostics.iter().any(|found| found.message.contains("choose-a-store"));
    assert!(named && parsed.spec.is_none(), "{:#?}", parsed.diagnostics);
    for arguments in [
        &["adopt"][..],
        &["adopt", "vault"],
        &["adopt", "--reason", "x"],
        &["adopt", "vault", "--reason", "x", "--timers", "/x"],
        &["adopt", "vault", "--reason", "x", "--out", "/x"],
    ] {
        assert_eq!(backstay(arguments, "").status.code(), Some(2), "{arguments:?}");
    }
}
