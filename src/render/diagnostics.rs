//! Diagnostics for people and for programs.

mod github;
mod gitlab;
mod junit;
mod lines;
mod report;
mod sarif;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};
use serde_json::{Value, json};

pub use github::github;
pub use gitlab::gitlab;
pub use junit::junit;
use lines::Lines;
pub use report::Report;
pub use sarif::sarif;

use super::{Palette, count};
use crate::diagnostic::{Diagnostic, Location, Severity};

/// The format of [`json`].
pub const FORMAT: &str = "backstay.validate/1";

/// Diagnostics that are shown in full; the others are counted.
const MOST_SHOWN: usize = 100;
/// Lines beyond this are not shown.
const LONGEST_LINE: usize = 500;

/// Each diagnostic with its source line, its code and its hint, and a line that sums up. `files` are the contents by
/// path that were parsed. Secrets in clear text are masked.
pub fn text(diagnostics: &[Diagnostic], files: &BTreeMap<String, Vec<u8>>, palette: Palette) -> String {
    let renderer = match palette {
        Palette::Colored => Renderer::styled(),
        Palette::Plain => Renderer::plain(),
    };
    let sources = Sources::new(diagnostics, files);
    let mut text = String::new();
    for diagnostic in worst_first(diagnostics).into_iter().take(MOST_SHOWN) {
        text.push_str(&renderer.render(&[group(diagnostic, &sources)]));
        text.push_str("\n\n");
    }
    if diagnostics.len() > MOST_SHOWN {
        text.push_str(&format!("and {} more\n\n", diagnostics.len() - MOST_SHOWN));
    }
    text.push_str(&summary(diagnostics));
    text.push('\n');
    text
}

/// `2 errors, 1 warning`, or that there is nothing.
pub fn summary(diagnostics: &[Diagnostic]) -> String {
    let (errors, warnings) = (of(diagnostics, Severity::Error), of(diagnostics, Severity::Warning));
    let (error, warning) = (count(errors, "error", "errors"), count(warnings, "warning", "warnings"));
    let mended = match (errors, warnings) {
        (0, 0) => "no errors, no warnings".to_owned(),
        (_, 0) => error,
        (0, _) => warning,
        _ => format!("{error}, {warning}"),
    };
    match of(diagnostics, Severity::Note) {
        0 => mended,
        notes => format!("{mended}, {}", count(notes, "note", "notes")),
    }
}

fn of(diagnostics: &[Diagnostic], severity: Severity) -> usize {
    diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count()
}

/// All diagnostics in a versioned envelope, lines and columns counted from 1, columns in characters.
pub fn json(diagnostics: &[Diagnostic], files: &BTreeMap<String, Vec<u8>>) -> Value {
    let lines = Lines::new(files);
    let place = |location: &Location| {
        let (line, column) = lines.place(location);
        json!({ "file": location.file, "line": line, "column": column, "span": location.span })
    };
    let all = diagnostics.iter().map(|diagnostic| {
        json!({
            "severity": diagnostic.severity,
            "code": diagnostic.code,
            "message": diagnostic.message,
            "location": diagnostic.location.as_ref().map(place),
            "related": diagnostic.related.iter().map(|related| {
                json!({ "message": related.message, "location": place(&related.location) })
            }).collect::<Vec<_>>(),
            "hint": diagnostic.hint,
        })
    });
    json!({
        "format": FORMAT,
        "errors": of(diagnostics, Severity::Error),
        "warnings": of(diagnostics, Severity::Warning),
        "notes": of(diagnostics, Severity::Note),
        "diagnostics": all.collect::<Vec<_>>(),
    })
}

fn worst_first(diagnostics: &[Diagnostic]) -> Vec<&Diagnostic> {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
    sorted
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = normalize_untrusted_str(&diagnostic.message);
    let mut group = Group::with_title(level.primary_title(title).id(diagnostic.code));
    if let Some(location) = &diagnostic.location {
        let here = |related: &&crate::diagnostic::Related| related.location.file == location.file;
        group = match sources.snippet(location) {
            Some(snippet) => {
                let context = diagnostic.related.iter().filter(here).filter_map(|related| {
                    let span = sources.span(&related.location)?;
                    Some(AnnotationKind::Context.span(span).label(related.message.as_str()))
                });
                group.element(snippet.annotations(context))
            }
            None => group.element(Origin::path(normalize_untrusted_str(&location.file))),
        };
        for related in diagnostic.related.iter().filter(|related| !here(related)) {
            group = group.element(Level::NOTE.message(related.message.as_str()));
            if let Some(snippet) = sources.snippet(&related.location) {
                group = group.element(snippet);
            }
        }
    }
    match &diagnostic.hint {
        Some(hint) => group.element(Level::HELP.message(normalize_untrusted_str(hint))),
        None => group,
    }
}

/// The files' texts, without what must not be shown.
struct Sources(BTreeMap<String, String>);

impl Sources {
    fn new(diagnostics: &[Diagnostic], files: &BTreeMap<String, Vec<u8>>) -> Self {
        let places =
            diagnostics.iter().flat_map(|d| d.location.iter().chain(d.related.iter().map(|r| &r.location)));
        let named: BTreeSet<&String> = places.map(|location| &location.file).collect();
        let source = |file: &String| {
            let text = std::str::from_utf8(files.get(file)?).ok()?;
            let secrets = diagnostics.iter().filter(|diagnostic| diagnostic.code == "literal-secret");
            let here =
                secrets.filter_map(|found| found.location.as_ref()).filter(|place| place.file == *file);
            Some((file.clone(), covered(text, here.map(|place| place.span.clone()))))
        };
        Self(named.into_iter().filter_map(source).collect())
    }

    fn span(&self, location: &Location) -> Option<Range<usize>> {
        let text = self.0.get(&location.file)?;
        let Range { start, end } = location.span;
        (start <= end && text.is_char_boundary(start) && text.is_char_boundary(end)).then_some(start..end)
    }

    fn snippet(&self, location: &Location) -> Option<Snippet<'_, annotate_snippets::Annotation<'_>>> {
        let span = self.span(location)?;
        let text = self.0.get(&location.file)?;
        let longest = text.get(span.start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
        let before = text[..span.start].rfind('\n').map_or(span.start, |newline| span.start - newline);
        if longest + before > LONGEST_LINE {
            return None;
        }
        let path = normalize_untrusted_str(&location.file);
        Some(
            Snippet::source(Cow::Borrowed(text.as_str()))
                .path(path)
                .annotation(AnnotationKind::Primary.span(span)),
        )
    }
}

/// The file's text, each secret covered byte for byte so that spans stay.
fn covered(text: &str, secrets: impl Iterator<Item = Range<usize>>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in secrets.filter(|span| text.get(span.clone()).is_some()) {
        bytes[span].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
    }
    String::from_utf8(bytes).unwrap_or_default()
}
