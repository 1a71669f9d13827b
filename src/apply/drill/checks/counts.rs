//! Whether every table has the rows that it had when it was captured: as many, and the same ones where checksums tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{found, named, unmade};
use crate::{
    apply::stream,
    artifact::{
        Manifest,
        drill::Finding,
        manifest::{Checksums, Counting, Counts, Rows},
    },
    keys::Keys,
    sources::Source,
    spec::DrillCheck,
};

/// Compares the rows that `inspector` finds with those that were found when the data was captured.
pub(in crate::apply) async fn counts(
    manifests: &[Manifest],
    inspector: &dyn Source,
    keys: &Arc<Keys>,
) -> Finding {
    let captured = match captured(manifests, keys) {
        Ok(captured) => captured,
        Err(why) => return not_compared(why),
    };
    match inspector.count(captured.comparable()).await {
        Ok(rows) => compared(&captured, rows),
        Err(error) => not_compared(error.to_string()),
    }
}

/// What was found when the data was captured.
struct Captured {
    counts: BTreeMap<String, u64>,
    checksums: Option<Checksums>,
}

impl Captured {
    /// What can be compared with it.
    fn comparable(&self) -> Counting {
        match self.checksums {
            Some(Checksums::Captured { .. }) => Counting::RowsAndChecksums,
            Some(Checksums::NotCaptured(_)) | None => Counting::Rows,
        }
    }
}

fn captured(manifests: &[Manifest], keys: &Arc<Keys>) -> Result<Captured, String> {
    let sealed = manifests.last().map(|manifest| stream::sealed(manifest, keys)).transpose();
    let details = match sealed.map_err(|error| error.to_string())?.flatten() {
        Some(sealed) => sealed.details,
        None => return Err("none were captured".to_owned()),
    };
    match details.counts {
        Counts::Captured(counts) => Ok(Captured { counts, checksums: details.checksums }),
        Counts::NotCaptured(why) => Err(format!("none were captured: {why}")),
    }
}

fn not_compared(why: String) -> Finding {
    unmade(&DrillCheck::Counts, "the rows of the capture".to_owned(), why)
}

fn compared(captured: &Captured, rows: Rows) -> Finding {
    let counted = match rows.counts {
        Counts::Captured(counted) => counted,
        Counts::NotCaptured(why) => return not_compared(why),
    };
    let (expected, came_to) = (total(&captured.counts), total(&counted));
    let differing = differing(&captured.counts, &counted);
    if !differing.is_empty() {
        return found(&DrillCheck::Counts, expected, named(&differing), false);
    }
    match sums(captured.checksums.as_ref(), rows.checksums.as_ref()) {
        Sums::NoneTaken => found(&DrillCheck::Counts, expected, came_to, true),
        Sums::NotCaptured(why) => {
            let came_to = format!("{came_to}; no checksums of them were captured: {why}");
            found(&DrillCheck::Counts, expected, came_to, true)
        }
        Sums::NotComparable(why) => not_compared(format!("{came_to}, but not their checksums: {why}")),
        Sums::Differ(tables) => found(&DrillCheck::Counts, expected, named(&tables), false),
        Sums::Same => {
            let came_to = format!("{came_to}, the same by their checksums");
            found(&DrillCheck::Counts, expected, came_to, true)
        }
    }
}

fn total(counts: &BTreeMap<String, u64>) -> String {
    format!("{} rows in {} tables", counts.values().sum::<u64>(), counts.len())
}

fn differing(captured: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Vec<String> {
    let rows = |count: Option<&u64>| count.map_or("no table".to_owned(), u64::to_string);
    let names: BTreeSet<&String> = captured.keys().chain(counted.keys()).collect();
    names
        .into_iter()
        .filter(|name| captured.get(*name) != counted.get(*name))
        .map(|name| format!("{name}: {} instead of {}", rows(counted.get(name)), rows(captured.get(name))))
        .collect()
}

/// What the checksums of as many rows say.
#[derive(Debug, PartialEq, Eq)]
enum Sums {
    /// The source takes none.
    NoneTaken,
    NotCaptured(String),
    NotComparable(String),
    Same,
    /// By table.
    Differ(Vec<String>),
}

fn sums(captured: Option<&Checksums>, taken: Option<&Checksums>) -> Sums {
    let (method, expected) = match captured {
        None => return Sums::NoneTaken,
        Some(Checksums::NotCaptured(why)) => return Sums::NotCaptured(why.clone()),
        Some(Checksums::Captured { method, sums }) => (method, sums),
    };
    let (now, sums) = match taken {
        None => return Sums::NotComparable("none could be taken here".to_owned()),
        Some(Checksums::NotCaptured(why)) => return Sums::NotComparable(why.clone()),
        Some(Checksums::Captured { method, sums }) => (method, sums),
    };
    if method != now {
        return Sums::NotComparable(format!("they were taken as {method}, and are taken as {now} today"));
    }
    let names: BTreeSet<&String> = expected.keys().chain(sums.keys()).collect();
    let differing = names.into_iter().filter(|name| expected.get(*name) != sums.get(*name));
    let tables: Vec<String> =
        differing.map(|name| format!("{name}: as many rows, but not the same ones")).collect();
    if tables.is_empty() { Sums::Same } else { Sums::Differ(tables) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::drill::Verdict;

    fn counts(all: &[(&str, u64)]) -> BTreeMap<String, u64> {
        all.iter().map(|(name, rows)| (name.to_string(), *rows)).collect()
    }

    fn summed(method: &str, all: &[(&str, &str)]) -> Checksums {
        let sums = all.iter().map(|(name, sum)| (name.to_string(), sum.to_string())).collect();
        Checksums::Captured { method: method.to_owned(), sums }
    }

    #[test]
    fn a_table_that_lacks_rows_or_is_missing_or_new_is_named() {
        let counted = |all: &[(&str, u64)]| {
            let captured = Captured { counts: counts(&[("a", 1), ("b", 2)]), checksums: None };
            compared(&captured, Counts::Captured(counts(all)).into())
        };
        assert_eq!(counted(&[("a", 1), ("b", 2)]).verdict, Verdict::Passed);
        for other in [&[("a", 1), ("b", 1)][..], &[("a", 1)], &[("a", 1), ("b", 2), ("c", 0)]] {
            let finding = counted(other);
            assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
        }
        assert_eq!(counted(&[("a", 1)]).found, "b: no table instead of 2");
    }

    #[test]
    fn as_many_rows_that_are_not_the_same_are_told_and_what_was_not_compared_is() {
        let as_captured = summed("m", &[("a", "-7"), ("b", "8")]);
        let check = |captured: Option<Checksums>, taken: Option<Checksums>, verdict: Verdict, told: &str| {
            let all = counts(&[("a", 1), ("b", 2)]);
            let captured = Captured { counts: all.clone(), checksums: captured };
            let finding = compared(&captured, Rows { counts: Counts::Captured(all), checksums: taken });
            assert_eq!(finding.verdict, verdict, "{finding:?}");
            assert!(finding.found.contains(told), "{finding:?}");
        };
        let captured = || Some(as_captured.clone());
        let none = |why: &str| Some(Checksums::NotCaptured(why.to_owned()));
        check(captured(), captured(), Verdict::Passed, "the same by their checksums");
        check(captured(), Some(summed("m", &[("a", "7"), ("b", "8")])), Verdict::Failed, "a: as many rows");
        check(captured(), Some(summed("m", &[("a", "-7")])), Verdict::Failed, "b: as many rows");
        check(captured(), Some(summed("n", &[])), Verdict::CouldNotRun, "taken as n");
        check(captured(), none("too old"), Verdict::CouldNotRun, "too old");
        check(captured(), None, Verdict::CouldNotRun, "none could be taken");
        check(none("left out"), None, Verdict::Passed, "captured: left out");
        check(None, None, Verdict::Passed, "3 rows in 2 tables");
    }
}
