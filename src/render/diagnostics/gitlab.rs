//! A code quality report of GitLab (GitLab documentation, "Code Quality": code quality report format).

use serde_json::{Value, json};

use super::Report;
use crate::diagnostic::Severity;

/// Every finding. One that stands in no file is shown at the beginning of the first, for the format asks for a place.
pub fn gitlab(report: Report<'_>) -> Value {
    let first = report.files.keys().next().map_or_else(|| "fleet.toml".to_owned(), |file| report.path(file));
    let issue = |entry: super::report::Entry<'_>| {
        json!({
            "description": entry.text(),
            "check_name": entry.diagnostic.code,
            "fingerprint": entry.fingerprint,
            "severity": match entry.diagnostic.severity {
                Severity::Error => "critical",
                Severity::Warning => "minor",
                Severity::Note => "info",
            },
            "location": {
                "path": entry.path.as_ref().unwrap_or(&first),
                "lines": { "begin": entry.region.map_or(1, |region| region.start.0) },
            },
        })
    };
    Value::Array(report.entries().into_iter().map(issue).collect())
}
