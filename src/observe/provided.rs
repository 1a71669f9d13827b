//! What providers keep by themselves of the data that they host.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;

use super::{Freshness, logs::is_within};
use crate::{
    inventory::{Named, Native, NativePrefix, Observed, Provided, ProvidedSeen},
    sources::{Source, SourceError},
    spec::{self, names::BackupName},
};

/// How long a provider may take to tell.
const LIMIT: Duration = Duration::from_secs(60);

/// A source whose provider is asked.
pub struct Hosted {
    /// What is declared.
    pub declared: spec::Source,
    /// The source; or why it can't even be asked.
    pub source: Result<Box<dyn Source>, String>,
    /// What the names of its native backups begin with, where it has any.
    pub natives: Option<NativePrefix>,
    /// Those that manifests name and that can be asked for there, as far as manifests tell, by reference.
    pub named: BTreeMap<String, Named>,
}

/// What was seen of a provider is good enough for no longer than this, however old else may be what is seen: what it can bring
/// back grows by the minute, and is judged by the objective.
const FRESH: Duration = Duration::from_secs(60);

/// Whether what was seen is of what is `declared` now, and fresh enough.
pub fn is_fresh(seen: &ProvidedSeen, declared: &spec::Source, freshness: Freshness, now: Timestamp) -> bool {
    let freshness = match freshness {
        Freshness::Within(age) => Freshness::Within(age.min(FRESH)),
        other => other,
    };
    seen.source == *declared && is_within(seen.at, freshness, now)
}

/// Asks the providers, beside each other.
pub async fn look(
    hosted: BTreeMap<BackupName, Hosted>,
    now: Timestamp,
) -> impl Iterator<Item = (BackupName, ProvidedSeen)> {
    let looks = hosted.into_iter().map(|(name, hosted)| async move {
        let found = ask(&hosted).await;
        (name, ProvidedSeen { at: now, source: hosted.declared, found })
    });
    join_all(looks).await.into_iter()
}

async fn ask(hosted: &Hosted) -> Observed<Provided> {
    let source = match &hosted.source {
        Ok(source) => source,
        Err(why) => return Observed::Unknown(why.clone()),
    };
    match tokio::time::timeout(LIMIT, told(source.as_ref(), hosted)).await {
        Ok(Ok(Some(provided))) => Observed::Known(provided),
        Ok(Ok(None)) => Observed::Unknown("this build has no driver for its provider".to_owned()),
        Ok(Err(error)) => Observed::Unknown(error.to_string()),
        Err(_) => Observed::Unknown(format!("no answer within {}s", LIMIT.as_secs())),
    }
}

async fn told(source: &dyn Source, hosted: &Hosted) -> Result<Option<Provided>, SourceError> {
    let Some(provider) = source.provider() else { return Ok(None) };
    let settings = provider.settings().await?;
    let Some(prefix) = &hosted.natives else {
        return Ok(Some(Provided { settings, natives: None, account: None }));
    };
    let account = provider.account().await?;
    let mut found = provider.natives(prefix).await?;
    // A list is of what is declared now; what was made of something that was declared before is asked for by itself.
    for (reference, Named { artifact, native }) in &hosted.named {
        let is_here = native.out_of_reach_of(&hosted.declared, account.as_deref()).is_none();
        if is_here && !found.contains_key(reference) {
            let state = provider.state(reference).await?;
            found.insert(reference.clone(), Native { artifact: *artifact, state });
        }
    }
    Ok(Some(Provided { settings, natives: Some(found), account }))
}
