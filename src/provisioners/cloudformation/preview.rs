//! What making a stack would do, by a change set: of a stack with a name of its own, so that a preview is never in the way of
//! the real one, and goes with all that it left.

use aws_sdk_cloudformation::types::{Change, ChangeSetStatus, ResourceChange};
use tokio::{runtime::Handle, time::Instant};

use super::{
    Pace,
    failure::Failure,
    reach::{self, Reach},
    status::plain,
    wanted::Wanted,
};

/// The changes that making `wanted` would bring, a line each.
pub(super) async fn changes(reach: &Reach, wanted: &Wanted, pace: Pace) -> Result<Vec<String>, Failure> {
    let name = format!("{}-preview-{}", wanted.name(), &reach::token()[..8]);
    let mut review = Review { reach: reach.clone(), left: Some((name.clone(), None)) };
    let changes = match reach.review(wanted, &name).await {
        Ok((stack, change_set)) => {
            review.left = Some((stack, Some(change_set.clone())));
            settled(reach, &change_set, pace).await
        }
        Err(failure) => Err(failure),
    };
    let removed = review.end().await;
    let changes = changes?;
    removed?;
    Ok(changes.iter().filter_map(Change::resource_change).map(line).collect())
}

/// The changes, once the server has worked them out.
async fn settled(reach: &Reach, change_set: &str, pace: Pace) -> Result<Vec<Change>, Failure> {
    let begun = Instant::now();
    loop {
        let mut told = reach.change_set(change_set, None).await?;
        match told.status() {
            Some(ChangeSetStatus::CreateComplete) => {
                let mut changes = told.changes.take().unwrap_or_default();
                while let Some(next) = told.next_token.take() {
                    told = reach.change_set(change_set, Some(next)).await?;
                    changes.extend(told.changes.take().unwrap_or_default());
                }
                return Ok(changes);
            }
            Some(ChangeSetStatus::CreatePending | ChangeSetStatus::CreateInProgress) => {}
            status => {
                let status = status.map_or("without a status", ChangeSetStatus::as_str);
                let reason = plain(told.status_reason().unwrap_or("the server gives no reason"));
                return Err(Failure::Refused(format!("its change set is {status}: {reason}")));
            }
        }
        if begun.elapsed() > pace.quiet {
            return Err(Failure::Refused("its change set was not worked out in time".to_owned()));
        }
        tokio::time::sleep(pace.poll).await;
    }
}

/// As in `Add Vm (AWS::EC2::Instance)`.
fn line(change: &ResourceChange) -> String {
    let text = |text: Option<&str>| plain(text.unwrap_or("?"));
    let action = text(change.action().map(|action| action.as_str()));
    let (name, kind) = (text(change.logical_resource_id()), text(change.resource_type()));
    let replacement = match change.replacement().map(|replacement| replacement.as_str()) {
        Some("True") => ", replaced",
        Some("Conditional") => ", perhaps replaced",
        _ => "",
    };
    format!("{action} {name} ({kind}){replacement}")
}

/// A stack that holds nothing but a change set. Removed when it is dropped, as far as the runtime lets it.
struct Review {
    reach: Reach,
    /// The stack, by its id or by its name that nothing else has, and the change set.
    left: Option<(String, Option<String>)>,
}

impl Review {
    async fn end(mut self) -> Result<(), Failure> {
        match self.left.take() {
            Some((stack, change_set)) => remove(&self.reach, &stack, change_set.as_deref()).await,
            None => Ok(()),
        }
    }
}

impl Drop for Review {
    fn drop(&mut self) {
        if let (Some((stack, change_set)), Ok(runtime)) = (self.left.take(), Handle::try_current()) {
            let reach = self.reach.clone();
            runtime.spawn(async move { remove(&reach, &stack, change_set.as_deref()).await.ok() });
        }
    }
}

async fn remove(reach: &Reach, stack: &str, change_set: Option<&str>) -> Result<(), Failure> {
    reach.delete(stack).await?;
    if let Some(change_set) = change_set {
        reach.drop_change_set(change_set).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::{ChangeAction, Replacement};

    use super::*;

    #[test]
    fn a_change_is_a_line() {
        let change = ResourceChange::builder()
            .action(ChangeAction::Add)
            .logical_resource_id("Vm")
            .resource_type("AWS::EC2::Instance");
        assert_eq!(line(&change.clone().build()), "Add Vm (AWS::EC2::Instance)");
        let replaced = change.action(ChangeAction::Modify).replacement(Replacement::True).build();
        assert_eq!(line(&replaced), "Modify Vm (AWS::EC2::Instance), replaced");
    }
}
