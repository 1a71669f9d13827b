//! Increments, which not each engine has.

use super::*;

const CODE: &str = "increments-read-all";

#[test]
fn increments_that_read_everything_are_told_and_fail_nothing() {
    let policies = "[policy.often]\nfull = \"0 1 * * 0\"\nincremental = \"0 1 * * 1-6\"\n\
                    [policy.rarely]\nfull = \"0 1 * * 0\"\ndifferential = \"0 1 * * 3\"\n";
    let notes = |policy: &str, source: &str| {
        let backup = format!(
            "[backup.b]\npolicy = \"{policy}\"\nstores = [\"here\", \"there\"]\naccounts = \"elsewhere\"\n{source}\n"
        );
        let parsed = with(&format!("{NIGHTLY}{policies}{backup}"));
        assert!(parsed.spec.is_some(), "{source}: {:?}", parsed.diagnostics);
        let notes = parsed.diagnostics.into_iter().filter(|diagnostic| diagnostic.code == CODE);
        notes.map(|note| (note.severity, note.message)).collect::<Vec<_>>()
    };
    for (source, read) in [
        ("mysql = { host = \"db\" }", "a whole dump"),
        ("postgres = { host = \"db\" }", "a whole dump"),
        ("postgres = { host = \"db\", method = \"physical\" }", "the whole cluster"),
        ("mongodb = { host = \"db\" }", "every document"),
        ("redis = { host = \"db\" }", "every key"),
        ("sqlite = { path = \"/srv/other.db\" }", "the whole database"),
    ] {
        for (policy, kind) in [("often", "incrementals"), ("rarely", "differentials")] {
            let found = notes(policy, source);
            assert!(
                matches!(found.as_slice(), [(Severity::Note, said)] if said.contains(read) && said.contains(kind)),
                "{source}: {found:?}"
            );
        }
        assert_eq!(notes("nightly", source), [], "{source}");
    }
    for source in [
        "mysql = { host = \"db\", method = \"physical\" }",
        "files = { paths = [\"/srv/www\"] }",
        "influxdb = { host = \"db\" }",
    ] {
        assert_eq!(notes("often", source), [], "{source}");
    }
}
