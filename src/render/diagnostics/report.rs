//! What every format for the hosts of repositories is made of.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::{
    lines::{Lines, Region},
    worst_first,
};
use crate::diagnostic::Diagnostic;

/// Findings and the files that they stand in.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// What was found.
    pub diagnostics: &'a [Diagnostic],
    /// What was read, by the path in the declaration's folder.
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// The folder's path from the root of the repository; empty for the root.
    pub folder: &'a str,
}

/// One finding, its place as the hosts want it.
pub struct Entry<'a> {
    /// The finding.
    pub diagnostic: &'a Diagnostic,
    /// Path from the root of the repository; `None` where the finding stands in no file.
    pub path: Option<String>,
    /// Where in the file.
    pub region: Option<Region>,
    /// Further places: path, where, and what is to be seen there.
    pub related: Vec<(String, Region, &'a str)>,
    /// The same as long as the finding is the same, wherever its line moves to; 64 hexadecimal digits.
    pub fingerprint: String,
}

impl Entry<'_> {
    /// The message, and what to do about it.
    pub fn text(&self) -> String {
        match &self.diagnostic.hint {
            Some(hint) => format!("{}\nhelp: {hint}", self.diagnostic.message),
            None => self.diagnostic.message.clone(),
        }
    }
}

impl<'a> Report<'a> {
    /// Every finding, errors first.
    pub fn entries(&self) -> Vec<Entry<'a>> {
        let lines = Lines::new(self.files);
        let mut alike: BTreeMap<String, usize> = BTreeMap::new();
        let entry = |diagnostic: &'a Diagnostic| {
            let path = diagnostic.location.as_ref().map(|location| self.path(&location.file));
            let what = format!(
                "{}\n{}\n{}",
                diagnostic.code,
                path.as_deref().unwrap_or_default(),
                diagnostic.message
            );
            let number = alike.entry(what.clone()).or_default();
            *number += 1;
            let fingerprint = hex::encode(Sha256::digest(format!("{what}\n{number}").as_bytes()));
            let region = diagnostic.location.as_ref().map(|location| lines.region(location));
            let related = diagnostic.related.iter().map(|related| {
                let place = &related.location;
                (self.path(&place.file), lines.region(place), related.message.as_str())
            });
            Entry { diagnostic, path, region, related: related.collect(), fingerprint }
        };
        worst_first(self.diagnostics).into_iter().map(entry).collect()
    }

    /// The path of a file from the root of the repository.
    pub fn path(&self, file: &str) -> String {
        match self.folder {
            "" | "." => file.to_owned(),
            folder => format!("{}/{file}", folder.trim_end_matches('/')),
        }
    }
}
