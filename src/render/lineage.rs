//! Artifacts as a tree: what goes on from what.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Palette,
    artifacts::{Listing, Row},
    bytes,
};
use crate::{
    artifact::{ArtifactId, Kind},
    inventory::Condition,
    spec::names::BackupName,
};

/// Logs in a row that are shown one by one.
const FEW: usize = 2;

/// A listing as trees, one a backup.
#[derive(Clone, Copy, Debug)]
pub struct Lineage<'a> {
    listing: &'a Listing,
    palette: Palette,
}

/// What stands on one line.
enum Branch<'a> {
    One(&'a Row),
    /// Logs, each of which goes on from the one before; more than [`FEW`].
    Logs(Vec<&'a Row>),
}

impl<'a> Lineage<'a> {
    /// The tree of what `listing` holds.
    pub fn of(listing: &'a Listing, palette: Palette) -> Self {
        Self { listing, palette }
    }

    /// The trees as text.
    pub fn text(&self) -> String {
        let rows = &self.listing.artifacts;
        let backups: BTreeSet<&BackupName> = rows.iter().map(|row| &row.backup).collect();
        let mut out = String::new();
        for backup in backups {
            let all: Vec<&Row> = rows.iter().filter(|row| row.backup == *backup).collect();
            let ids: BTreeSet<ArtifactId> = all.iter().map(|row| row.artifact).collect();
            let mut under: BTreeMap<Option<ArtifactId>, Vec<&Row>> = BTreeMap::new();
            for row in all {
                under.entry(row.goes_on_from.filter(|on| ids.contains(on))).or_default().push(row);
            }
            out.push_str(&format!("{backup}\n"));
            self.branches(None, &under, "", &mut out);
        }
        out + &self.listing.remarks(self.palette)
    }

    fn branches(
        &self,
        on: Option<ArtifactId>,
        under: &BTreeMap<Option<ArtifactId>, Vec<&'a Row>>,
        indent: &str,
        out: &mut String,
    ) {
        let branches = branches(on, under);
        let last = branches.len().saturating_sub(1);
        for (number, branch) in branches.iter().enumerate() {
            let (corner, bar) = if number == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            out.push_str(&format!("{indent}{corner}{}\n", self.line(branch)));
            if let Branch::One(row) = branch
                && row.kind != Kind::Log
            {
                self.branches(Some(row.artifact), under, &format!("{indent}{bar}"), out);
            }
        }
    }

    fn line(&self, branch: &Branch<'_>) -> String {
        match branch {
            Branch::One(row) => {
                let gap = if row.kind == Kind::Log && row.goes_on_from.is_none() {
                    self.palette.warn("  goes on from nothing that is here")
                } else {
                    String::new()
                };
                format!(
                    "{}  {}  {}  {}{gap}",
                    row.artifact,
                    row.kind,
                    self.listing.moment(row),
                    self.copies(row)
                )
            }
            Branch::Logs(logs) => {
                let ends = logs.first().zip(logs.last()).map(|(first, last)| {
                    format!("up to {} … {}", self.listing.moment(first), self.listing.moment(last))
                });
                format!("{} logs  {}", logs.len(), ends.unwrap_or_default())
            }
        }
    }

    fn copies(&self, row: &Row) -> String {
        let copy = |(store, stored): (_, &super::artifacts::Stored)| match &stored.condition {
            Condition::Good => format!("{store} {}", bytes(stored.bytes)),
            Condition::Damaged(_) => self.palette.bad(format!("{store} damaged")),
            Condition::Unknown(_) => self.palette.warn(format!("{store} unknown")),
        };
        row.stores.iter().map(copy).collect::<Vec<_>>().join(", ")
    }
}

/// What goes on from one artifact. Logs that go on from each other are no deeper than their first.
fn branches<'a>(
    on: Option<ArtifactId>,
    under: &BTreeMap<Option<ArtifactId>, Vec<&'a Row>>,
) -> Vec<Branch<'a>> {
    let mut branches = Vec::new();
    for row in under.get(&on).into_iter().flatten() {
        let run = run(row, under);
        match run.len() {
            0..=FEW => branches.extend(run.into_iter().map(Branch::One)),
            _ => branches.push(Branch::Logs(run)),
        }
    }
    branches
}

/// An artifact and, if it is a log, the logs that go on from it one after another.
fn run<'a>(row: &'a Row, under: &BTreeMap<Option<ArtifactId>, Vec<&'a Row>>) -> Vec<&'a Row> {
    let mut run = vec![row];
    while let Some(last) = run.last().filter(|last| last.kind == Kind::Log)
        && let Some(next) = under.get(&Some(last.artifact)).and_then(|next| next.first())
    {
        run.push(next);
    }
    run
}
