//! Annotations of a pull request: workflow commands of GitHub Actions and of what follows it (GitHub documentation,
//! "Workflow commands for GitHub Actions": setting an error message; escapes as in actions/toolkit, `command.ts`).

use std::fmt::Write;

use super::{Report, count, report::Entry, summary};
use crate::diagnostic::Severity;

/// Annotations of one type that a step may make; further ones are dropped without a word.
const MOST_OF_A_TYPE: usize = 10;

/// At most ten errors, ten warnings and ten notes, the last of them telling how many more there are.
pub fn github(report: Report<'_>) -> String {
    let entries = report.entries();
    let mut out = String::new();
    for (severity, command, one, many) in [
        (Severity::Error, "error", "more error", "more errors"),
        (Severity::Warning, "warning", "more warning", "more warnings"),
        (Severity::Note, "notice", "more note", "more notes"),
    ] {
        let all: Vec<&Entry<'_>> = entries.iter().filter(|e| e.diagnostic.severity == severity).collect();
        let shown = if all.len() > MOST_OF_A_TYPE { MOST_OF_A_TYPE - 1 } else { all.len() };
        for entry in &all[..shown] {
            annotation(&mut out, command, entry);
        }
        if all.len() > shown {
            let more = count(all.len() - shown, one, many);
            let _ = writeln!(out, "::{command} title=backstay::{more}; `backstay validate` shows all");
        }
    }
    let _ = writeln!(out, "{}", summary(report.diagnostics));
    out
}

fn annotation(out: &mut String, command: &str, entry: &Entry<'_>) {
    let mut properties = Vec::new();
    if let (Some(path), Some(region)) = (&entry.path, entry.region) {
        properties.push(format!("file={}", property(path)));
        properties.push(format!("line={},endLine={}", region.start.0, region.end.0));
        if region.start.0 == region.end.0 {
            properties.push(format!("col={},endColumn={}", region.start.1, region.end.1));
        }
    }
    properties.push(format!("title={}", property(entry.diagnostic.code)));
    let _ = writeln!(out, "::{command} {}::{}", properties.join(","), data(&entry.text()));
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
