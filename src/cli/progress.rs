//! Progress of a plan's steps on stderr, while a person looks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Terminal;
use crate::{
    apply::executor::{Failure, Listener, Outcome},
    plan::{Step, StepId},
    render::{self, Palette},
};

/// A spinner for every step under way, and a line for every one that failed.
pub(super) struct Spinners {
    all: MultiProgress,
    running: Mutex<BTreeMap<StepId, ProgressBar>>,
    palette: Palette,
}

impl Spinners {
    /// Draws only when stderr is a terminal and may be written to.
    pub(super) fn new(terminal: &Terminal) -> Self {
        let drawn =
            if terminal.progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self {
            all: MultiProgress::with_draw_target(drawn),
            running: Mutex::default(),
            palette: terminal.stderr,
        }
    }

    fn take(&self, step: &Step) -> Option<ProgressBar> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&step.id)
    }

    fn say(&self, line: &str) {
        // A terminal that went away is no reason to stop a backup.
        let _ = self.all.println(line);
    }
}

impl Listener for Spinners {
    fn started(&self, step: &Step) {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.all.add(ProgressBar::new_spinner().with_style(style));
        bar.set_message(render::plan::phrase(&step.action));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(step.id, bar);
    }

    fn pauses(&self, step: &Step, failure: &Failure, pause: Duration) {
        if let Some(bar) = self.take(step) {
            bar.finish_and_clear();
        }
        let again = format!("trying again in {}", render::duration(pause.max(Duration::from_secs(1))));
        self.say(&format!("{} {failure}; {again}", self.palette.warn("…")));
    }

    fn says(&self, step: &Step, line: &str) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = running.get(&step.id) {
            bar.set_message(format!("{}: {line}", render::plan::phrase(&step.action)));
        }
    }

    fn ended(&self, step: &Step, _: &Outcome) {
        if let Some(bar) = self.take(step) {
            bar.finish_and_clear();
        }
    }
}
