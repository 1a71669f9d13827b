//! The infra repos of `examples-repo`: what `validate` says of each.

use std::{collections::BTreeMap, fs, path::Path};

use backstay::{
    diagnostic::Severity,
    render::{Palette, diagnostics},
    spec::parse,
};

/// Repos that come into force.
pub const VALID: [&str; 6] = ["autosync", "aws", "demo", "edulearn", "food-delivery", "pavroto"];
/// Repos that show what is refused.
pub const REFUSED: [&str; 4] = ["autosync-naive", "food-delivery-naive", "rotten", "unreadable"];
/// All of them.
pub const ALL: [&str; 10] = [
    "autosync",
    "aws",
    "demo",
    "edulearn",
    "food-delivery",
    "pavroto",
    "autosync-naive",
    "food-delivery-naive",
    "rotten",
    "unreadable",
];

/// The files of an example's declaration folder.
pub fn files(example: &str) -> BTreeMap<String, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples-repo").join(example).join("backup");
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        files.insert(name, fs::read(&path).unwrap());
    }
    files
}

fn validate(example: &str) -> String {
    let files = files(example);
    diagnostics::text(&parse(&files).diagnostics, &files, Palette::Plain)
}

#[test]
fn every_example_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples-repo");
    let mut found: Vec<String> = fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let mut all = ALL.to_vec();
    found.sort();
    all.sort();
    assert_eq!(found, all);
}

#[test]
fn valid_examples_come_into_force() {
    for example in VALID {
        let files = files(example);
        let parsed = parse(&files);
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).collect();
        assert!(errors.is_empty() && parsed.spec.is_some(), "{example}: {errors:#?}");
    }
}

#[test]
fn refused_examples_have_errors() {
    for example in REFUSED {
        assert!(parse(&files(example)).spec.is_none(), "{example}");
    }
}

#[test]
fn validate_tells_programs_the_same() {
    let files = files("autosync-naive");
    let json = diagnostics::json(&parse(&files).diagnostics, &files);
    insta::assert_snapshot!("validate-autosync-naive-json", serde_json::to_string_pretty(&json).unwrap());
}

#[test]
fn validate_says_of_each_example_what_it_did() {
    for example in ALL {
        insta::assert_snapshot!(format!("validate-{example}"), validate(example));
    }
}
