//! What goes wrong with stacks.

use std::time::Duration;

use super::{super::ProvisionError, wanted::Wanted};
use crate::{
    aws::Fault,
    stores::{Class, ErrorKind},
};

/// What the access key's policy must allow.
const ACTIONS: &str = "cloudformation:DescribeStacks, ListStackResources, DescribeStackEvents, CreateStack, DeleteStack, \
                       CreateChangeSet, DescribeChangeSet, DeleteChangeSet, ListChangeSets, DetectStackDrift, \
                       DescribeStackDriftDetectionStatus and DescribeStackResourceDrifts, and what the template makes";

/// What went wrong, before it is known with which stack.
#[derive(Debug)]
pub(super) enum Failure {
    Aws(Fault),
    /// The server's answer makes no sense.
    Wrong(String),
    /// A stack of that name is another's.
    Foreign(String),
    /// It is there already.
    There(String),
    /// It is protected from deletion.
    Protected,
    /// It was deleted while it was made.
    Vanished,
    /// What is wanted can't be had.
    Refused(String),
    /// It was not made.
    NotMade {
        told: String,
        because: Option<String>,
        left: Vec<String>,
    },
    /// Some of it could not be deleted.
    NotDeleted {
        told: String,
        because: Option<String>,
        left: Vec<String>,
    },
    /// Nothing was heard of it for too long.
    Stuck {
        told: String,
        longest: Duration,
        hangs: Vec<String>,
        because: Option<String>,
    },
    /// What it was said at its beginning explains it.
    After(Box<Failure>, Box<Failure>),
}

impl<E: Into<Fault>> From<E> for Failure {
    fn from(fault: E) -> Self {
        Failure::Aws(fault.into())
    }
}

impl Failure {
    /// The same, with what was said before against what was begun.
    pub(super) fn after(self, doubt: Option<Failure>) -> Self {
        match doubt {
            Some(doubt) => Failure::After(Box::new(self), Box::new(doubt)),
            None => self,
        }
    }

    /// Whether it may be otherwise at the next look.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Failure::Aws(fault) if fault.kind() == ErrorKind::Transient)
    }

    /// For whoever has to do something about it.
    pub(super) fn explain(self, doing: &str, wanted: &Wanted) -> ProvisionError {
        let message = format!("failed to {doing} {wanted}: {}", self.why());
        ProvisionError { class: self.class(), message }
    }

    fn class(&self) -> Class {
        match self {
            Failure::Aws(fault) => match fault.kind() {
                ErrorKind::Transient => Class::Retry,
                ErrorKind::Full | ErrorKind::Unavailable => Class::Wait(Duration::from_secs(60)),
                ErrorKind::NotFound | ErrorKind::Denied | ErrorKind::Protocol => Class::Stalled,
            },
            _ => Class::Stalled,
        }
    }

    /// Why, and what to do next.
    pub(super) fn why(&self) -> String {
        match self {
            Failure::Aws(fault) => match fault.hint(ACTIONS) {
                Some(hint) => format!("{fault}; {hint}"),
                None => fault.to_string(),
            },
            Failure::Wrong(why) | Failure::Foreign(why) | Failure::Refused(why) => why.clone(),
            Failure::There(told) => {
                format!("it is there already ({told}), and nothing was changed; remove it first")
            }
            Failure::Protected => {
                "it is protected from deletion; if it is meant to go, take that off: aws cloudformation \
                                   update-termination-protection --no-enable-termination-protection"
                    .to_owned()
            }
            Failure::Vanished => "somebody deleted it meanwhile".to_owned(),
            Failure::NotMade { told, because, left } => {
                let left = match left.is_empty() {
                    true => "the stack itself is left".to_owned(),
                    false => format!("left are {}", left.join(", ")),
                };
                format!("{}; {left}, until it is removed", with_cause(told, because.as_deref()))
            }
            Failure::NotDeleted { told, because, left } => format!(
                "{}; left are {}: see to what holds them, and remove it again",
                with_cause(told, because.as_deref()),
                if left.is_empty() {
                    "resources that the server does not name".to_owned()
                } else {
                    left.join(", ")
                }
            ),
            Failure::Stuck { told, longest, hangs, because } => {
                let hangs = match hangs.is_empty() {
                    true => "the server names no resource that it hangs at".to_owned(),
                    false => format!("it hangs at {}", hangs.join(", ")),
                };
                format!(
                    "{} for {}: {hangs}; it is left as it is: look at its events, or remove it",
                    with_cause(told, because.as_deref()),
                    humantime::format_duration(*longest)
                )
            }
            Failure::After(failure, doubt) => format!("{}; when it began: {}", failure.why(), doubt.why()),
        }
    }
}

fn with_cause(told: &str, because: Option<&str>) -> String {
    match because {
        Some(because) => format!("{told}, since {because}"),
        None => told.to_owned(),
    }
}
