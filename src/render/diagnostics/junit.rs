//! A test report in JUnit's XML, which most CI servers show (GitLab documentation, "Unit test reports"; Jenkins,
//! "JUnit" plugin).

use std::fmt::Write;

use super::{Report, count, report::Entry};
use crate::diagnostic::Severity;

/// A test a file, which fails by its first error; further errors are failed tests of their own, for servers read one
/// failure a test. Warnings fail nothing: they are printed.
pub fn junit(report: Report<'_>) -> String {
    let entries = report.entries();
    let mut files: Vec<Option<String>> = report.files.keys().map(|file| Some(report.path(file))).collect();
    if entries.iter().any(|entry| entry.path.is_none()) {
        files.push(None);
    }
    let mut cases = String::new();
    let (mut tests, mut failures) = (0, 0);
    for file in files {
        let here = || entries.iter().filter(|entry| entry.path == file);
        let errors: Vec<_> = here().filter(|entry| entry.diagnostic.severity == Severity::Error).collect();
        let warnings: Vec<_> =
            here().filter(|entry| entry.diagnostic.severity == Severity::Warning).collect();
        let name = file.as_deref().unwrap_or("the declaration");
        tests += errors.len().max(1);
        failures += errors.len();
        case(&mut cases, name, &errors, &warnings);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuites name=\"backstay\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n\
         \x20 <testsuite name=\"backstay validate\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\">\n\
         {cases}\x20 </testsuite>\n</testsuites>\n"
    )
}

fn case(out: &mut String, file: &str, errors: &[&Entry<'_>], warnings: &[&Entry<'_>]) {
    // Writing to a string cannot fail.
    let _ = write!(out, "    <testcase classname=\"backstay.validate\" name=\"{}\" file=\"{0}\">", xml(file));
    if let Some(first) = errors.first() {
        failure(out, first);
    }
    if !warnings.is_empty() {
        let told: Vec<String> = warnings.iter().map(|entry| xml(&told(entry))).collect();
        let number = count(warnings.len(), "warning", "warnings");
        let _ = write!(out, "<system-out>{number}\n{}</system-out>", told.join("\n"));
    }
    out.push_str("</testcase>\n");
    for error in errors.iter().skip(1) {
        let line = error.region.map_or(1, |region| region.start.0);
        let _ = write!(
            out,
            "    <testcase classname=\"backstay.validate\" name=\"{}:{line} {}\" file=\"{0}\">",
            xml(file),
            error.diagnostic.code
        );
        failure(out, error);
        out.push_str("</testcase>\n");
    }
}

fn failure(out: &mut String, entry: &Entry<'_>) {
    let (message, code) = (xml(&entry.diagnostic.message), entry.diagnostic.code);
    let _ = write!(out, "<failure type=\"{code}\" message=\"{message}\">{}</failure>", xml(&told(entry)));
}

fn told(entry: &Entry<'_>) -> String {
    let place = match (&entry.path, entry.region) {
        (Some(path), Some(region)) => format!("{path}:{}:{}: ", region.start.0, region.start.1),
        _ => String::new(),
    };
    format!("{place}{}: {}", entry.diagnostic.code, entry.text())
}

/// Text and attribute values; characters that XML 1.0 (section 2.2) does not have are replaced.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push_str("&#9;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
