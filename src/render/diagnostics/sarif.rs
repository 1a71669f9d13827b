//! SARIF, for code scanning (OASIS, "Static Analysis Results Interchange Format Version 2.1.0").

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Report, lines::Region, report::Entry};
use crate::diagnostic::Severity;

/// Results that GitHub shows of one run.
const MOST_RESULTS: usize = 5_000;

/// One run with the worst results first.
pub fn sarif(report: Report<'_>) -> Value {
    let entries = report.entries();
    let codes: BTreeSet<&str> = entries.iter().map(|entry| entry.diagnostic.code).collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    let rules = codes
        .iter()
        .map(|code| json!({ "id": code, "shortDescription": { "text": code.replace('-', " ") } }));
    let left_out = entries.len().saturating_sub(MOST_RESULTS);
    let results = entries.iter().take(MOST_RESULTS).map(|entry| result(entry, &codes));
    json!({
        "$schema": "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "backstay",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.collect::<Vec<_>>(),
            } },
            "columnKind": "utf16CodeUnits",
            "results": results.collect::<Vec<_>>(),
            "properties": { "leftOut": left_out },
        }],
    })
}

fn result(entry: &Entry<'_>, codes: &[&str]) -> Value {
    let diagnostic = entry.diagnostic;
    let mut result = json!({
        "ruleId": diagnostic.code,
        "ruleIndex": codes.binary_search(&diagnostic.code).unwrap_or_default(),
        "level": match diagnostic.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        },
        "message": { "text": entry.text() },
        "partialFingerprints": { "backstay/v1": entry.fingerprint },
        "locations": [],
    });
    if let (Some(path), Some(region)) = (&entry.path, entry.region) {
        result["locations"] = json!([{ "physicalLocation": physical(path, region) }]);
    }
    if !entry.related.is_empty() {
        let related = entry.related.iter().map(|(path, region, message)| {
            json!({ "message": { "text": message }, "physicalLocation": physical(path, *region) })
        });
        result["relatedLocations"] = related.collect();
    }
    result
}

fn physical(path: &str, region: Region) -> Value {
    json!({
        "artifactLocation": { "uri": uri(path), "uriBaseId": "%SRCROOT%" },
        "region": {
            "startLine": region.start.0,
            "startColumn": region.start.1,
            "endLine": region.end.0,
            "endColumn": region.end.1,
        },
    })
}

/// A path as a relative reference (RFC 3986, section 4.2): what is not unreserved is percent-encoded.
fn uri(path: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    path.bytes().map(byte).collect()
}
