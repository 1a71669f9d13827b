use super::*;
use crate::spec::parse::{Parsed, parse};

const RECIPIENT: &str = "age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm";
const OTHER: &str = "age1azjfk57nw7npfgadqvlc0gzgkjjgjvqq6mhn07c8rhqrrxpvsdeszk0dv7";

/// A fleet of two stores and one backup, by one policy.
fn fleet(zone: &str, policy: &str, backup: &str, more: &str) -> String {
    format!(
        "[fleet]\nname = \"f\"\ntimezone = \"{zone}\"\nrecipients = [\"{RECIPIENT}\"]\n\
         [infra]\nstores = [\"a\", \"b\"]\n\
         [store.a]\nlocation = \"here\"\n[store.a.local]\npath = \"/a\"\n\
         [store.b]\nlocation = \"there\"\n[store.b.local]\npath = \"/b\"\n\
         [policy.p]\n{policy}\n[backup.data]\npolicy = \"p\"\n{backup}\n{more}\n"
    )
}

const DAILY: &str = "rpo = \"25h\"\nfull = \"0 1 * * *\"\nkeep = { full = \"30d\" }";
const DATA: &str = "stores = [\"a\", \"b\"]\n[backup.data.sqlite]\npath = \"/data\"";

fn parsed(text: &str) -> Parsed {
    parse(&BTreeMap::from([("f.toml".to_owned(), text.as_bytes().to_vec())]))
}

fn compare(before: &str, after: &str) -> Review {
    let (before, after) = (parsed(before), parsed(after));
    let side =
        |parsed: &'static Parsed| Side { spec: parsed.spec.as_ref(), diagnostics: &parsed.diagnostics };
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    review(side(Box::leak(Box::new(before))), side(Box::leak(Box::new(after))), now)
}

/// The changes as `weight code subjects: text: before → after`.
fn told(review: &Review) -> Vec<String> {
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    let change = |c: &Change| {
        let (before, after) = (value(&c.before), value(&c.after));
        format!("{:?} {} {}: {}: {before} → {after}", c.weight, c.code, c.subjects.join(" "), c.text)
    };
    review.changes.iter().map(change).collect()
}

fn base() -> String {
    fleet("UTC", DAILY, DATA, "")
}

#[track_caller]
fn check(after: &str, expect: &[&str]) {
    let review = compare(&base(), after);
    assert_eq!(told(&review), expect, "{:?}", review.new);
}

#[test]
fn nothing_is_told_of_what_only_reads_differently() {
    let review = compare(&base(), &base().replace("30d", "720h"));
    assert_eq!((review.verdict, told(&review)), (Verdict::Same, vec![]));
}

#[test]
fn a_shorter_retention_tells_how_many_restore_points_it_costs() {
    check(
        &base().replace("30d", "14d"),
        &[
            "Loss restore-points-lost backup.data: at most 16 fewer full restore points in `a`, `b`: \
             30, the oldest 29d → 14, the oldest 13d",
            "Note retention-changed backup.data: what is kept in `a`, `b`: full 30d → full 14d",
        ],
    );
}

#[test]
fn calendar_rules_cost_what_they_do_not_select() {
    check(
        &base().replace("full = \"30d\"", "daily = 7, monthly = 3"),
        &[
            "Loss restore-points-lost backup.data: at most 22 fewer full restore points in `a`, `b`: \
             30, the oldest 29d → 9, the oldest 51d",
            "Note retention-changed backup.data: what is kept in `a`, `b`: full 30d → daily 7, monthly 3",
        ],
    );
}

#[test]
fn an_end_of_keeping_for_ever_is_a_loss_and_a_longer_retention_is_none() {
    let for_ever = base().replace("full = \"30d\"", "manual = \"30d\"");
    let review =
        compare(&for_ever, &for_ever.replace("manual = \"30d\"", "full = \"60d\", manual = \"30d\""));
    assert_eq!(review.verdict, Verdict::Loses);
    assert!(
        told(&review)[0].contains("kept for ever so far, begin to expire: all of them → 60"),
        "{review:?}"
    );
    let longer = compare(&base(), &base().replace("30d", "60d"));
    assert_eq!((longer.verdict, longer.changes.len()), (Verdict::Changes, 1));
}

#[test]
fn a_store_of_its_own_retention_is_told_apart() {
    let after = base()
        .replace("[backup.data.sqlite]", "[backup.data.keep_in.b]\nfull = \"10d\"\n[backup.data.sqlite]");
    check(
        &after,
        &[
            "Loss restore-points-lost backup.data: at most 20 fewer full restore points in `b`: \
             30, the oldest 29d → 10, the oldest 9d",
            "Note retention-changed backup.data: what is kept in `b`: full 30d → full 10d",
        ],
    );
}

#[test]
fn a_schedule_shows_its_next_slots_in_the_fleets_zone() {
    let (before, after) = (
        fleet("Europe/Tallinn", DAILY, DATA, ""),
        fleet("Europe/Tallinn", &DAILY.replace("0 1 * * *", "30 2 * * *"), DATA, ""),
    );
    let review = compare(&before, &after);
    assert_eq!(
        told(&review),
        ["Note schedule-changed backup.data: when full artifacts are made: 0 1 * * * → 30 2 * * *"]
    );
    let next = "next: Sat 2026-11-21 02:30 EET, Sun 2026-11-22 02:30 EET, Mon 2026-11-23 02:30 EET";
    assert_eq!(review.changes[0].details, [next]);
}

#[test]
fn an_objective_that_can_no_longer_be_met_refuses_the_revision() {
    let review = compare(&base(), &base().replace("0 1 * * *", "0 1 * * 1"));
    assert_eq!(review.verdict, Verdict::Refused);
    assert_eq!(review.new[0].code, "rpo-unreachable");
    assert!(review.to_string().contains("would not come into force"));
}

#[test]
fn a_loosened_objective_and_a_seldomer_schedule_are_told() {
    let after = base().replace("25h", "8d").replace("0 1 * * *", "0 1 * * 1");
    let told = told(&compare(&base(), &after));
    assert!(
        told[0].starts_with("Loss objective-loosened backup.data: the RPO is loosened: 1d 1h → 8d"),
        "{told:#?}"
    );
    let fewer = "Notice fewer-restore-points backup.data: fewer full restore points in `a`, `b` in the long run: \
                 30, the oldest 29d → 4, the oldest 25d";
    assert!(told.contains(&fewer.to_owned()), "{told:#?}");
}

#[test]
fn a_dropped_store_is_a_loss_of_copies_and_of_distance() {
    let after = base().replace("stores = [\"a\", \"b\"]\n[backup", "stores = [\"a\"]\n[backup");
    check(
        &after,
        &[
            "Loss copies-together backup.data: its artifacts no longer stand in two places: \
             2 stores in 2 locations → 1 store in 1 location",
            "Loss copy-dropped backup.data: leaves store `b`:  → ",
        ],
    );
    let review = compare(&base(), &after);
    assert_eq!(review.new[0].code, "single-store");
}

#[test]
fn a_moved_store_is_a_loss_and_another_login_is_not() {
    let moved = compare(&base(), &base().replace("path = \"/b\"", "path = \"/c\""));
    assert_eq!(told(&moved), ["Loss store-moved store.b: the place of the store: path /b → path /c"]);
    let sftp = |user: &str| {
        base().replace(
            "[store.b.local]\npath = \"/b\"",
            &format!(
                "[store.b.sftp]\nhost = \"h\"\nuser = \"{user}\"\npath = \"/b\"\nhost_key = \"ssh-ed25519 \
                 AAAAC3NzaC1lZDI1NTE5AAAAIJ8Cb8Xy0YwCDEnqIXkuqsFS6tQiFZ7NxHOHHSXD7ZVy\"\nidentity = {{ file = \"/{user}\" }}"
            ),
        )
    };
    let login = compare(&sftp("x"), &sftp("y"));
    assert_eq!(
        told(&login),
        [
            "Notice secret-changed store.b: secret `identity`: file /x → file /y",
            "Notice store-access-changed store.b: `user`: x → y",
        ],
        "{:?}",
        login.new
    );
}

#[test]
fn backups_come_go_and_are_renamed() {
    let two = fleet(
        "UTC",
        DAILY,
        DATA,
        "[backup.more]\npolicy = \"p\"\nstores = [\"a\", \"b\"]\n[backup.more.sqlite]\npath = \"/more\"",
    );
    assert_eq!(
        told(&compare(&base(), &two)),
        ["Note backup-added backup.more: a new backup of `sqlite`, into `a`, `b`:  → "]
    );
    let gone = compare(&two, &base());
    assert_eq!(told(&gone), ["Loss backup-removed backup.more: is no longer backed up:  → "]);
    assert!(gone.changes[0].details[0].contains("orphans: kept until"));
    let orphan = format!("{}[orphan.more]\ndelete_after = \"90d\"\n", base());
    let deleted = compare(&two, &orphan);
    assert!(deleted.changes[0].details[0].contains("deleted once older than 90d"), "{deleted:?}");
    assert!(told(&deleted)[1].contains("all artifacts of `more` are deleted once older than 90d"));
    let renamed = compare(&two, &two.replace("backup.more", "backup.other"));
    assert_eq!(told(&renamed), ["Notice backup-renamed backup.more: is renamed: more → other"]);
    assert!(renamed.changes[0].details[1].contains("`[moved.more]` with `to = \"other\"`"), "{renamed:?}");
}

/// The base with its backup under another name, and moves from one name to the next.
fn called(names: &[&str]) -> String {
    let mut text = base().replace("backup.data", &format!("backup.{}", names.last().unwrap()));
    for pair in names.windows(2) {
        text += &format!("[moved.{}]\nto = \"{}\"\n", pair[0], pair[1]);
    }
    text
}

#[test]
fn a_declared_rename_loses_nothing() {
    let moved = compare(&base(), &called(&["data", "shop"]));
    let text = "is renamed, and keeps its artifacts, its history and its schedule";
    assert_eq!(told(&moved), [format!("Note backup-moved backup.shop: {text}: data → shop")]);
    assert_eq!(moved.changes[0].details, ["stays stored as `data`"]);
    let again = compare(&called(&["data", "shop"]), &called(&["data", "shop", "kiosk"]));
    assert_eq!(told(&again), [format!("Note backup-moved backup.kiosk: {text}: shop → kiosk")]);
    assert_eq!(again.changes[0].details, ["stays stored as `data`"]);
    let back = compare(&called(&["data", "shop"]), &base());
    assert_eq!(told(&back), [format!("Note backup-moved backup.data: {text}: shop → data")]);
    let shorter = compare(&base(), &called(&["data", "shop"]).replace("30d", "10d"));
    assert!(told(&shorter).iter().any(|told| told.starts_with("Loss") && told.contains("backup.shop")));
}

#[test]
fn a_move_that_is_taken_back_or_comes_late_leaves_artifacts_behind() {
    let forgotten = compare(&called(&["data", "shop"]), &called(&["shop"]));
    let left = "Loss artifacts-left backup.shop: leaves the artifacts that it has: stored as";
    assert_eq!(told(&forgotten), [format!("{left} data → stored as shop")]);
    assert!(forgotten.changes[0].details[0].contains("become orphans: kept until"), "{forgotten:?}");
    let late = compare(&called(&["shop"]), &called(&["data", "shop"]));
    assert_eq!(told(&late), [format!("{left} shop → stored as data")]);
    assert!(late.changes[0].details[0].contains("found under the name `data`"), "{late:?}");
    let more = "[backup.more]\npolicy = \"p\"\nstores = [\"a\", \"b\"]\nsqlite = { path = \"/more\" }\n[moved.gone]\nto = \"more\"\n";
    let revived = compare(&base(), &format!("{}{more}", base()));
    assert!(told(&revived)[0].starts_with("Notice artifacts-taken-over backup.more"), "{revived:?}");
    let more = base().replace("backup.data", "backup.more").replace("/data", "/more");
    let both = format!("{}{}", called(&["data", "shop"]), &more[more.find("[backup.more]").unwrap()..]);
    let given_up = compare(&both, &more);
    assert!(told(&given_up)[0].starts_with("Loss backup-removed backup.shop"), "{given_up:?}");
    assert!(given_up.changes[0].details[0].contains("stored as `data`, become orphans"), "{given_up:?}");
}

#[test]
fn whoever_can_read_artifacts_is_told() {
    let after = base().replace(RECIPIENT, OTHER);
    check(
        &after,
        &[
            &format!("Loss recipient-dropped fleet: recipient `{RECIPIENT}` is dropped:  → "),
            &format!("Notice recipient-added fleet: recipient `{OTHER}` is added:  → "),
        ],
    );
}

#[test]
fn what_happens_to_many_alike_is_told_once() {
    let more: String = (0..40)
        .map(|n| format!("[backup.b{n:02}]\npolicy = \"p\"\nstores = [\"a\", \"b\"]\n[backup.b{n:02}.sqlite]\npath = \"/{n}\"\n"))
        .collect();
    let before = fleet("UTC", DAILY, DATA, &more);
    let review = compare(&before, &before.replace("30d", "14d"));
    assert_eq!(review.changes.len(), 2);
    assert_eq!(review.changes[0].subjects.len(), 41);
}

#[test]
fn a_bad_base_says_nothing_of_changes_and_an_empty_one_says_that_all_is_new() {
    let bad = compare("nonsense", &base());
    assert_eq!((bad.changes[0].code, bad.resolved.is_empty()), ("base-has-errors", false));
    let base = parsed(&base());
    let now = "2026-11-20T12:00:00Z".parse().unwrap();
    let nothing = Side { spec: None, diagnostics: &[] };
    let fresh = review(nothing, Side { spec: base.spec.as_ref(), diagnostics: &[] }, now);
    let codes: Vec<_> = fresh.changes.iter().map(|change| change.code).collect();
    assert_eq!(codes, ["backup-added", "infra-added", "store-added"]);
}

#[test]
fn the_infra_repos_own_backup_is_reviewed() {
    let before =
        base().replace("[infra]\n", "[infra]\nmirrors = [\"ssh://git@m/x.git\"]\nkeep = { daily = 30 }\n");
    let after = base().replace("[infra]\n", "[infra]\nkeep = { daily = 14 }\n");
    let told = told(&compare(&before, &after));
    assert_eq!(
        told,
        [
            "Loss mirror-dropped infra: is no longer pushed to `ssh://git@m/x.git`:  → ",
            "Loss retention-changed infra: what is kept of the bundles: daily 30 → daily 14",
        ]
    );
}

#[test]
fn what_is_given_up_with_a_provider_or_left_to_it_is_a_loss() {
    let table = |more: &str| {
        let backup =
            "stores = [\"a\", \"b\"]\n[backup.data.dynamodb]\nregion = \"eu-north-1\"\ntable = \"t\"";
        fleet("UTC", DAILY, &format!("{backup}\n{more}"), "")
    };
    let told = |before: &str, after: &str| {
        let told = told(&compare(&table(before), &table(after)));
        told.into_iter().filter(|change| change.starts_with("Loss")).collect::<Vec<_>>()
    };
    let lost = "Loss point-in-time-lost backup.data: fewer seconds that the provider can bring back: ";
    assert_eq!(told("point_in_time = \"35d\"", "point_in_time = \"off\""), [format!("{lost}35d → off")]);
    assert_eq!(told("point_in_time = \"35d\"", "point_in_time = \"7d\""), [format!("{lost}35d → 7d")]);
    assert_eq!(told("point_in_time = \"7d\"", "point_in_time = \"35d\""), Vec::<String>::new());
    assert_eq!(told("point_in_time = \"7d\"", ""), Vec::<String>::new(), "it is left as it is");
    let native = "Loss captures-native backup.data: artifacts from now on stay with the provider:  → ";
    assert_eq!(told("", "method = \"native\""), [native]);
    assert_eq!(told("method = \"native\"", ""), Vec::<String>::new());
}

#[test]
fn fewer_snapshots_of_a_provider_or_shorter_ones_are_a_loss() {
    let cluster = |snapshots: &str| {
        let backup = "stores = [\"a\", \"b\"]\n[backup.data.atlas]\nproject = \"64b31e47c40e886d5ea00001\"\ncluster = \"courses\"\n\
                      client_id = { file = \"/id\" }\nclient_secret = { file = \"/secret\" }";
        fleet("UTC", DAILY, &format!("{backup}\n{snapshots}"), "")
    };
    let told = |after: &str| {
        let before = cluster("snapshots = [\"every day, keep 7d\", \"every sunday, keep 4w\"]");
        let told = told(&compare(&before, &cluster(after)));
        told.into_iter().filter(|change| change.starts_with("Loss")).collect::<Vec<_>>()
    };
    let lost = "Loss snapshots-lowered backup.data: snapshots that the provider makes no more, or keeps for less long: ";
    assert_eq!(
        told("snapshots = [\"every day, keep 6d\", \"every sunday, keep 8w\"]"),
        [format!("{lost}every day, keep 7d → ")]
    );
    assert_eq!(told("snapshots = [\"every 6h, keep 7d\"]").len(), 2);
    assert_eq!(told("snapshots = [\"every day, keep 2w\", \"every sunday, keep 4w\"]"), Vec::<String>::new());
    assert_eq!(told(""), Vec::<String>::new(), "it is left as it is");
}
