//! An operation that was begun, to its end: every event is told as it comes, and silence ends the wait.

use std::time::Duration;

use aws_sdk_cloudformation::types::Stack;
use tokio::time::{Instant, sleep};

use super::{Pace, Said, events::Trail, failure::Failure, reach::Reach, status};

/// Follows the stack `id` until its status is one that has `ended`. `None` when it is no more.
pub(super) async fn follow(
    reach: &Reach,
    id: &str,
    trail: &mut Trail,
    pace: Pace,
    said: Said<'_>,
    ended: impl Fn(&str) -> bool,
) -> Result<Option<Stack>, Failure> {
    let begun = Instant::now();
    let (mut heard, mut known) = (begun, String::new());
    loop {
        let looked = look(reach, id, trail, said).await;
        match looked {
            Ok((None, _)) => return Ok(None),
            Ok((Some(stack), _)) if ended(status::of(&stack)) => return Ok(Some(stack)),
            Ok((Some(stack), news)) => {
                let now = status::of(&stack);
                if news == News::Some || known != now {
                    (heard, known) = (Instant::now(), now.to_owned());
                }
                let over = [(heard, pace.quiet), (begun, pace.longest)].into_iter().find_map(over);
                if let Some(longest) = over {
                    return Err(stuck(reach, &stack, id, trail, longest).await);
                }
            }
            Err(failure) if failure.may_pass() && heard.elapsed() < pace.quiet => {}
            Err(failure) => return Err(failure),
        }
        sleep(pace.poll).await;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum News {
    Some,
    None,
}

/// The stack first: then no event that led to its status is missing.
async fn look(
    reach: &Reach,
    id: &str,
    trail: &mut Trail,
    said: Said<'_>,
) -> Result<(Option<Stack>, News), Failure> {
    let stack = reach.stack(id).await?;
    let news = trail.hear(reach.events(id, trail.newest()).await?);
    for event in &news {
        said(&event.to_string());
    }
    Ok((stack, if news.is_empty() { News::None } else { News::Some }))
}

fn over((since, longest): (Instant, Duration)) -> Option<Duration> {
    (since.elapsed() >= longest).then_some(longest)
}

/// What it hangs at, by its events, or by its resources where the events don't tell.
async fn stuck(reach: &Reach, stack: &Stack, id: &str, trail: &Trail, longest: Duration) -> Failure {
    let mut hangs = trail.under_way();
    if hangs.is_empty() {
        let resources = reach.resources(id).await.unwrap_or_default();
        hangs = status::left(&resources).into_iter().filter(|told| told.contains("_IN_PROGRESS")).collect();
    }
    Failure::Stuck { told: status::told(stack), longest, hangs, because: trail.first_failure() }
}
