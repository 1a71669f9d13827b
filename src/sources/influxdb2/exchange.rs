//! A bucket in the place of another: what was restored beside it gets its name, and what belongs to it, before it goes.

use super::{
    Failure, Influxdb2Source,
    api::{Api, Made, Standing},
    inspect,
    names::BucketName,
};
use crate::sources::existing::Existing;

/// Gives `name` to the bucket that was made, and removes the one that has it. Returns descriptions of tokens that were made for
/// the one that went, and do not reach the new one.
pub(super) async fn exchange(
    source: &Influxdb2Source,
    organization: &str,
    name: &BucketName,
    made: &Made,
) -> Result<Vec<String>, Failure> {
    let api = &source.api;
    let Some(original) = api.bucket(organization, name).await? else {
        return api.rename(&made.id, name).await.map(|()| Vec::new());
    };
    let tokens = api.tokens_of(organization, &original.id).await?;
    let labels = api.labels(&original.id).await?;
    let dbrps = api.dbrps(organization, &original.id).await?;
    let aside = swap(api, name, &original, made).await?;
    let unfinished = |what: String| {
        let what = format!("{what} (the bucket that it replaces is called {aside} now)");
        move |why: Failure| Failure::Unfinished { bucket: name.to_string(), what, why: why.reason() }
    };
    for label in &labels {
        api.label(&made.id, label).await.map_err(unfinished(format!("to put label {label} on it")))?;
    }
    for dbrp in &dbrps {
        let what =
            format!("to map database {} and retention policy {} to it", dbrp.database, dbrp.retention_policy);
        api.move_dbrp(organization, dbrp, &made.id).await.map_err(unfinished(what))?;
    }
    let what = "to remove the other one".to_owned();
    if source.existing == Existing::Refused
        && inspect::has_points(source, &original.id).await.map_err(unfinished(what.clone()))?
    {
        let written = "somebody wrote points into it meanwhile".to_owned();
        return Err(unfinished(what)(Failure::Refused(written)));
    }
    api.remove(&original.id).await.map_err(unfinished(what))?;
    Ok(tokens)
}

/// Exchanges the names, and returns the original's new one. Where the second step fails the first is undone: the original is
/// what it was.
async fn swap(api: &Api, name: &BucketName, original: &Standing, made: &Made) -> Result<BucketName, Failure> {
    let aside = name.beside();
    api.rename(&original.id, &aside).await?;
    let Err(why) = api.rename(&made.id, name).await else { return Ok(aside) };
    match api.rename(&original.id, name).await {
        Ok(()) => Err(why),
        Err(_) => Err(Failure::Refused(format!(
            "{}; bucket {name} is called {aside} now, untouched: give it its name again by `influx bucket update`",
            why.reason()
        ))),
    }
}
