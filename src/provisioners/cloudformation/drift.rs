//! How a stack's resources differ from what the stack made them: CloudFormation compares them itself, and remembers for how
//! long that holds.

use aws_sdk_cloudformation::types::{
    PropertyDifference, Stack, StackResourceDrift, StackResourceDriftStatus,
};
use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

use super::{
    Pace,
    failure::Failure,
    reach::Reach,
    status::{self, plain},
};

/// How long what was found out is not asked for again: a look takes the server some tens of seconds, and a call for each resource.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// The longest value that is shown, characters.
const LONGEST_VALUE: usize = 100;

/// How resources differ, as far as the server can tell.
pub(super) enum Found {
    /// These do.
    Differ(Vec<StackResourceDrift>),
    /// The server does not compare resources, or has not done so yet.
    NotTold,
    /// It was not found out.
    Unknown(String),
}

impl Found {
    /// A resource that is gone though its stack is not.
    pub(super) fn lost(&self) -> Option<String> {
        let Found::Differ(drifts) = self else { return None };
        let lost = drifts.iter().find(|drift| is(drift, StackResourceDriftStatus::Deleted));
        lost.map(|drift| format!("{} was deleted past its stack", named(drift)))
    }

    /// Everything that differs, a line each.
    pub(super) fn changes(&self) -> Vec<String> {
        match self {
            Found::Differ(drifts) => drifts.iter().flat_map(lines).collect(),
            Found::NotTold => Vec::new(),
            Found::Unknown(why) => {
                vec![format!("how its resources differ from the stack is not known: {why}")]
            }
        }
    }
}

/// Has the server compare the resources of a stack, unless it did so just now.
pub(super) async fn look(reach: &Reach, stack: &Stack, pace: Pace) -> Result<Found, Failure> {
    match compared(reach, stack, pace).await {
        Err(failure) if failure.may_pass() => Err(failure),
        // Who may not look at each resource still learns whether the stack is there.
        Err(failure) => Ok(Found::Unknown(failure.why())),
        found => found,
    }
}

async fn compared(reach: &Reach, stack: &Stack, pace: Pace) -> Result<Found, Failure> {
    let id = status::id_of(stack)?;
    if !is_fresh(stack, Timestamp::now()) {
        let Some(detection) = reach.detect_drift(id).await? else { return Ok(Found::NotTold) };
        let begun = Instant::now();
        loop {
            match reach.drift_detection(&detection).await?.as_str() {
                // What could not be compared is listed as that.
                "DETECTION_COMPLETE" | "DETECTION_FAILED" => break,
                "DETECTION_IN_PROGRESS" if begun.elapsed() < pace.drift => sleep(pace.poll).await,
                // It goes on meanwhile, and the next look finds what came of it.
                "DETECTION_IN_PROGRESS" => return Ok(Found::NotTold),
                other => return Err(Failure::Wrong(format!("a comparison is {}", plain(other)))),
            }
        }
    }
    Ok(Found::Differ(reach.drifts(id).await?))
}

fn is_fresh(stack: &Stack, now: Timestamp) -> bool {
    let checked = stack.drift_information().and_then(|told| told.last_check_timestamp());
    let checked = checked.and_then(|time| Timestamp::from_second(time.secs()).ok());
    checked.is_some_and(|checked| {
        let age = now.duration_since(checked);
        !age.is_negative() && age < FRESH
    })
}

fn is(drift: &StackResourceDrift, status: StackResourceDriftStatus) -> bool {
    drift.stack_resource_drift_status() == Some(&status)
}

fn lines(drift: &StackResourceDrift) -> Vec<String> {
    if is(drift, StackResourceDriftStatus::UnknownValue) {
        let why = plain(drift.drift_status_reason().unwrap_or("the server could not compare it"));
        return vec![format!("how {} differs from its stack is not known: {why}", named(drift))];
    }
    let differences = drift.property_differences();
    if differences.is_empty() {
        return vec![format!("{} differs from its stack", named(drift))];
    }
    differences.iter().map(|difference| format!("{}: {}", named(drift), told(difference))).collect()
}

fn told(difference: &PropertyDifference) -> String {
    let text =
        |text: Option<&str>| plain(text.unwrap_or_default()).chars().take(LONGEST_VALUE).collect::<String>();
    let path = text(difference.property_path());
    let (expected, actual) = (text(difference.expected_value()), text(difference.actual_value()));
    match difference.difference_type().map(|kind| kind.as_str()) {
        Some("ADD") => format!("{path} is {actual}, and the stack has none"),
        Some("REMOVE") => format!("{path} is gone; the stack has {expected}"),
        _ => format!("{path} is {actual}; the stack has {expected}"),
    }
}

fn named(drift: &StackResourceDrift) -> String {
    let text = |text: Option<&str>| plain(text.unwrap_or("?"));
    format!(
        "{} ({}) {}",
        text(drift.logical_resource_id()),
        text(drift.resource_type()),
        text(drift.physical_resource_id())
    )
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::{
        primitives::DateTime,
        types::{DifferenceType, StackDriftInformation, StackDriftStatus},
    };

    use super::*;

    fn drift(status: StackResourceDriftStatus) -> StackResourceDrift {
        let change = PropertyDifference::builder()
            .property_path("/InstanceType")
            .expected_value("t3.small")
            .actual_value("t3.large")
            .difference_type(DifferenceType::NotEqual);
        StackResourceDrift::builder()
            .stack_id("s")
            .logical_resource_id("Vm")
            .physical_resource_id("i-1")
            .resource_type("AWS::EC2::Instance")
            .property_differences(change.build())
            .stack_resource_drift_status(status)
            .timestamp(DateTime::from_secs(0))
            .build()
    }

    #[test]
    fn changes_are_told_and_a_deleted_resource_is_a_loss() {
        let changed = Found::Differ(vec![drift(StackResourceDriftStatus::Modified)]);
        assert_eq!(changed.lost(), None);
        let line = "Vm (AWS::EC2::Instance) i-1: /InstanceType is t3.large; the stack has t3.small";
        assert_eq!(changed.changes(), [line]);
        let deleted = Found::Differ(vec![drift(StackResourceDriftStatus::Deleted)]);
        assert!(deleted.lost().unwrap().contains("i-1 was deleted"));
        let unknown = Found::Differ(vec![drift(StackResourceDriftStatus::UnknownValue)]);
        assert_eq!(unknown.lost(), None);
        assert!(unknown.changes()[0].contains("is not known: the server could not compare it"));
        assert_eq!(Found::Unknown("why".to_owned()).changes().len(), 1);
        assert_eq!(Found::NotTold.changes(), Vec::<String>::new());
    }

    #[test]
    fn what_was_compared_just_now_is_not_compared_again() {
        let now = Timestamp::from_second(10_000).unwrap();
        let checked = |at| {
            let told = StackDriftInformation::builder()
                .stack_drift_status(StackDriftStatus::InSync)
                .last_check_timestamp(DateTime::from_secs(at));
            Stack::builder().drift_information(told.build()).build()
        };
        assert!(is_fresh(&checked(9_500), now));
        assert!(!is_fresh(&checked(9_400), now) && !is_fresh(&checked(10_001), now));
        assert!(!is_fresh(&Stack::builder().build(), now));
    }
}
