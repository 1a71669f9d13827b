//! What making a stack would do, by a change set: of a stack with a name of its own, so that a preview is never in the way of
//! the real one, and goes with all that it left.

use std::time::Duration;

use aws_sdk_cloudformation::{
    operation::describe_change_set::DescribeChangeSetOutput,
    types::{Change, ChangeSetStatus, ResourceChange, Stack, StackResourceSummary, Tag},
};
use tokio::{runtime::Handle, time::Instant};

use super::{
    Pace,
    failure::Failure,
    reach::{self, Reach},
    status::{self, plain},
    wanted::Wanted,
};
use crate::inventory::PreviewMark;

/// How long what was asked for may not be seen: whoever asked may have been killed at that very moment.
const SEEN: Duration = Duration::from_secs(20);

/// Between two looks for it.
const LOOK: Duration = Duration::from_secs(2);

/// The name of the stack that a preview opens.
pub(super) fn name(wanted: &Wanted, mark: &PreviewMark) -> String {
    format!("{}-preview-{mark}", wanted.name())
}

/// The stack that a preview left which was cut off, if it did.
pub(super) async fn left(reach: &Reach, name: &str) -> Result<Option<Stack>, Failure> {
    let deadline = Instant::now() + SEEN;
    loop {
        match reach.stack(name).await? {
            Some(stack) => return Ok(Some(stack)),
            None if Instant::now() >= deadline => return Ok(None),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// The change sets of a stack that a preview left; refuses a stack that is anything else by now.
pub(super) async fn must_be_ours(
    reach: &Reach,
    wanted: &Wanted,
    stack: &Stack,
) -> Result<Vec<String>, Failure> {
    let id = status::id_of(stack)?;
    let (resources, change_sets) = (reach.resources(id).await?, reach.change_sets(id).await?);
    match strange(wanted, stack, &resources, &change_sets) {
        None => Ok(change_sets.into_iter().filter_map(|it| it.change_set_id).collect()),
        Some(why) => Err(Failure::Foreign(format!(
            "stack {} bears the name of a preview, and {why}; it is left alone: look whose it is, and delete it",
            plain(stack.stack_name().unwrap_or_default())
        ))),
    }
}

/// Why a stack is not what a preview leaves: a stack of ours that holds nothing but change sets of ours, all of which say so.
fn strange(
    wanted: &Wanted,
    stack: &Stack,
    resources: &[StackResourceSummary],
    change_sets: &[DescribeChangeSetOutput],
) -> Option<String> {
    let is_ours = |tags: &[Tag]| wanted.is_marked(tags);
    let named = |it: &DescribeChangeSetOutput| {
        it.change_set_name().is_some_and(|name| name.starts_with(reach::CHANGE_SET))
    };
    let foreign = change_sets.iter().find(|it| !named(it) || is_ours(it.tags()) != Some(true));
    match status::of(stack) {
        status::REVIEWED | status::DELETING => {}
        _ => return Some(format!("is {}", status::told(stack))),
    }
    if let Some(resource) = resources.first() {
        return Some(format!("holds {}", plain(resource.logical_resource_id().unwrap_or("a resource"))));
    }
    if let Some(foreign) = foreign {
        let name = plain(foreign.change_set_name().unwrap_or_default());
        return Some(format!("has the change set {name}, which is not Backstay's of {wanted}"));
    }
    match is_ours(stack.tags()) {
        Some(false) => Some(format!("its tags say that it is not of {wanted}")),
        // A server may give the tags of a change set to its stack only once it is executed.
        None if change_sets.is_empty() => {
            Some("neither its tags nor a change set tells whose it is".to_owned())
        }
        Some(true) | None => None,
    }
}

/// The changes that making `wanted` would bring, a line each.
pub(super) async fn changes(
    reach: &Reach,
    wanted: &Wanted,
    mark: &PreviewMark,
    pace: Pace,
) -> Result<Vec<String>, Failure> {
    let name = name(wanted, mark);
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
    use std::collections::BTreeMap;

    use aws_sdk_cloudformation::types::{ChangeAction, Replacement, StackStatus};

    use super::{super::wanted::Declared, *};

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

    #[test]
    fn only_what_holds_nothing_but_our_change_sets_is_what_a_preview_left() {
        let (fleet, vm) = ("aws".parse().unwrap(), "web".parse().unwrap());
        let stack = crate::spec::Cloudformation {
            region: "eu-north-1".to_owned(),
            endpoint: None,
            credentials: None,
            stack: None,
            parameters: BTreeMap::new(),
            capabilities: Vec::new(),
        };
        let stack = &stack;
        let of = |vm| {
            let (stands_for, controller) = (None, "c0");
            Wanted::of(Declared { fleet: &fleet, vm, stands_for, controller, stack, body: "x" }).unwrap()
        };
        let (wanted, other) = (of(&vm), of(&"db".parse().unwrap()));
        let left = |status: &str, tags: Option<Vec<Tag>>| {
            Stack::builder().stack_status(StackStatus::from(status)).set_tags(tags).build()
        };
        let set = |name: &str, tags| {
            DescribeChangeSetOutput::builder().change_set_name(name).set_tags(tags).build()
        };
        let ours = || Some(wanted.tags());
        let resource = StackResourceSummary::builder().logical_resource_id("Vm").build();
        let judge = |stack: Stack, resources: &[StackResourceSummary], sets: &[DescribeChangeSetOutput]| {
            strange(&wanted, &stack, resources, sets)
        };
        let sets = [set("backstay-1", ours())];
        for tags in [None, ours()] {
            assert_eq!(judge(left(status::REVIEWED, tags), &[], &sets), None);
        }
        assert_eq!(judge(left(status::REVIEWED, ours()), &[], &[]), None);
        assert_eq!(judge(left(status::DELETING, ours()), &[], &[]), None);
        let strangers = [
            (judge(left("CREATE_COMPLETE", ours()), &[], &sets), "CREATE_COMPLETE"),
            (judge(left(status::REVIEWED, ours()), &[resource], &sets), "holds Vm"),
            (judge(left(status::REVIEWED, ours()), &[], &[set("theirs", ours())]), "theirs"),
            (judge(left(status::REVIEWED, None), &[], &[set("backstay-1", None)]), "backstay-1"),
            (
                judge(left(status::REVIEWED, None), &[], &[set("backstay-1", Some(other.tags()))]),
                "backstay-1",
            ),
            (judge(left(status::REVIEWED, Some(other.tags())), &[], &sets), "its tags"),
            (judge(left(status::REVIEWED, None), &[], &[]), "whose it is"),
        ];
        for (why, told) in strangers {
            assert!(why.as_ref().is_some_and(|why| why.contains(told)), "{why:?} does not tell {told}");
        }
    }
}
