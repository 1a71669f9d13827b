//! The events of a stack: each told once, in their order, and what they say of how it went.

use std::{collections::BTreeMap, fmt};

use aws_sdk_cloudformation::types::StackEvent;

use super::status::plain;

/// The reason of resources that were given up because of another one's failure.
const GIVEN_UP: &str = "Resource creation cancelled";

/// Something that happened in a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub id: String,
    /// The name in the template.
    pub resource: String,
    pub kind: String,
    pub status: String,
    pub reason: Option<String>,
    of_stack: bool,
}

impl From<&StackEvent> for Event {
    fn from(event: &StackEvent) -> Self {
        let text = |text: Option<&str>| plain(text.unwrap_or_default());
        Self {
            id: event.event_id().unwrap_or_default().to_owned(),
            resource: text(event.logical_resource_id()),
            kind: text(event.resource_type()),
            status: text(event.resource_status().map(|status| status.as_str())),
            reason: event.resource_status_reason().map(plain).filter(|reason| !reason.is_empty()),
            of_stack: event.physical_resource_id().is_some_and(|id| Some(id) == event.stack_id()),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) {}", self.resource, self.kind, self.status)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// What was heard of an operation.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    newest: Option<String>,
    failure: Option<Event>,
    /// The last event of each resource.
    last: BTreeMap<String, Event>,
}

impl Trail {
    /// One that begins after `past`, newest first.
    pub(super) fn after(past: Vec<Event>) -> Self {
        Self { newest: past.into_iter().next().map(|event| event.id), ..Self::default() }
    }

    /// The newest event that was heard.
    pub(super) fn newest(&self) -> Option<&str> {
        self.newest.as_deref()
    }

    /// Takes in what is new among `events`, newest first as the server lists them; returns it in the order in which it
    /// happened.
    pub(super) fn hear(&mut self, events: Vec<Event>) -> Vec<Event> {
        let newest = self.newest.clone();
        let mut new: Vec<Event> =
            events.into_iter().take_while(|event| Some(&event.id) != newest.as_ref()).collect();
        new.reverse();
        for event in &new {
            self.take(event);
        }
        new
    }

    fn take(&mut self, event: &Event) {
        let failed = event.status.ends_with("_FAILED");
        let given_up = event.reason.as_deref().is_some_and(|reason| reason.starts_with(GIVEN_UP));
        if failed && !given_up && self.failure.as_ref().is_none_or(|first| first.of_stack && !event.of_stack)
        {
            self.failure = Some(event.clone());
        }
        if !event.of_stack {
            self.last.insert(event.resource.clone(), event.clone());
        }
        self.newest = Some(event.id.clone());
    }

    /// The first thing that failed: what followed from it explains nothing.
    pub(super) fn first_failure(&self) -> Option<String> {
        self.failure.as_ref().map(Event::to_string)
    }

    /// Resources with which something goes on still.
    pub(super) fn under_way(&self) -> Vec<String> {
        let going_on = self.last.values().filter(|event| event.status.ends_with("_IN_PROGRESS"));
        going_on.map(Event::to_string).collect()
    }

    /// Resources that outlive their stack, as its template says.
    pub(super) fn kept(&self) -> Vec<String> {
        let kept = self.last.values().filter(|event| event.status == "DELETE_SKIPPED");
        kept.map(|event| format!("{} ({})", event.resource, event.kind)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u32, resource: &str, status: &str, reason: Option<&str>) -> Event {
        Event {
            id: number.to_string(),
            resource: resource.to_owned(),
            kind: "T".to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            of_stack: resource == "web",
        }
    }

    fn told(events: Vec<Event>) -> Vec<String> {
        events.iter().map(Event::to_string).collect()
    }

    #[test]
    fn each_event_is_told_once_in_the_order_in_which_it_happened() {
        let [one, two, three] =
            ["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"].map(str::to_owned);
        let first = event(1, "web", &one, Some("User Initiated"));
        let second = event(2, "Vm", &two, None);
        let third = event(3, "Vm", &three, None);
        let mut trail = Trail::default();
        let heard = told(trail.hear(vec![second.clone(), first.clone()]));
        assert_eq!(heard, ["web (T) CREATE_IN_PROGRESS: User Initiated", "Vm (T) CREATE_IN_PROGRESS"]);
        assert_eq!(trail.under_way(), ["Vm (T) CREATE_IN_PROGRESS"]);
        assert_eq!(told(trail.hear(vec![third, second, first])), ["Vm (T) CREATE_COMPLETE"]);
        assert_eq!(trail.hear(Vec::new()), []);
        assert_eq!(trail.under_way(), Vec::<String>::new());
    }

    #[test]
    fn what_happened_before_an_operation_is_none_of_it() {
        let past =
            vec![event(2, "Vm", "CREATE_FAILED", Some("old")), event(1, "web", "CREATE_IN_PROGRESS", None)];
        let mut trail = Trail::after(past.clone());
        let now = [vec![event(3, "Vm", "DELETE_SKIPPED", None)], past].concat();
        assert_eq!(told(trail.hear(now)), ["Vm (T) DELETE_SKIPPED"]);
        assert_eq!((trail.first_failure(), trail.kept()), (None, vec!["Vm (T)".to_owned()]));
    }

    #[test]
    fn the_first_failure_of_a_resource_explains_all_others() {
        let mut trail = Trail::default();
        trail.hear(vec![
            event(5, "Group", "DELETE_FAILED", Some("in use")),
            event(4, "web", "ROLLBACK_IN_PROGRESS", Some("[Vm] failed")),
            event(3, "Vm", "CREATE_FAILED", Some("no such image")),
            event(2, "Disk", "CREATE_FAILED", Some("Resource creation cancelled")),
            event(1, "web", "CREATE_IN_PROGRESS", None),
        ]);
        assert_eq!(trail.first_failure().as_deref(), Some("Vm (T) CREATE_FAILED: no such image"));
        let mut trail = Trail::default();
        trail.hear(vec![event(1, "web", "CREATE_FAILED", Some("hook"))]);
        assert_eq!(trail.first_failure().as_deref(), Some("web (T) CREATE_FAILED: hook"));
        trail.hear(vec![
            event(2, "Vm", "DELETE_FAILED", Some("locked")),
            event(1, "web", "CREATE_FAILED", None),
        ]);
        assert_eq!(trail.first_failure().as_deref(), Some("Vm (T) DELETE_FAILED: locked"));
    }
}
