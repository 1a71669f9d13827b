//! Errors and warnings that a change brings or takes away.

use std::collections::BTreeMap;

use serde::Serialize;

use super::words;
use crate::diagnostic::{Diagnostic, Severity};

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it keeps the revision out of force.
    pub severity: Severity,
    /// Its stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The file that it stands in, in the declaration's folder.
    pub file: Option<String>,
}

/// Those that only `after` has, and those that only `before` has. Where they stand does not matter: lines move.
pub fn compare(before: &[Diagnostic], after: &[Diagnostic]) -> (Vec<Finding>, Vec<Finding>) {
    (without(after, before), without(before, after))
}

fn without(these: &[Diagnostic], those: &[Diagnostic]) -> Vec<Finding> {
    let mut others: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for other in those {
        *others.entry((other.code, &other.message)).or_default() += 1;
    }
    let mut left: Vec<&Diagnostic> = Vec::new();
    for this in these {
        match others.get_mut(&(this.code, this.message.as_str())) {
            Some(count) if *count > 0 => *count -= 1,
            _ => left.push(this),
        }
    }
    left.sort_by_key(|diagnostic| std::cmp::Reverse(diagnostic.severity));
    left.into_iter()
        .map(|diagnostic| Finding {
            severity: diagnostic.severity,
            code: diagnostic.code,
            message: diagnostic.message.clone(),
            file: diagnostic.location.as_ref().map(|place| words::plain(&place.file)),
        })
        .collect()
}
