//! A capture that the source's provider makes and keeps: what the store gets is the manifest alone.

use super::{At, CaptureOrder, Failed, Means, Stage, commit, error::Fault, trail::Trail};
use crate::{
    apply::lease::Held,
    artifact::{
        Manifest,
        manifest::{Content, Moment, NativePlace, Sealed},
    },
    inventory::{NativeName, NativeState},
    sources::{MadeNative, Provider, SourceError},
    stores::Class,
};

/// Has the provider make a backup of its own under the artifact's name, and commits its manifest once the provider says that it
/// can be restored.
pub(super) async fn under_lease(
    order: &CaptureOrder,
    means: &Means<'_>,
    lease: &Held<'_>,
    trail: &mut Trail,
) -> Result<Manifest, Failed> {
    let provider = means.source.provider().ok_or_else(|| no_provider(order)).at(Stage::Providing)?;
    let name = NativeName::of(&means.folder.fleet, &means.folder.backup, order.artifact);
    let making = async { provider.make(&name, means.clock).await.map_err(Fault::from) };
    let made = lease.during(means.clock, making).await.at(Stage::Providing)?;
    let confirming = confirm(provider, &made);
    lease.during(means.clock, confirming).await.at(Stage::Confirming)?;
    let manifest = describe(order, means, provider, made).at(Stage::Committing)?;
    commit::commit(means, lease, &manifest, trail).await.at(Stage::Committing)?;
    Ok(manifest)
}

/// Asks once more: a manifest must not name what can't be restored.
async fn confirm(provider: &dyn Provider, made: &MadeNative) -> Result<(), Fault> {
    let state = provider.state(&made.reference).await?;
    match state {
        NativeState::Available => Ok(()),
        other => {
            let why = format!("its provider says that it is {other:?} just after it was made");
            Err(SourceError::new("back up", made.reference.clone(), Class::Retry, why).into())
        }
    }
}

fn describe(
    order: &CaptureOrder,
    means: &Means<'_>,
    provider: &dyn Provider,
    made: MadeNative,
) -> Result<Manifest, Fault> {
    let MadeNative { reference, account, moment, details } = made;
    let sealed = Sealed { sha256: None, details };
    let place = order.native_place.clone().map(|place| NativePlace { account, ..place });
    let content = Content::Native { provider: provider.kind().to_owned(), reference, place };
    let moment = Moment::At { time: moment, position: None };
    commit::manifest(order, means, None, moment, content, &sealed)
}

fn no_provider(order: &CaptureOrder) -> SourceError {
    let reason = "this build has no driver for its provider";
    SourceError::new("back up", order.capture.backup.to_string(), Class::Stalled, reason)
}
