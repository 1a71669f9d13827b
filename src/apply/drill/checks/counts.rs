//! Whether every table has the rows that it had when it was captured.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{found, named, unmade};
use crate::{
    apply::stream,
    artifact::{Manifest, drill::Finding, manifest::Counts},
    keys::Keys,
    sources::Source,
    spec::DrillCheck,
};

/// Compares the rows that `inspector` counts with those that were counted when the data was captured.
pub(in crate::apply) async fn counts(
    manifests: &[Manifest],
    inspector: &dyn Source,
    keys: &Arc<Keys>,
) -> Finding {
    let (check, expected) = (&DrillCheck::Counts, "the rows of the capture".to_owned());
    let sealed = manifests.last().map(|manifest| stream::sealed(manifest, keys));
    let captured = match sealed {
        Some(Ok(Some(sealed))) => match sealed.details.counts {
            Counts::Captured(counts) => counts,
            Counts::NotCaptured(why) => return unmade(check, expected, format!("none were captured: {why}")),
        },
        Some(Ok(None)) | None => return unmade(check, expected, "none were captured".to_owned()),
        Some(Err(error)) => return unmade(check, expected, error.to_string()),
    };
    match inspector.count().await {
        Ok(Counts::Captured(counted)) => compared(&captured, &counted),
        Ok(Counts::NotCaptured(why)) => unmade(check, expected, why),
        Err(error) => unmade(check, expected, error.to_string()),
    }
}

fn compared(captured: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Finding {
    let sum = |counts: &BTreeMap<String, u64>| {
        format!("{} rows in {} tables", counts.values().sum::<u64>(), counts.len())
    };
    let rows = |count: Option<&u64>| count.map_or("no table".to_owned(), u64::to_string);
    let names: BTreeSet<&String> = captured.keys().chain(counted.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| captured.get(*name) != counted.get(*name))
        .map(|name| format!("{name}: {} instead of {}", rows(counted.get(name)), rows(captured.get(name))))
        .collect();
    if differing.is_empty() {
        return found(&DrillCheck::Counts, sum(captured), sum(counted), true);
    }
    found(&DrillCheck::Counts, sum(captured), named(&differing), false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::drill::Verdict;

    #[test]
    fn a_table_that_lacks_rows_or_is_missing_or_new_is_named() {
        let counts = |all: &[(&str, u64)]| all.iter().map(|(name, rows)| (name.to_string(), *rows)).collect();
        let captured: BTreeMap<String, u64> = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(compared(&captured, &captured).verdict, Verdict::Passed);
        for other in
            [counts(&[("a", 1), ("b", 1)]), counts(&[("a", 1)]), counts(&[("a", 1), ("b", 2), ("c", 0)])]
        {
            let finding = compared(&captured, &other);
            assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
        }
        assert_eq!(compared(&captured, &counts(&[("a", 1)])).found, "b: no table instead of 2");
    }
}
