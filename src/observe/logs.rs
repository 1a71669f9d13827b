//! What servers keep of their logs until that is captured.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use super::Freshness;
use crate::{
    inventory::{LogSeen, Observed},
    sources::Source,
    spec::names::BackupName,
};

/// How long a server may take to tell.
const LIMIT: Duration = Duration::from_secs(15);

/// Asks the servers, beside each other, of which what was seen `before` is not fresh enough.
pub(super) async fn look(
    sources: &BTreeMap<BackupName, Result<Box<dyn Source>, String>>,
    before: &BTreeMap<BackupName, LogSeen>,
    freshness: Freshness,
    now: Timestamp,
) -> BTreeMap<BackupName, LogSeen> {
    let looks = sources.iter().map(|(name, source)| async move {
        let seen = match before.get(name) {
            Some(seen) if is_within(seen.at, freshness, now) => Some(seen.clone()),
            _ if freshness == Freshness::AsSeen => None,
            _ => Some(LogSeen { at: now, found: ask(source).await }),
        };
        Some((name.clone(), seen?))
    });
    join_all(looks).await.into_iter().flatten().collect()
}

/// Whether what was seen `at` is fresh enough.
pub(super) fn is_within(at: Timestamp, freshness: Freshness, now: Timestamp) -> bool {
    match freshness {
        Freshness::Now => false,
        Freshness::AsSeen => true,
        Freshness::Within(age) => at <= now && now.duration_since(at).unsigned_abs() <= age,
    }
}

async fn ask(source: &Result<Box<dyn Source>, String>) -> Observed<Option<crate::inventory::KeptLog>> {
    let source = match source {
        Ok(source) => source,
        Err(why) => return Observed::Unknown(why.clone()),
    };
    match tokio::time::timeout(LIMIT, source.kept_log()).await {
        Ok(Ok(kept)) => Observed::Known(kept),
        Ok(Err(error)) => Observed::Unknown(error.to_string()),
        Err(_) => Observed::Unknown(format!("no answer within {}s", LIMIT.as_secs())),
    }
}
