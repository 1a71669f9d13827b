//! `plan --against`, as a reviewer and a merge request's CI run it.

use serde_json::Value;

use crate::checkout::{Checkout, backstay_in, declaration, git};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn a_working_tree_that_changes_nothing_exits_0_and_a_loss_exits_10() {
    let checkout = Checkout::new();
    let same = checkout.run(&["plan", "--against", "origin/main"], 0);
    assert!(same.contains("nothing changes"), "{same}");
    checkout.write(&declaration("14d"));
    let lost = checkout.run(&["plan", "--against", "origin/main"], 10);
    assert!(lost.contains("at most 16 fewer full restore points in `here`, `there`"), "{lost}");
    assert!(lost.contains("30, the oldest ") && lost.contains(" → 14, the oldest 1"), "{lost}");
    checkout.run(&["plan", "--against", "origin/main", "--fail-on", "loss"], 10);
    checkout.run(&["plan", "--against", "origin/main", "--fail-on", "error"], 0);
    checkout.write(&declaration("60d"));
    checkout.run(&["plan", "--against", "origin/main", "--fail-on", "loss"], 0);
}

#[test]
fn a_revision_with_errors_exits_12_and_a_folder_without_a_declaration_3() {
    let checkout = Checkout::new();
    checkout.write(&declaration("30d").replace("nightly\"\nstores", "weekly\"\nstores"));
    let told = checkout.run(&["plan", "backup", "--against", "origin/main"], 12);
    assert!(told.contains("would not come into force") && told.contains("new error["), "{told}");
    checkout.commit("Break it");
    checkout.run(&["plan", "--against", "origin/main", "--rev", "HEAD"], 12);
    checkout.run(&["plan", "--against", "HEAD~1", "--rev", "HEAD~1"], 0);
    std::fs::create_dir(checkout.root().join("empty")).unwrap();
    checkout.run(&["plan", "empty", "--against", "origin/main"], 3);
    checkout.run(&["plan", "--against", "origin/nowhere"], 1);
    checkout.run(&["plan", "--rev", "HEAD"], 2);
}

#[test]
fn json_tells_everything_in_a_versioned_envelope() {
    let checkout = Checkout::new();
    checkout.write(&declaration("14d"));
    let head = checkout.commit("Keep less");
    let told = json(&checkout.run(&["plan", "--against", "origin/main", "--rev", "HEAD", "-o", "json"], 10));
    assert_eq!(told["format"], "backstay.review/1");
    assert_eq!(told["verdict"], "loses");
    assert_eq!(told["revision"]["commit"], head.as_str());
    assert_eq!(told["against"]["name"], "origin/main");
    assert_eq!(told["gone"], Value::Null);
    let lost = &told["changes"][0];
    assert_eq!((&lost["weight"], &lost["code"]), (&"loss".into(), &"restore-points-lost".into()));
    assert_eq!(lost["subjects"], serde_json::json!(["backup.orders"]));
}

#[test]
fn what_main_gained_meanwhile_is_not_told_as_lost() {
    let checkout = Checkout::new();
    checkout.git(&["checkout", "--quiet", "-b", "topic"]);
    checkout.write(&declaration("60d"));
    checkout.commit("Keep more");
    checkout.git(&["checkout", "--quiet", "main"]);
    let more = "[backup.more]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.more.sqlite]\npath = \"/srv/more.db\"\n";
    checkout.write(&format!("{}{more}", declaration("30d")));
    checkout.commit("Back up more");
    checkout.git(&["push", "--quiet"]);
    checkout.git(&["checkout", "--quiet", "topic"]);
    let told = json(&checkout.run(&["plan", "--against", "origin/main", "--format", "json"], 10));
    let codes: Vec<&Value> =
        told["changes"].as_array().unwrap().iter().map(|change| &change["code"]).collect();
    assert_eq!(codes, ["retention-changed"]);
}

#[test]
fn a_shallow_clone_says_how_to_fetch_what_it_lacks_and_then_works() {
    let checkout = Checkout::new();
    checkout.git(&["checkout", "--quiet", "-b", "topic"]);
    checkout.write(&declaration("14d"));
    checkout.commit("Keep less");
    checkout.git(&["push", "--quiet", "origin", "topic"]);
    let origin = format!("file://{}", checkout.beside("origin.git").display());
    git(
        checkout.root().parent().unwrap(),
        &["clone", "--quiet", "--depth=1", "--branch=topic", &origin, "shallow"],
    );
    let shallow = checkout.beside("shallow");
    let run = backstay_in(&shallow, &["plan", "--against", "origin/main"], &[]);
    assert_eq!(run.status.code(), Some(1));
    let told = String::from_utf8(run.stderr).unwrap();
    let fix = "git fetch --no-tags --depth=1 origin +main:refs/remotes/origin/main";
    assert!(told.contains("shallow") && told.contains(fix) && told.contains("fetch-depth: 0"), "{told}");
    git(&shallow, &fix.split(' ').skip(1).collect::<Vec<_>>());
    let run = backstay_in(&shallow, &["plan", "--against", "origin/main"], &[]);
    assert_eq!(run.status.code(), Some(10), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(String::from_utf8(run.stdout).unwrap().contains("at most 16 fewer"));
}

/// What a hostile commit puts wherever it may put a text.
const HOSTILE: &str =
    "`</details><script>alert(1)</script> @everyone #1 !1 ](https://evil.example) www.evil.example";

/// The text outside of code spans.
fn outside_of_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_hostile_commit_cannot_bring_markup_into_the_comment() {
    let checkout = Checkout::new();
    let hostile = format!(
        "{}[backup.evil]\npolicy = \"nightly\"\nstores = [\"here\"]\n[backup.evil.files]\npaths = [\"/x{HOSTILE}\"]\nexclude = ['{HOSTILE}']\n",
        declaration("14d").replace("/srv/orders.db", &format!("/srv/{HOSTILE}"))
    );
    checkout.write(&hostile);
    let sound = checkout.run(&["plan", "--against", "origin/main", "--format", "markdown"], 10);
    checkout.write(&format!("{hostile}[\"{HOSTILE}\"]\n\"/close {HOSTILE}\" = 1\n"));
    let refused = checkout.run(&["plan", "--against", "origin/main", "--format", "markdown"], 12);
    assert!(
        sound.contains("evil.example") && refused.contains("evil.example"),
        "the texts are not shown at all"
    );
    for line in sound.lines().chain(refused.lines()) {
        let outside = outside_of_code(line).replace("<details><summary>", "").replace("</summary>", "");
        let outside = if line == "</details>" { String::new() } else { outside };
        assert!(!outside.contains(['<', '>', '@', '[', ']', '!', '/']), "{line}");
        assert!(!outside.contains("evil."), "{line}");
        assert!(line.matches('`').count().is_multiple_of(2), "{line}");
        assert!(!line.trim_start().starts_with('/'), "{line}");
    }
    assert_eq!(
        sound.matches("<details>").count(),
        sound.lines().filter(|line| *line == "</details>").count()
    );
}

#[test]
fn a_comment_stays_within_what_hosts_take() {
    let checkout = Checkout::new();
    let many: String = (0..1000)
        .map(|n| format!("[backup.b{n}]\npolicy = \"nightly\"\nstores = [\"here\", \"there\"]\n[backup.b{n}.sqlite]\npath = \"/srv/{n}/{}\"\n", "x".repeat(60)))
        .collect();
    checkout.write(&format!("{}{many}", declaration("30d")));
    checkout.commit("Back up much");
    checkout.git(&["push", "--quiet"]);
    checkout.write(&format!("{}{}", declaration("30d"), many.replace("/srv/", "/opt/")));
    let told = checkout.run(&["plan", "--against", "origin/main", "--format", "markdown"], 10);
    assert!(told.len() <= 65_536 && told.len() > 60_000, "{}", told.len());
    assert!(told.contains("more lines are left out here"), "{}", &told[told.len() - 300..]);
    assert!(told.contains("</details>"));
}

#[test]
fn where_the_stores_are_asked_the_artifacts_that_would_go_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], codes: &[i32]| {
        let run = backstay_in(dir.path(), arguments, &[("BACKSTAY_CONFIG", "fleet/backstay.toml")]);
        let told = String::from_utf8_lossy(&run.stderr);
        assert!(codes.contains(&run.status.code().unwrap()), "{arguments:?}: {told}");
        String::from_utf8(run.stdout).unwrap()
    };
    run(&["init", "fleet"], &[0]);
    run(&["backup", "data"], &[0]);
    let listed = json(&run(&["list", "data", "-o", "json"], &[0]));
    let oldest = listed["artifacts"][0]["artifact"].as_str();
    run(&["backup", "data"], &[0]);
    let file = dir.path().join("fleet/infra/backup/fleet.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("manual = \"90d\"", "manual = \"1s\"")).unwrap();
    let review = ["plan", "fleet/infra/backup", "--against", "HEAD", "--actual", "-o", "json"];
    // The older of the two is a second old before long.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let gone = loop {
        let gone = json(&run(&review, &[10]))["gone"].clone();
        if gone != serde_json::json!([]) {
            break gone;
        }
        assert!(std::time::Instant::now() < deadline, "nothing would go");
    };
    assert_eq!(gone[0]["backup"], "data");
    assert_eq!(gone[0]["artifacts"][0].as_str(), oldest);
}
