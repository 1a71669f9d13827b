//! `validate --format …`: what the hosts of repositories and their CI read.

use std::{
    collections::BTreeMap,
    process::{Command, Stdio},
};

use backstay::{
    diagnostic::Diagnostic,
    render::diagnostics::{Report, sarif},
};
use serde_json::Value;

use crate::checkout::{Checkout, declaration};

/// Errors and warnings in a sub-folder, one of them behind a character beyond the basic plane.
fn faulty() -> Checkout {
    let checkout = Checkout::new();
    checkout.write(&format!(
        "{}\n[contact.x]\nname = \"é𝄞\", nonsense = 1\n[backup.b]\npolicy = \"nightly\"\nstores = [\"here\"]\nschedul = 1\n\
         [backup.b.sqlite]\npath = \"/b\"\n",
        declaration("30d")
    ));
    checkout
}

/// So many unknown keys.
fn very_faulty(errors: usize) -> Checkout {
    let checkout = Checkout::new();
    let keys: String = (0..errors).map(|n| format!("unknown{n} = 1\n")).collect();
    checkout.write(&format!("{}\n[contact.c]\nname = \"C\"\n{keys}", declaration("30d")));
    checkout
}

#[test]
fn github_annotations_name_paths_from_the_root_and_are_escaped() {
    let checkout = faulty();
    let told = checkout.run(&["validate", "backup", "--format", "github"], 12);
    let first = told.lines().next().unwrap();
    assert!(first.starts_with("::error file=backup/fleet.toml,line="), "{told}");
    assert!(told.contains(",title=") && told.contains("%0Ahelp: "), "{told}");
    let commands = told.lines().filter(|line| line.starts_with("::")).count();
    assert_eq!(commands + 1, told.lines().count(), "{told}");
}

#[test]
fn github_annotations_are_at_most_ten_of_a_type_the_last_one_counting_the_rest() {
    let told = very_faulty(25).run(&["validate", "--format", "github"], 12);
    let errors: Vec<&str> = told.lines().filter(|line| line.starts_with("::error ")).collect();
    assert_eq!(errors.len(), 10, "{told}");
    assert_eq!(errors[9], "::error title=backstay::16 more errors; `backstay validate` shows all");
    let ten = very_faulty(10).run(&["validate", "--format", "github"], 12);
    assert!(!ten.contains("more errors"), "{ten}");
}

#[test]
fn gitlab_reports_have_what_its_schema_asks_for_and_fingerprints_that_stay() {
    let checkout = faulty();
    let read = || -> Vec<Value> {
        serde_json::from_str(&checkout.run(&["validate", "backup", "--format", "gitlab"], 12)).unwrap()
    };
    let issues = read();
    for issue in &issues {
        assert!(issue["description"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(issue["check_name"].is_string());
        assert!(
            ["info", "minor", "major", "critical", "blocker"].contains(&issue["severity"].as_str().unwrap())
        );
        assert_eq!(issue["location"]["path"], "backup/fleet.toml");
        assert!(issue["location"]["lines"]["begin"].as_u64().is_some_and(|line| line > 0));
    }
    let prints =
        |issues: &[Value]| -> Vec<String> { issues.iter().map(|i| i["fingerprint"].to_string()).collect() };
    let mut unique = prints(&issues);
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), issues.len());
    let file = checkout.root().join("backup/fleet.toml");
    let moved = format!("# a line more\n\n{}", std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, moved).unwrap();
    assert_eq!(prints(&read()), prints(&issues));
}

#[test]
fn sarif_has_what_version_2_1_0_asks_for() {
    let checkout = faulty();
    std::fs::rename(
        checkout.root().join("backup/fleet.toml"),
        checkout.root().join("backup/the fleet é.toml"),
    )
    .unwrap();
    let sarif: Value =
        serde_json::from_str(&checkout.run(&["validate", "backup", "--format", "sarif"], 12)).unwrap();
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    assert_eq!(
        (&run["columnKind"], &run["tool"]["driver"]["name"]),
        (&"utf16CodeUnits".into(), &"backstay".into())
    );
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        let index = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(result["ruleId"], rules[index]["id"]);
        assert!(["error", "warning"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        assert_eq!(result["partialFingerprints"]["backstay/v1"].as_str().unwrap().len(), 64);
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "backup/the%20fleet%20%C3%A9.toml");
        let of = |key: &str| place["region"][key].as_u64().unwrap();
        assert!(of("startLine") >= 1 && of("startColumn") >= 1 && of("endLine") >= of("startLine"));
        assert!(of("endLine") > of("startLine") || of("endColumn") > of("startColumn"));
    }
    let levels: Vec<&str> = results.iter().map(|result| result["level"].as_str().unwrap()).collect();
    assert!(levels.is_sorted(), "errors come first: {levels:?}");
}

#[test]
fn sarif_holds_at_most_5000_results() {
    let warning = |n: usize| Diagnostic::warning("unused-store", format!("store {n}"));
    let found: Vec<Diagnostic> =
        (0..5_100).map(warning).chain([Diagnostic::error("nothing-declared", "the error")]).collect();
    let sarif = sarif(Report { diagnostics: &found, files: &BTreeMap::new(), folder: "" });
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["level"]), (5_000, &"error".into()));
    assert_eq!(sarif["runs"][0]["properties"]["leftOut"], 101);
}

/// What Python's XML parser makes of a report: `tests failures cases failed`.
fn counted(report: &str) -> String {
    let program = "import sys, xml.etree.ElementTree as e; s = e.parse(sys.stdin).getroot(); \
                   print(s.get('tests'), s.get('failures'), len(s.findall('.//testcase')), len(s.findall('.//failure')))";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    std::io::Write::write_all(&mut python.stdin.take().unwrap(), report.as_bytes()).unwrap();
    String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[test]
fn junit_is_xml_whose_counts_are_true() {
    let sound = Checkout::new();
    assert_eq!(counted(&sound.run(&["validate", "--format", "junit"], 0)), "1 0 1 0");
    let report = very_faulty(3).run(&["validate", "--format", "junit"], 12);
    assert_eq!(counted(&report), "3 3 3 3");
    let hostile = Checkout::new();
    hostile
        .write(&format!("{}\n[contact.c]\nname = \"C\"\n\"]]>\\u0007<x>&\\\"\" = 1\n", declaration("30d")));
    assert_eq!(counted(&hostile.run(&["validate", "--format", "junit"], 12)), "1 1 1 1");
}

#[test]
fn a_revision_is_checked_in_the_same_formats() {
    let checkout = faulty();
    checkout.commit("Break it");
    checkout.write(&declaration("30d"));
    checkout.run(&["validate", "backup"], 0);
    let told = checkout.run(&["validate", "backup", "--rev", "HEAD", "--format", "github"], 12);
    assert!(told.contains("file=backup/fleet.toml"), "{told}");
}
