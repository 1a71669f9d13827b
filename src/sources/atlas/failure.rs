//! What went wrong with Atlas, and what happens next.

use std::time::Duration;

use tokio::time::Instant;

use super::{CLUSTER_ROLE, ROLE};
use crate::{sources::SourceError, stores::Class};

/// How long to wait where nothing tells.
const PAUSE: Duration = Duration::from_secs(60);

/// What went wrong, before it is known with what.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no answer, or no whole one: what was asked for may have been done all the same.
    Unreached(String),
    /// Atlas answered that it did not do it ("ApiError" of the reference).
    Answer(Answer),
    /// What Atlas gives is not what it says, or nothing that this build knows.
    Wrong(String),
    /// Something is not ready to be used.
    NotReady(String),
    /// What was asked would overwrite something, or can't be done.
    Refused(String),
    /// What was begun may go on without us, and what to look for.
    MayGoOn(Box<Failure>, String),
}

/// An answer that tells of no success.
#[derive(Debug)]
pub(super) struct Answer {
    /// Of HTTP.
    pub(super) status: u16,
    /// Atlas's own word for it, such as `CLUSTER_NOT_FOUND`; may be empty.
    pub(super) code: String,
    /// For people; may be empty.
    pub(super) detail: String,
    /// How long to leave it alone, where it says so.
    pub(super) after: Option<Duration>,
}

impl Failure {
    /// Whether the account may not do it.
    pub(super) fn is_denial(&self) -> bool {
        matches!(self, Failure::Answer(answer) if answer.status == 403)
    }

    /// Whether what was asked for may have been done.
    pub(super) fn is_ambiguous(&self) -> bool {
        match self {
            Failure::Unreached(_) => true,
            Failure::Answer(answer) => answer.status >= 500,
            Failure::Wrong(_) => true,
            _ => false,
        }
    }

    /// Whether nothing is known for now: there was no answer, or one that says nothing of what was asked for.
    fn tells_nothing(&self) -> bool {
        match self {
            Failure::Unreached(_) => true,
            Failure::Answer(answer) => answer.status == 429 || answer.status >= 500,
            _ => false,
        }
    }

    /// Whether the token was not accepted.
    pub(super) fn is_stale_token(&self) -> bool {
        matches!(self, Failure::Answer(answer) if answer.status == 401)
    }

    /// How long to wait before a call is made again that may pass then; `None` where it is not.
    pub(super) fn passes_after(&self, repeatable: Repeatable, usual: Duration) -> Option<Duration> {
        match (self, repeatable) {
            // Of too many requests none was carried out.
            (Failure::Answer(Answer { status: 429, after, .. }), _) => Some(after.unwrap_or(usual)),
            (Failure::Answer(Answer { status: 500..=599, after, .. }), Repeatable::Yes) => {
                Some(after.unwrap_or(usual))
            }
            (Failure::Unreached(_), Repeatable::Yes) => Some(usual),
            _ => None,
        }
    }

    pub(super) fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject.clone(), class, reason);
        match self {
            Failure::Unreached(why) => error(Class::Retry, why),
            Failure::Answer(answer) => {
                let told = error(answer.class(), answer.to_string());
                match answer.hint() {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            Failure::Wrong(why) => error(Class::Retry, why),
            Failure::NotReady(why) => error(Class::Wait(PAUSE), why),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::MayGoOn(why, look) => why.explain(operation, subject).with_hint(look),
        }
    }
}

/// For how long whoever waits for what Atlas is at goes on without an answer.
const WITHOUT_ANSWER: Duration = Duration::from_secs(30 * 60);

/// Looks again and again, over outages: what takes hours is not given up for one of minutes.
#[derive(Debug, Default)]
pub(super) struct Patience {
    silent_since: Option<Instant>,
}

impl Patience {
    /// What a look found; `None` where it is not known yet.
    ///
    /// # Errors
    /// What says that it was refused, and what tells nothing once nothing else came for half an hour.
    pub(super) fn with<T>(&mut self, look: Result<T, Failure>, now: Instant) -> Result<Option<T>, Failure> {
        match look {
            Ok(found) => {
                self.silent_since = None;
                Ok(Some(found))
            }
            Err(failure) if failure.tells_nothing() => {
                let since = *self.silent_since.get_or_insert(now);
                if now.duration_since(since) < WITHOUT_ANSWER { Ok(None) } else { Err(failure) }
            }
            Err(failure) => Err(failure),
        }
    }
}

/// Whether a call that may have been carried out can be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeatable {
    /// Twice is as good as once.
    Yes,
    /// It would be done twice.
    No,
}

impl Answer {
    fn class(&self) -> Class {
        match self.status {
            429 => Class::Wait(self.after.unwrap_or(PAUSE)),
            409 => Class::Wait(PAUSE),
            500..=599 => Class::Retry,
            _ => Class::Stalled,
        }
    }

    fn hint(&self) -> Option<String> {
        match self.status {
            401 => Some(
                "look in Atlas whether the service account is there and its secret has neither expired nor been revoked"
                    .to_owned(),
            ),
            403 => Some(format!(
                "the service account needs the role {ROLE} in the project ({CLUSTER_ROLE} to switch point-in-time recovery), and \
                 this host's address must be on its API access list"
            )),
            404 => Some("check `project` and `cluster`, and whether the service account is of that project".to_owned()),
            _ => None,
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Atlas answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, after: Option<u64>) -> Failure {
        let after = after.map(Duration::from_secs);
        Failure::Answer(Answer { status, code: String::new(), detail: String::new(), after })
    }

    #[test]
    fn an_outage_is_waited_out_for_half_an_hour_and_a_refusal_is_not() {
        let (begin, mut patience) = (Instant::now(), Patience::default());
        let after = |minutes: u64| begin + Duration::from_secs(60 * minutes);
        for failure in [Failure::Unreached("cut off".to_owned()), answer(503, None), answer(429, Some(9))] {
            assert!(matches!(patience.with::<()>(Err(failure), after(1)), Ok(None)));
        }
        assert!(matches!(patience.with(Ok(7), after(30)), Ok(Some(7))));
        assert!(matches!(patience.with::<()>(Err(answer(500, None)), after(40)), Ok(None)));
        assert!(matches!(patience.with::<()>(Err(answer(500, None)), after(69)), Ok(None)));
        assert!(patience.with::<()>(Err(answer(500, None)), after(70)).is_err());
        for status in [401, 403, 404] {
            assert!(Patience::default().with::<()>(Err(answer(status, None)), begin).is_err(), "{status}");
        }
    }

    #[test]
    fn only_what_was_surely_not_done_is_asked_for_again_where_twice_is_not_once() {
        let usual = Duration::from_secs(1);
        let lost = || Failure::Unreached("cut off".to_owned());
        assert_eq!(answer(429, Some(7)).passes_after(Repeatable::No, usual), Some(Duration::from_secs(7)));
        for failure in [answer(503, Some(7)), answer(500, None), lost()] {
            assert_eq!(failure.passes_after(Repeatable::No, usual), None);
            assert!(failure.passes_after(Repeatable::Yes, usual).is_some());
            assert!(failure.is_ambiguous());
        }
        for status in [400, 401, 403, 404, 409] {
            assert_eq!(answer(status, None).passes_after(Repeatable::Yes, usual), None, "{status}");
            assert!(!answer(status, None).is_ambiguous(), "{status}");
        }
    }
}
