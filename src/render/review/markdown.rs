//! A review as Markdown, for the comment of a merge request.
//!
//! What comes from a commit stands in code spans only, in which no host reads markup, HTML, mentions or references
//! (CommonMark 0.31, section 6.1), and never begins a line, so that none is a command of a host.

use std::fmt::Write;

use super::{Named, Told, artifacts, subjects};
use crate::{
    diagnostic::Severity,
    plan::review::{Change, Finding, Verdict, Weight},
    render::short_revision,
};

/// Whether the host shows a comment's HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// GitHub, GitLab, Gitea, Forgejo: details are folded.
    Folding,
    /// Bitbucket: no HTML is shown, so nothing is folded.
    Plain,
}

/// Changes that stand before the fold.
const MOST_IN_SUMMARY: usize = 10;
/// Room for what ends a comment that is cut.
const RESERVE: usize = 400;

/// The review in at most `limit` bytes, which is at most as many characters: a summary, then everything.
pub fn markdown(told: &Told, flavor: Flavor, limit: usize) -> String {
    let mut page = Page { text: String::new(), limit: limit.saturating_sub(RESERVE), left_out: 0 };
    summary(told, &mut page);
    let review = &told.review;
    let all = format!("Every change: {}", review.changes.len());
    fold(&mut page, flavor, &all, review.changes.iter().flat_map(change_lines));
    let gone = told.gone.iter().flatten().map(|gone| format!("- {}\n", code(&artifacts(gone))));
    fold(&mut page, flavor, "Artifacts that would go now", gone);
    fold(&mut page, flavor, "Resolved", review.resolved.iter().map(finding_line));
    page.finish()
}

fn summary(told: &Told, page: &mut Page) {
    let review = &told.review;
    let sign = match review.verdict {
        Verdict::Same | Verdict::Changes => "✅",
        Verdict::Loses => "⚠️",
        Verdict::Refused => "❌",
    };
    page.push(format!("### {sign} Backstay: {review}\n\n"));
    page.push(format!("{} compared with {}.\n\n", named(&told.revision), named(&told.against)));
    let weighty = || review.changes.iter().filter(|change| change.weight < Weight::Note);
    for change in weighty().take(MOST_IN_SUMMARY) {
        page.push(line(change));
    }
    if weighty().count() > MOST_IN_SUMMARY {
        page.push(format!("- and {} more\n", weighty().count() - MOST_IN_SUMMARY));
    }
    for finding in review.new.iter().take(MOST_IN_SUMMARY) {
        page.push(finding_line(finding));
    }
    if review.new.len() > MOST_IN_SUMMARY {
        page.push(format!("- and {} more errors and warnings\n", review.new.len() - MOST_IN_SUMMARY));
    }
    page.push("\n".to_owned());
}

fn fold(page: &mut Page, flavor: Flavor, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_none() {
        return;
    }
    page.push(match flavor {
        Flavor::Folding => format!("<details><summary>{title}</summary>\n\n"),
        Flavor::Plain => format!("#### {title}\n\n"),
    });
    lines.for_each(|line| page.push(line));
    page.close(match flavor {
        Flavor::Folding => "\n</details>\n\n",
        Flavor::Plain => "\n",
    });
}

fn change_lines(change: &Change) -> Vec<String> {
    let details = change.details.iter().map(|detail| format!("  - {}\n", inline(detail)));
    std::iter::once(line(change)).chain(details).collect()
}

fn line(change: &Change) -> String {
    let weight = match change.weight {
        Weight::Loss => "**Loss:** ",
        Weight::Notice => "**Think:** ",
        Weight::Note => "",
    };
    let mut line = format!("- {weight}{} {}", code(&subjects(change)), inline(&change.text));
    // Writing to a string cannot fail.
    let _ = match (&change.before, &change.after) {
        (None, None) => Ok(()),
        (Some(before), None) => write!(line, ": was {}", code(before)),
        (None, Some(after)) => write!(line, ": {}", code(after)),
        (Some(before), Some(after)) => write!(line, ": {} → {}", code(before), code(after)),
    };
    line.push('\n');
    line
}

fn finding_line(finding: &Finding) -> String {
    let severity = match finding.severity {
        Severity::Error => "**Error**",
        Severity::Warning => "**Warning**",
        Severity::Note => "Note",
    };
    let file = finding.file.as_deref().map(|file| format!(" in {}", code(file))).unwrap_or_default();
    format!("- {severity} {}: {}{file}\n", code(finding.code), code(&finding.message))
}

fn named(revision: &Named) -> String {
    match &revision.commit {
        Some(commit) if *commit != revision.name => {
            format!("{} ({})", code(&revision.name), code(short_revision(commit)))
        }
        Some(commit) => code(short_revision(commit)),
        None => code(&revision.name),
    }
}

/// A sentence of ours, in which names stand in backticks.
fn inline(text: &str) -> String {
    let parts: Vec<&str> = text.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return code(text);
    }
    let part = |(number, part): (usize, &&str)| if number % 2 == 0 { words(part) } else { code(part) };
    parts.iter().enumerate().map(part).collect()
}

/// Words, without anything that a host could take for markup.
fn words(text: &str) -> String {
    let is_plain = |c: char| {
        c.is_alphanumeric() || matches!(c, ' ' | ',' | '.' | ':' | ';' | '-' | '(' | ')' | '\'' | '→')
    };
    text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect()
}

/// A code span. A backtick would end it, a line break could begin a line of its own.
fn code(text: &str) -> String {
    let safe = |c: char| match c {
        '`' => '\'',
        c if c.is_control() || is_misleading(c) => ' ',
        c => c,
    };
    let text: String = text.chars().map(safe).collect();
    match text.trim() {
        "" => "(empty)".to_owned(),
        text => format!("`{text}`"),
    }
}

/// What turns or hides the text around it (Unicode UAX #9), and breaks lines.
fn is_misleading(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A text that does not grow beyond a limit. Whole pieces are left out, never parts of one.
struct Page {
    text: String,
    limit: usize,
    left_out: usize,
}

impl Page {
    fn push(&mut self, piece: String) {
        if self.left_out > 0 || self.text.len() + piece.len() > self.limit {
            self.left_out += 1;
        } else {
            self.text.push_str(&piece);
        }
    }

    /// Ends what was opened, for which there is always room.
    fn close(&mut self, piece: &str) {
        self.text.push_str(piece);
    }

    fn finish(mut self) -> String {
        if self.left_out > 0 {
            let _ = writeln!(
                self.text,
                "_{} more lines are left out here; the output of the run has all of them._",
                self.left_out
            );
        }
        self.text
    }
}
