//! Any files of a commit are read, judged and shown without a panic, and every fault names a place in them. What is sound
//! can be planned, and reviewed against nothing.
#![no_main]

use std::collections::BTreeMap;

use backstay::{
    diagnostic::Severity,
    inventory::Inventory,
    plan::{self, Limits, review},
    render::{Palette, diagnostics},
    spec::{Spec, parse::parse},
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

/// Stands between two files of one input.
const NEXT_FILE: &[u8] = b"\n#---\n";

fuzz_target!(|input: &[u8]| {
    let files: BTreeMap<String, Vec<u8>> =
        (0..).map(|n| format!("{n}.toml")).zip(split(input).into_iter().map(<[u8]>::to_vec)).collect();
    let parsed = parse(&files);
    let errors = parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error).count();
    assert_eq!(
        parsed.spec.is_none(),
        errors > 0,
        "a revision may come into force exactly when it has no error"
    );
    for at in parsed.diagnostics.iter().filter_map(|found| found.location.as_ref()) {
        let content = &files[&at.file];
        assert!(
            at.span.start <= at.span.end && at.span.end <= content.len(),
            "{at:?} is no place of the file"
        );
    }
    diagnostics::text(&parsed.diagnostics, &files, Palette::Plain);
    diagnostics::json(&parsed.diagnostics, &files);
    if let Some(spec) = &parsed.spec {
        think_through(spec, &parsed.diagnostics);
    }
});

fn split(input: &[u8]) -> Vec<&[u8]> {
    let mut files = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(NEXT_FILE.len()).position(|bytes| bytes == NEXT_FILE) {
        files.push(&rest[..at + 1]);
        rest = &rest[at + NEXT_FILE.len()..];
    }
    files.push(rest);
    files
}

/// What a controller that knows nothing yet, and a reviewer, make of a declaration.
fn think_through(spec: &Spec, diagnostics: &[backstay::diagnostic::Diagnostic]) {
    let now: Timestamp = "2026-11-20T19:00:00Z".parse().expect("a moment");
    let (inventory, limits) = (Inventory::default(), Limits::new("4b825dc642cb6eb9a060e54bf8d69288fbee4904"));
    let plan = plan::plan(spec, &inventory, &limits, now);
    plan::check::check(plan, spec, &inventory, &limits, now).expect("the planners' plans are well formed");
    plan::next_due(spec, &inventory, &limits, now);
    let nothing = review::Side { spec: None, diagnostics: &[] };
    let side = review::Side { spec: Some(spec), diagnostics };
    review::review(nothing, side, now);
    let again = review::review(side, side, now);
    assert_eq!(again.changes, [], "a declaration differs from itself");
}
