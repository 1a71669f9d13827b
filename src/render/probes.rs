//! Probes of sources, as text.

use std::fmt::Write;

use super::Palette;
use crate::{
    diagnostic::Severity,
    reconcile::{Answer, Probed},
};

/// A line a source, and below it what it lacks, with what gives it.
pub fn text(probes: &[Probed], palette: Palette) -> String {
    let width = |of: fn(&Probed) -> usize| probes.iter().map(of).max().unwrap_or_default();
    let (names, kinds) = (width(|it| it.backup.as_str().len()), width(|it| it.source.len()));
    let mut out = String::new();
    for probed in probes {
        let name = palette.strong(format!("{:names$}", probed.backup.as_str()));
        let mut line = |state: String, told: &str| {
            let _ = writeln!(out, "{name}  {:kinds$}  {state}  {told}", probed.source);
        };
        match &probed.answer {
            Answer::Failed { why, .. } => line(palette.bad("fails"), why),
            Answer::Reached { version, .. } if !probed.is_fit() => line(palette.bad("fails"), version),
            Answer::Reached { version, lacks } if lacks.is_empty() => line(palette.good("ready"), version),
            Answer::Reached { version, .. } => line(palette.warn("ready"), version),
        }
        let (Answer::Reached { lacks, .. } | Answer::Failed { lacks, .. }) = &probed.answer;
        for lack in lacks {
            let mark = match lack.severity {
                Severity::Error => palette.bad("error"),
                Severity::Warning => palette.warn("warning"),
                Severity::Note => palette.faint("note"),
            };
            let _ = writeln!(out, "  {mark}: {}\n    {}", lack.what, palette.strong(&lack.remedy));
        }
    }
    out
}
