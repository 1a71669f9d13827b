//! Whether the server has taken in what was restored. The program tells nothing of it: the server itself is asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Failure, InfluxdbSource,
    metadata::Span,
    names::{DatabaseName, identifier},
};

/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// When a database that is being loaded counts as whole.
#[derive(Clone, Copy, Debug)]
pub(super) enum Whole<'a> {
    /// Every shard that holds data in the backup holds data.
    EveryShard,
    /// And at least as much as the same shard of this database, a complete copy. Where others write, a shard may hold
    /// their points and nothing else.
    AsMuchAs(&'a DatabaseName),
}

/// Bytes of data by shard.
type Held = BTreeMap<Span, u64>;

/// Waits until the server has taken in every shard that holds data, and answers on all of them. It takes in a shard as a
/// whole or not at all.
pub(super) async fn settled(
    source: &InfluxdbSource,
    database: &DatabaseName,
    expected: &BTreeSet<Span>,
    whole: Whole<'_>,
) -> Result<(), Failure> {
    let (mut seen, mut since) = ((Held::new(), Held::new()), Instant::now());
    loop {
        let least = match whole {
            Whole::EveryShard => expected.iter().map(|span| (span.clone(), 1)).collect(),
            // Looked at again each time: the server packs the shards of both more tightly, each in its own time.
            Whole::AsMuchAs(copy) => held(source, copy).await?,
        };
        let held = held(source, database).await?;
        let missing = missing(expected, &least, &held);
        if missing.is_empty() && answers(source, database, expected).await? {
            return Ok(());
        }
        let now = (least, held);
        if now != seen {
            (seen, since) = (now, Instant::now());
        } else if since.elapsed() >= source.settling {
            return Err(Failure::Incomplete(format!(
                "the server shows {} of {} shards with data in database {database}; its log tells why, and a retention \
                 policy may have expired them meanwhile",
                expected.len() - missing.len(),
                expected.len()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Shards that hold less than they must.
fn missing<'a>(expected: &'a BTreeSet<Span>, least: &Held, held: &Held) -> Vec<&'a Span> {
    let is_there = |span: &Span| match (least.get(span), held.get(span)) {
        (Some(least), Some(held)) => held >= least,
        _ => false,
    };
    expected.iter().filter(|span| !is_there(span)).collect()
}

/// How much data each shard holds; none that holds nothing.
async fn held(source: &InfluxdbSource, database: &DatabaseName) -> Result<Held, Failure> {
    let mut sizes = BTreeMap::new();
    for shard in source.api.ask("SHOW STATS FOR 'tsm1_filestore'").await? {
        let sum = |column: &str| shard.column(column).filter_map(serde_json::Value::as_u64).sum::<u64>();
        let id = shard.tags.get("id").and_then(|id| id.parse::<u64>().ok());
        if let (Some(id), 1..) = (id, sum("numFiles")) {
            sizes.insert(id, sum("diskBytes"));
        }
    }
    let mut held = Held::new();
    for (id, span) in source.api.shards(database).await? {
        if let Some(bytes) = sizes.get(&id) {
            *held.entry(span).or_default() += bytes;
        }
    }
    Ok(held)
}

/// Whether queries are answered: a shard is disabled while it is taken in.
async fn answers(
    source: &InfluxdbSource,
    database: &DatabaseName,
    spans: &BTreeSet<Span>,
) -> Result<bool, Failure> {
    let policies: BTreeSet<&str> = spans.iter().map(|span| span.policy.as_str()).collect();
    for policy in policies {
        let from = format!("{}.{}./.*/", identifier(database.as_str()), identifier(policy));
        match source.api.ask(&format!("EXPLAIN SELECT * FROM {from}")).await {
            Ok(_) => {}
            Err(Failure::Answer(why)) if why.contains("shard is disabled") || why.contains("is closed") => {
                return Ok(false);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_missing_where_it_holds_less_than_it_must_whatever_others_hold() {
        let span = |policy: &str, start| Span { policy: policy.to_owned(), start };
        let (one, other) = (span("autogen", 0), span("autogen", 7));
        let expected = BTreeSet::from([one.clone(), other.clone()]);
        let held =
            |sizes: &[(&Span, u64)]| sizes.iter().map(|(span, size)| ((*span).clone(), *size)).collect();
        let least: Held = held(&[(&one, 100), (&other, 1)]);
        for (sizes, gone) in [
            (held(&[(&one, 100), (&other, 1)]), vec![]),
            (held(&[(&one, 99), (&other, 500)]), vec![&one]),
            (held(&[(&one, 100), (&span("long", 7), 5)]), vec![&other]),
            (held(&[]), vec![&one, &other]),
        ] {
            assert_eq!(missing(&expected, &least, &sizes), gone);
        }
        assert_eq!(missing(&expected, &held(&[(&one, 1)]), &held(&[(&one, 1), (&other, 1)])), [&other]);
    }
}
