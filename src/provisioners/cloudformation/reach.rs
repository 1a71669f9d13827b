//! The calls to CloudFormation.

use aws_sdk_cloudformation::{
    Client,
    config::{Builder, Config, retry::RetryConfig},
    error::ProvideErrorMetadata,
    operation::describe_change_set::DescribeChangeSetOutput,
    types::{
        ChangeSetSummary, ChangeSetType, OnFailure, Stack, StackResourceDrift, StackResourceDriftStatus,
        StackResourceSummary,
    },
};

use super::{Pace, events::Event, failure::Failure, wanted::Wanted};
use crate::aws::Fault;

/// The most pages of a listing that are read: 100 entries on each.
const PAGES: usize = 200;

/// What the names of our change sets begin with.
pub(super) const CHANGE_SET: &str = "backstay-";

/// The stacks of a region.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    client: Client,
}

impl Reach {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// A stack by its name, or by its id: deleted ones are told of by their ids. `None` only where the server says that there
    /// is none.
    pub(super) async fn stack(&self, name: &str) -> Result<Option<Stack>, Failure> {
        let asked = self.client.describe_stacks().stack_name(name).send().await;
        let answer = match asked {
            Err(error) if error.as_service_error().is_some_and(says_absent) => return Ok(None),
            other => other?,
        };
        let mut stacks = answer.stacks.unwrap_or_default();
        match (stacks.pop(), stacks.is_empty()) {
            (Some(stack), true) if [stack.stack_name(), stack.stack_id()].contains(&Some(name)) => {
                Ok(Some(stack))
            }
            _ => {
                Err(Failure::Wrong(format!("the server was asked for the stack {name}, and tells of others")))
            }
        }
    }

    /// The resources of a stack: all of them, or an error.
    pub(super) async fn resources(&self, id: &str) -> Result<Vec<StackResourceSummary>, Failure> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let page = self.client.list_stack_resources().stack_name(id).set_next_token(token).send().await?;
            found.extend(page.stack_resource_summaries.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("resources"))
    }

    /// The events of a stack, newest first, down to the page that holds `newest`; none of a stack that is no more.
    pub(super) async fn events(&self, id: &str, newest: Option<&str>) -> Result<Vec<Event>, Failure> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let asked = self.client.describe_stack_events().stack_name(id).set_next_token(token).send().await;
            let page = match asked {
                Err(error) if error.as_service_error().is_some_and(says_absent) => break,
                other => other?,
            };
            found.extend(page.stack_events().iter().map(Event::from));
            token = page.next_token;
            let reached = newest.is_some_and(|newest| found.iter().any(|event| event.id == newest));
            if token.is_none() || reached {
                break;
            }
        }
        Ok(found)
    }

    /// Begins to make a stack; its id. The call is made once: whoever gets no answer looks for the stack.
    pub(super) async fn create(&self, wanted: &Wanted, pace: Pace) -> Result<String, Failure> {
        let minutes = i32::try_from(pace.longest.as_secs() / 120).unwrap_or(i32::MAX).max(1);
        let call = self
            .client
            .create_stack()
            .stack_name(wanted.name())
            .template_body(wanted.body())
            .set_parameters(Some(wanted.parameters()))
            .set_capabilities(Some(wanted.capabilities()))
            .set_tags(Some(wanted.tags()))
            .on_failure(OnFailure::Rollback)
            .timeout_in_minutes(minutes)
            .client_request_token(token());
        let made = call.customize().config_override(once()).send().await?;
        made.stack_id.ok_or_else(|| Failure::Wrong("the server names no id of the stack".to_owned()))
    }

    /// Begins to delete a stack. What its template or a retained resource keeps is never forced.
    pub(super) async fn delete(&self, id: &str) -> Result<(), Failure> {
        self.client.delete_stack().stack_name(id).client_request_token(token()).send().await?;
        Ok(())
    }

    /// Has a change set made of a stack that is not there: the ids of the stack that this opens, and of the change set. The call
    /// is made once: without an answer there may be a stack of that name.
    pub(super) async fn review(&self, wanted: &Wanted, name: &str) -> Result<(String, String), Failure> {
        let call = self
            .client
            .create_change_set()
            .stack_name(name)
            .change_set_name(format!("{CHANGE_SET}{}", token()))
            .change_set_type(ChangeSetType::Create)
            .template_body(wanted.body())
            .set_parameters(Some(wanted.parameters()))
            .set_capabilities(Some(wanted.capabilities()))
            .set_tags(Some(wanted.tags()));
        let made = call.customize().config_override(once()).send().await?;
        let ids = made.stack_id.zip(made.id);
        ids.ok_or_else(|| Failure::Wrong("the server names no id of the change set".to_owned()))
    }

    /// A page of a change set.
    pub(super) async fn change_set(
        &self,
        id: &str,
        page: Option<String>,
    ) -> Result<DescribeChangeSetOutput, Failure> {
        Ok(self.client.describe_change_set().change_set_name(id).set_next_token(page).send().await?)
    }

    /// The change sets of a stack: all of them, or an error.
    pub(super) async fn change_sets(&self, stack: &str) -> Result<Vec<DescribeChangeSetOutput>, Failure> {
        let (mut found, mut token) = (Vec::new(), None);
        for _ in 0..PAGES {
            let asked = self.client.list_change_sets().stack_name(stack).set_next_token(token);
            let page = asked.send().await?;
            // Some servers list those of all stacks.
            let of_stack = |it: &&ChangeSetSummary| it.stack_id().is_none_or(|of| of == stack);
            for summary in page.summaries().iter().filter(of_stack) {
                let unnamed = || Failure::Wrong("the server names no id of a change set".to_owned());
                found.push(self.change_set(summary.change_set_id().ok_or_else(unnamed)?, None).await?);
            }
            token = page.next_token;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("change sets"))
    }

    /// Removes a change set, if it is there still.
    pub(super) async fn drop_change_set(&self, id: &str) {
        // It goes with its stack; where it stays it holds nothing, and hides nothing.
        let _ = self.client.delete_change_set().change_set_name(id).send().await;
    }

    /// Has the server begin to find out how a stack's resources differ; `None` where it can't do that.
    pub(super) async fn detect_drift(&self, id: &str) -> Result<Option<String>, Failure> {
        let twice = Config::builder().retry_config(RetryConfig::standard().with_max_attempts(2));
        let asked = self.client.detect_stack_drift().stack_name(id).customize().config_override(twice).send();
        match asked.await.map_err(Fault::from) {
            Ok(answer) => Ok(answer.stack_drift_detection_id),
            Err(fault) if fault.is_unknown_operation() => Ok(None),
            Err(fault) => Err(fault.into()),
        }
    }

    /// How far that is: `DETECTION_COMPLETE`, `DETECTION_FAILED` or `DETECTION_IN_PROGRESS`.
    pub(super) async fn drift_detection(&self, id: &str) -> Result<String, Failure> {
        let asked = self.client.describe_stack_drift_detection_status().stack_drift_detection_id(id);
        let answer = asked.send().await?;
        Ok(answer.detection_status().map(|status| status.as_str().to_owned()).unwrap_or_default())
    }

    /// The resources that differ, and those that the server could not compare.
    pub(super) async fn drifts(&self, id: &str) -> Result<Vec<StackResourceDrift>, Failure> {
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let asked = self
                .client
                .describe_stack_resource_drifts()
                .stack_name(id)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Modified)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::Deleted)
                .stack_resource_drift_status_filters(StackResourceDriftStatus::UnknownValue)
                .set_next_token(token);
            let page = asked.send().await?;
            found.extend(page.stack_resource_drifts.unwrap_or_default());
            token = page.next_token;
            if token.is_none() {
                return Ok(found);
            }
        }
        Err(endless("differences"))
    }
}

/// No stack has so much, and what was told so far is not all.
fn endless(what: &str) -> Failure {
    Failure::Wrong(format!("the server tells of the stack's {what} on over {PAGES} pages"))
}

fn once() -> Builder {
    Config::builder().retry_config(RetryConfig::disabled())
}

/// Nothing else that CloudFormation calls a `ValidationError` has this text.
fn says_absent(error: &impl ProvideErrorMetadata) -> bool {
    error.code() == Some("ValidationError")
        && error.message().is_some_and(|message| message.ends_with("does not exist"))
}

/// A name for one call.
fn token() -> String {
    hex::encode(rand::random::<[u8; 8]>())
}
