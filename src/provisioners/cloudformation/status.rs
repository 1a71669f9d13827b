//! What the answers about a stack mean.

use aws_sdk_cloudformation::types::{Output, Stack, StackResourceSummary, StackStatus};

use super::failure::Failure;
use crate::inventory::{MachineAddress, Running};

pub(super) const DELETED: &str = "DELETE_COMPLETE";
pub(super) const NOT_DELETED: &str = "DELETE_FAILED";
pub(super) const DELETING: &str = "DELETE_IN_PROGRESS";
const CREATING: &str = "CREATE_IN_PROGRESS";
pub(super) const REVIEWED: &str = "REVIEW_IN_PROGRESS";

/// The port of SSH, unless an output tells another.
const SSH: u16 = 22;

/// How a stack stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was made, and nothing goes on.
    Runs,
    /// Something goes on.
    UnderWay,
    /// What was begun has failed, or is taken back.
    Broken,
    /// It was deleted.
    Gone,
}

/// By the status of a stack ("Stack status codes" of the guide).
pub(super) fn standing(status: &str) -> Standing {
    match status {
        // What an update replaced is being removed, or the update was taken back: the stack is whole.
        "CREATE_COMPLETE"
        | "UPDATE_COMPLETE"
        | "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"
        | "UPDATE_ROLLBACK_COMPLETE"
        | "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS"
        | "IMPORT_COMPLETE"
        | "IMPORT_ROLLBACK_COMPLETE" => Standing::Runs,
        DELETED => Standing::Gone,
        // Nobody goes on with it until somebody executes its change set.
        REVIEWED => Standing::Broken,
        other if other.ends_with("_IN_PROGRESS") => Standing::UnderWay,
        _ => Standing::Broken,
    }
}

/// Whether a stack can't be deleted before what goes on has ended. One that is being made can.
pub(super) fn holds_up_deletion(status: &str) -> bool {
    status.ends_with("_IN_PROGRESS") && ![CREATING, REVIEWED, DELETING].contains(&status)
}

/// The status of a stack.
pub(super) fn of(stack: &Stack) -> &str {
    stack.stack_status().map_or("without a status", StackStatus::as_str)
}

/// The status with its reason, for people.
pub(super) fn told(stack: &Stack) -> String {
    match stack.stack_status_reason().filter(|reason| !reason.is_empty()) {
        Some(reason) => format!("{}: {}", of(stack), plain(reason)),
        None => of(stack).to_owned(),
    }
}

/// The unique id of a stack, which its name is not.
pub(super) fn id_of(stack: &Stack) -> Result<&str, Failure> {
    stack.stack_id().ok_or_else(|| Failure::Wrong("the server names no id of the stack".to_owned()))
}

/// The machine of a stack that runs, by the stack's outputs `Address`, `Port` and `HostKey`.
pub(super) fn running(stack: &Stack) -> Result<Running, Failure> {
    let port = match output(stack, "Port") {
        Some(port) => port
            .parse()
            .map_err(|_| Failure::Wrong(format!("the output Port is no port: {}", plain(port))))?,
        None => SSH,
    };
    let address = output(stack, "Address").map(|host| MachineAddress { host: host.to_owned(), port });
    let host_key = output(stack, "HostKey").map(str::to_owned);
    Ok(Running { address, host_key, drift: Vec::new() })
}

fn output<'a>(stack: &'a Stack, key: &str) -> Option<&'a str> {
    let output = stack.outputs().iter().find(|output| output.output_key() == Some(key));
    output.and_then(Output::output_value).map(str::trim).filter(|value| !value.is_empty())
}

/// What of a stack that says that it is whole is not there.
pub(super) fn missing(resources: &[StackResourceSummary]) -> Option<String> {
    if resources.is_empty() {
        return Some("the stack holds no resources".to_owned());
    }
    resources.iter().find_map(|resource| {
        let status = status_of(resource);
        match resource.physical_resource_id().filter(|id| !id.is_empty()) {
            None => Some(format!("{} was never made, though the stack says {status}", named(resource))),
            Some(_) if is_whole(status) => None,
            Some(_) => Some(format!("{} is {status}", named(resource))),
        }
    })
}

fn is_whole(status: &str) -> bool {
    let whole = ["CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE", "ROLLBACK_COMPLETE"];
    whole.iter().any(|whole| status.ends_with(whole))
}

/// What is left of a stack that was not made or not deleted.
pub(super) fn left(resources: &[StackResourceSummary]) -> Vec<String> {
    let there = |resource: &&StackResourceSummary| {
        status_of(resource) != DELETED && resource.physical_resource_id().is_some_and(|id| !id.is_empty())
    };
    let told = |resource: &StackResourceSummary| {
        let id = resource.physical_resource_id().unwrap_or_default();
        let reason = resource.resource_status_reason().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
        format!("{} {} ({}{reason})", named(resource), plain(id), status_of(resource))
    };
    resources.iter().filter(there).map(told).collect()
}

fn status_of(resource: &StackResourceSummary) -> &str {
    resource.resource_status().map_or("without a status", |status| status.as_str())
}

fn named(resource: &StackResourceSummary) -> String {
    let name = resource.logical_resource_id().unwrap_or("a resource without a name");
    let kind = resource.resource_type().map(|kind| format!(" ({})", plain(kind))).unwrap_or_default();
    format!("{}{kind}", plain(name))
}

/// A server's text on one line.
pub(super) fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::types::ResourceStatus;

    use super::*;

    #[test]
    fn a_stack_runs_only_when_it_is_whole() {
        for runs in ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"] {
            assert_eq!(standing(runs), Standing::Runs, "{runs}");
        }
        for broken in [
            "CREATE_FAILED",
            "ROLLBACK_COMPLETE",
            "ROLLBACK_FAILED",
            "DELETE_FAILED",
            "UPDATE_ROLLBACK_FAILED",
            "REVIEW_IN_PROGRESS",
            "SOMETHING_NEW",
        ] {
            assert_eq!(standing(broken), Standing::Broken, "{broken}");
        }
        for going_on in
            ["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "DELETE_IN_PROGRESS", "UPDATE_IN_PROGRESS"]
        {
            assert_eq!(standing(going_on), Standing::UnderWay, "{going_on}");
        }
        assert_eq!(standing("DELETE_COMPLETE"), Standing::Gone);
    }

    #[test]
    fn only_what_somebody_does_with_a_stack_that_is_there_holds_up_its_deletion() {
        for waited_for in
            ["UPDATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS"]
        {
            assert!(holds_up_deletion(waited_for), "{waited_for}");
        }
        for not in ["CREATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE"] {
            assert!(!holds_up_deletion(not), "{not}");
        }
    }

    fn output(key: &str, value: &str) -> Output {
        Output::builder().output_key(key).output_value(value).build()
    }

    #[test]
    fn outputs_tell_where_a_machine_is_reached() {
        let stack = Stack::builder().outputs(output("Address", "192.0.2.7")).build();
        let told = running(&stack).unwrap();
        assert_eq!(told.address, Some(MachineAddress { host: "192.0.2.7".to_owned(), port: 22 }));
        let stack = Stack::builder()
            .outputs(output("Address", "web.example.org"))
            .outputs(output("Port", "2222"))
            .outputs(output("HostKey", "ssh-ed25519 AAAA"));
        let told = running(&stack.clone().build()).unwrap();
        assert_eq!(told.address, Some(MachineAddress { host: "web.example.org".to_owned(), port: 2222 }));
        assert_eq!(told.host_key.as_deref(), Some("ssh-ed25519 AAAA"));
        assert_eq!(running(&Stack::builder().build()).unwrap(), Running::default());
        let bad = stack.set_outputs(Some(vec![output("Port", "ssh")])).build();
        assert!(running(&bad).is_err());
    }

    fn resource(name: &str, id: Option<&str>, status: &str) -> StackResourceSummary {
        StackResourceSummary::builder()
            .logical_resource_id(name)
            .resource_type("AWS::EC2::Instance")
            .set_physical_resource_id(id.map(str::to_owned))
            .resource_status(ResourceStatus::from(status))
            .build()
    }

    #[test]
    fn a_whole_stack_without_a_resource_is_not_whole() {
        assert_eq!(missing(&[resource("Vm", Some("i-1"), "CREATE_COMPLETE")]), None);
        let never = missing(&[resource("Vm", None, "CREATE_COMPLETE")]).unwrap();
        assert!(never.contains("Vm (AWS::EC2::Instance) was never made"), "{never}");
        assert!(missing(&[resource("Vm", Some("i-1"), "DELETE_COMPLETE")]).is_some());
        assert!(missing(&[]).is_some());
    }

    #[test]
    fn what_is_left_is_named_with_its_id() {
        let resources = [
            resource("Vm", Some("i-1"), "DELETE_FAILED"),
            resource("Disk", Some("vol-1"), "DELETE_COMPLETE"),
            resource("Net", None, "CREATE_FAILED"),
        ];
        assert_eq!(left(&resources), ["Vm (AWS::EC2::Instance) i-1 (DELETE_FAILED)"]);
    }
}
