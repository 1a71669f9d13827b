//! One TOML file: from bytes to a table in which every key and value knows its place. Faults of the syntax are found
//! all at once; what is sound around them can still be read.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::suggest::shown;
use crate::diagnostic::{Diagnostic, Location};

/// The largest file that is read.
pub const LARGEST_FILE: usize = 1 << 20;

/// Faults of syntax that are looked at in one file.
const MOST_FAULTS: usize = 100;

/// A table of a document.
pub type Table<'a> = DeTable<'a>;
/// A value of a document.
pub type Value<'a> = Spanned<DeValue<'a>>;

/// A file's table and the faults of its syntax.
pub struct Document<'a> {
    /// What could be read.
    pub table: Table<'a>,
    /// Lines with faults, as bytes: what is found there besides is likely their echo.
    pub faulty_lines: Vec<Range<usize>>,
}

/// Reads a file. `None` when it is no text at all.
pub fn read<'a>(file: &str, content: &'a [u8], diagnostics: &mut Vec<Diagnostic>) -> Option<Document<'a>> {
    let text = match text(file, content) {
        Ok(text) => text,
        Err(diagnostic) => {
            diagnostics.push(*diagnostic);
            return None;
        }
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut faulty_lines = Vec::new();
    // A file of another kind may have a fault a byte.
    for error in errors.into_iter().take(MOST_FAULTS) {
        let span = within(text, error.span().unwrap_or(0..0));
        let line = line_around(text, span.start);
        if !faulty_lines.contains(&line) {
            faulty_lines.push(line);
            diagnostics.push(syntax(file, text, error.message(), span));
        }
    }
    Some(Document { table: table.into_inner(), faulty_lines })
}

/// The line that holds the byte `at`, with the end of the line.
fn line_around(text: &str, at: usize) -> Range<usize> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    start..text[at..].find('\n').map_or(text.len(), |newline| at + newline) + 1
}

fn text<'a>(file: &str, content: &'a [u8]) -> Result<&'a str, Box<Diagnostic>> {
    let refuse = |diagnostic: Diagnostic, byte: usize, hint: &str| {
        Err(Box::new(diagnostic.at(Location { file: file.to_owned(), span: byte..byte }).hint(hint)))
    };
    let name = shown(file);
    if content.len() > LARGEST_FILE {
        let message = format!("`{name}` has {} bytes, more than {LARGEST_FILE}", content.len());
        return refuse(
            Diagnostic::error("file-too-large", message),
            0,
            "split it: files are merged in any order",
        );
    }
    if let Some(nul) = content.iter().position(|b| *b == 0) {
        let message = format!("`{name}` is not text: it holds a NUL byte");
        return refuse(Diagnostic::error("not-text", message), nul, "save it as text in UTF-8");
    }
    std::str::from_utf8(content).or_else(|error| {
        let message = format!("`{name}` is not text: its encoding is not UTF-8");
        refuse(Diagnostic::error("not-text", message), error.valid_up_to(), "save it as text in UTF-8")
    })
}

/// Spans come from a parser in recovery: none may reach out of the text or into a character.
fn within(text: &str, span: Range<usize>) -> Range<usize> {
    let boundary =
        |at: usize| (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let start = boundary(span.start);
    start..boundary(span.end).max(start)
}

fn syntax(file: &str, text: &str, message: &str, span: Range<usize>) -> Diagnostic {
    let at = |span| Location { file: file.to_owned(), span };
    if message != "duplicate key" {
        return Diagnostic::error("syntax", format!("not TOML: {}", shown(message))).at(at(span));
    }
    let key = shown(&text[span.clone()]);
    let diagnostic =
        Diagnostic::error("duplicate", format!("`{key}` is defined twice")).hint("keep one of the two");
    match first_definition(text, span.start) {
        Some(first) => diagnostic.at(at(span)).see(at(first), "first defined here"),
        None => diagnostic.at(at(span)),
    }
}

/// The line before `second`, in the same table, that begins as the line of `second` does.
fn first_definition(text: &str, second: usize) -> Option<Range<usize>> {
    let start = text[..second].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next()?;
    let is_header = line.trim_start().starts_with('[');
    let name = |line: &str| line.split(['=', '#']).next().unwrap_or_default().trim().to_owned();
    let mut end = start;
    for earlier in text[..start].lines().rev() {
        end = end.saturating_sub(1);
        let begin = text[..end].rfind('\n').map_or(0, |newline| newline + 1);
        if name(earlier) == name(line) {
            let indent = earlier.len() - earlier.trim_start().len();
            return Some(begin + indent..begin + indent + name(earlier).len());
        }
        if !is_header && earlier.trim_start().starts_with('[') {
            return None;
        }
        end = begin;
    }
    None
}
