//! One try of one step: intent, effect, outcome; and the clean-up of what a failed try left behind.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::FutureExt as _;

use super::{Done, Effects, Failure, Halt};
use crate::{
    apply::journal::{Attempt, Ended, Intent, Journal, JournalError},
    inventory::Interrupted,
    plan::{Action, Step, StepId},
    stores::Class,
};

/// How long a clean-up may take before it is left to the next pass.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// The same, of machines.
const THROW_AWAY: Duration = Duration::from_secs(300);

/// How a try ended.
pub(super) enum Ran {
    Done(Done),
    Failed(Failure),
    Cancelled,
}

/// Tries a step once.
pub(super) async fn attempt(
    step: Step,
    limit: Duration,
    effects: Arc<dyn Effects>,
    journal: Arc<Mutex<Journal>>,
    halt: Halt,
) -> (StepId, Ran) {
    let ran = AssertUnwindSafe(journaled(&step, limit, effects, journal, halt)).catch_unwind().await;
    let ran = ran.unwrap_or_else(|_| {
        let message = format!("failed to {}: it panicked; report this fault with the log", step.action);
        Ran::Failed(Failure { class: Class::Stalled, message })
    });
    (step.id, ran)
}

async fn journaled(
    step: &Step,
    limit: Duration,
    effects: Arc<dyn Effects>,
    journal: Arc<Mutex<Journal>>,
    halt: Halt,
) -> Ran {
    let writes = effects.writes(&step.action);
    let intent = Intent { at: effects.now(), what: step.action.to_string(), writes: writes.clone() };
    let number = match write(&journal, |journal| journal.begin(intent)).await {
        Ok(number) => number,
        Err(failure) => return Ran::Failed(failure),
    };
    let _under_way = UnderWay { journal: &journal, number };
    let ran = tokio::select! {
        biased;
        () = halt.stop.cancelled() => Ran::Cancelled,
        ran = tokio::time::timeout(limit, effects.apply(step, writes.as_ref())) => match ran {
            Ok(Ok(done)) => Ran::Done(done),
            Ok(Err(failure)) => Ran::Failed(failure),
            Err(_) => Ran::Failed(Failure {
                class: Class::Wait(limit),
                message: format!("failed to {} within {}s; see what it waits for", step.action, limit.as_secs()),
            }),
        },
    };
    if !matches!(ran, Ran::Done(_)) {
        throw_away(step, &*effects).await;
    }
    conclude(step, ran, number, writes, &*effects, &journal).await
}

/// What is not thrown away now is found by a later pass.
async fn throw_away(step: &Step, effects: &dyn Effects) {
    let why = match tokio::time::timeout(THROW_AWAY, effects.throw_away(step)).await {
        Ok(Ok(())) => return,
        Ok(Err(failure)) => failure.message,
        Err(_) => format!("not within {}s", THROW_AWAY.as_secs()),
    };
    tracing::warn!(step = %step.action, %why, "left to the next pass to remove");
}

/// An attempt that goes on. However it ends, panics and aborts included, it is not under way any more: what it leaves open
/// in the journal is to be cleaned up.
struct UnderWay<'a> {
    journal: &'a Mutex<Journal>,
    number: Attempt,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner).leave(self.number);
    }
}

/// Closes the intent, once nothing half-made is left. An intent that stays open is found by the next pass.
async fn conclude(
    step: &Step,
    ran: Ran,
    number: Attempt,
    writes: Option<Interrupted>,
    effects: &dyn Effects,
    journal: &Arc<Mutex<Journal>>,
) -> Ran {
    let how = match (&ran, &writes) {
        (Ran::Done(_), _) => Ended::Done,
        (_, None) => Ended::Undone,
        (_, Some(left)) => match tokio::time::timeout(CLEAN_UP, effects.clean_up(left)).await {
            Ok(Ok(())) => Ended::Undone,
            Ok(Err(failure)) => {
                tracing::warn!(step = %step.action, %failure, "left to the next pass to clean up");
                return ran;
            }
            Err(_) => return ran,
        },
    };
    let settled = match (&ran, &step.action) {
        (
            Ran::Done(_),
            Action::CleanUp { backup, store, artifact }
            | Action::DeleteDrillCopy { backup, store, artifact, .. },
        ) => Some((effects.folder(backup), store.clone(), *artifact, Ended::Undone)),
        (Ran::Done(_), Action::Settle { backup, store, artifact }) => {
            Some((effects.folder(backup), store.clone(), *artifact, Ended::Done))
        }
        _ => None,
    };
    let closed = write(journal, move |journal| {
        journal.end(number, how)?;
        settled.map_or(Ok(()), |(folder, store, id, how)| journal.settle(&folder, &store, id, how))
    });
    match closed.await {
        Ok(()) => ran,
        // What was done is done; that it was is found in the store by the next pass.
        Err(failure) => {
            tracing::warn!(step = %step.action, %failure, "the outcome is not in the journal");
            ran
        }
    }
}

async fn write<T: Send + 'static>(
    journal: &Arc<Mutex<Journal>>,
    entry: impl FnOnce(&mut Journal) -> Result<T, JournalError> + Send + 'static,
) -> Result<T, Failure> {
    let journal = journal.clone();
    let written = tokio::task::spawn_blocking(move || {
        entry(&mut journal.lock().unwrap_or_else(PoisonError::into_inner))
    });
    let stalled = |message| Failure { class: Class::Stalled, message };
    match written.await {
        Ok(Ok(written)) => Ok(written),
        Ok(Err(error)) => Err(stalled(error.to_string())),
        Err(error) => Err(stalled(format!("failed to write the journal: {error}; start again"))),
    }
}
