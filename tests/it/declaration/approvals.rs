//! `approve.toml`: what is read of it, and that it declares nothing.

use super::*;

const PLAN: &str = "plan:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn entry() -> String {
    format!(
        "[[approve]]\nplan = \"{PLAN}\"\nbase = \"{}\"\nreason = \"meant\"\nexpires = \"2026-11-22 10:00\"\n",
        "3b1e5c0d9f".repeat(4)
    )
}

/// The sound fleet in Tallinn's zone, with `text` as its approvals.
fn approving(text: &str) -> Files {
    let fleet = format!("{SOUND}{NIGHTLY}").replace("[fleet]", "[fleet]\ntimezone = \"Europe/Tallinn\"");
    let mut files = file(&fleet);
    files.insert("approve.toml".to_owned(), text.as_bytes().to_vec());
    files
}

#[test]
fn approvals_are_read_and_their_moments_are_of_the_fleets_zone() {
    let parsed = parse(&approving(&entry()));
    assert_eq!(parsed.diagnostics, []);
    let [approval] = parsed.approvals.as_slice() else { panic!("{:?}", parsed.approvals) };
    assert_eq!(approval.plan.to_string(), PLAN);
    assert_eq!(approval.expires, "2026-11-22T08:00:00Z".parse().unwrap());
    assert_eq!((approval.reason.as_str(), approval.place.file.as_str()), ("meant", "approve.toml"));
}

#[test]
fn what_is_wrong_with_an_approval_keeps_the_revision_out_of_force_and_stands_at_its_place() {
    for (from, to, code) in [
        ("plan:9f86", "plan:9f8", "invalid-value"),
        ("plan = \"plan:", "plan = \"", "invalid-value"),
        ("3b1e5c0d9f\"", "\"", "invalid-value"),
        ("\"meant\"", "\" \"", "invalid-value"),
        ("\"2026-11-22 10:00\"", "\"tomorrow\"", "invalid-value"),
        ("reason", "reasons", "unknown-key"),
        ("[[approve]]", "[approve]", "wrong-type"),
        ("[[approve]]", "[[approved]]", "unknown-key"),
        ("[[approve]]", "[[approve", "syntax"),
    ] {
        let text = entry().replacen(from, to, 1);
        assert_ne!(text, entry(), "{from}");
        let parsed = parse(&approving(&text));
        assert!(parsed.spec.is_none(), "{to}");
        let found = parsed.diagnostics.iter().find(|found| found.code == code);
        let found = found.unwrap_or_else(|| panic!("{to}: {:?}", parsed.diagnostics));
        assert_eq!(found.location.as_ref().unwrap().file, "approve.toml", "{to}");
    }
    let many = entry().repeat(33);
    assert!(parse(&approving(&many)).diagnostics[0].message.contains("more than 32"));
}

#[test]
fn approvals_declare_nothing_and_nothing_else_is_read_as_one() {
    let declared = |files: &Files| backstay::spec::declared(files);
    let (with, mut without) = (approving(&entry()), approving(""));
    assert_eq!(declared(&with), declared(&without));
    without.remove("approve.toml");
    assert_eq!(declared(&with), declared(&without));
    let mut other = without.clone();
    other.insert("more/approve.toml".to_owned(), entry().into_bytes());
    assert_ne!(declared(&other), declared(&without));
    assert_eq!(codes(&parse(&other)), ["unknown-key"]);
    // No two sets of files make the same text.
    let split = |parts: [(&str, &str); 2]| parts.map(|(n, c)| (n.to_owned(), c.as_bytes().to_vec())).into();
    assert_ne!(declared(&split([("a", "b"), ("c", "d")])), declared(&split([("a", "bc"), ("d", "")])));
}

#[test]
fn an_approval_that_has_expired_or_lasts_too_long_is_a_warning() {
    let approvals = parse(&approving(&entry())).approvals;
    let at = |now: &str| {
        let found = backstay::spec::approvals::untimely(&approvals, now.parse().unwrap());
        found.iter().map(|found| (found.severity, found.code)).collect::<Vec<_>>()
    };
    assert_eq!(at("2026-11-22T07:00:00Z"), []);
    assert_eq!(at("2026-11-22T08:00:01Z"), [(Severity::Warning, "approval-expired")]);
    assert_eq!(at("2026-10-01T00:00:00Z"), [(Severity::Warning, "approval-too-long")]);
}
