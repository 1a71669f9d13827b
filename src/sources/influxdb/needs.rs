//! What a user lacks for captures that a restore makes whole again.

use super::{Failure, InfluxdbSource, grants::granted};
use crate::sources::Lack;

/// Looks whether what only an administrator may list can be.
pub(super) async fn lacks(source: &InfluxdbSource) -> Result<Vec<Lack>, Failure> {
    let Some(database) = source.declared().await?.into_iter().next() else { return Ok(Vec::new()) };
    let queries = source.api.continuous_queries(&database).await.map(drop);
    let grants = granted(&source.api, &database).await.map(drop);
    let mut hidden = Vec::new();
    for (what, found) in [("continuous queries", queries), ("grants", grants)] {
        match found {
            Ok(()) => {}
            Err(Failure::Forbidden(_)) => hidden.push(what),
            Err(failure) => return Err(failure),
        }
    }
    if hidden.is_empty() {
        return Ok(Vec::new());
    }
    let user = source.api.user().unwrap_or_default();
    let what =
        format!("user {user} may not list {}: a restore does not make them again", hidden.join(" and "));
    let grant = format!("GRANT ALL PRIVILEGES TO {}", super::names::identifier(user));
    Ok(vec![Lack::warning(what, grant)])
}
