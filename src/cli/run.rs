//! `backstay run`: the loop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;

use super::{Output, controller, exit::Exit, fleet::Choice, report, terminal::Terminal};
use crate::{
    apply::executor::{Failure, Listener, Outcome},
    daemon::{self, Audience, Ended},
    plan::Step,
    reconcile::{Controller, Pass, PassError},
    render::plan::phrase,
};

/// Keep reality in step with the declaration, for ever
///
/// Looks when the infra repo changes, when something is due, at SIGHUP, and every `repo.poll`. SIGTERM ends it cleanly.
/// With `-o json` every pass is one line on stdout.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay run --config /etc/backstay/backstay.toml")]
pub(super) struct Run {}

impl Run {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let config = choice.one()?;
        let open = Box::new(move || Controller::load(&config));
        let told = Arc::new(Told { terminal: *terminal });
        let ended = controller::block_on(async { Ok(daemon::run(open, told).await?) })?;
        Ok(match ended {
            Ended::Interrupted => Exit::Interrupted,
            Ended::Terminated => Exit::Terminated,
        })
    }
}

/// Tells of what the loop does: for people on stderr, for programs on stdout.
struct Told {
    terminal: Terminal,
}

impl Listener for Told {
    fn started(&self, step: &Step) {
        tracing::debug!(step = %phrase(&step.action), "begins");
    }

    fn pauses(&self, step: &Step, failure: &Failure, pause: Duration) {
        tracing::warn!(step = %phrase(&step.action), %failure, ?pause, "tries again after a pause");
    }

    fn ended(&self, step: &Step, outcome: &Outcome) {
        let phrase = phrase(&step.action);
        let palette = self.terminal.stderr;
        match outcome {
            Outcome::Done(done) if done.damage.is_empty() => {
                self.terminal.note(&format!("{} {phrase}", palette.good("✓")));
            }
            Outcome::Done(done) => {
                self.terminal.note(&format!("{} {phrase}: {}", palette.bad("✗"), done.damage.join("; ")));
            }
            Outcome::Failed(failure) => {
                self.terminal.note(&format!("{} {phrase}: {failure}", palette.bad("✗")))
            }
            Outcome::Skipped(why) => self.terminal.note(&format!("{} {phrase}: {why}", palette.warn("-"))),
            Outcome::Cancelled => self.terminal.note(&format!("{} {phrase}: stopped", palette.warn("-"))),
        }
    }
}

impl Audience for Told {
    fn listens(&self, address: Option<SocketAddr>) {
        let page = address.map(|address| format!(", http://{address}/metrics")).unwrap_or_default();
        self.terminal.note(&format!("Keeping reality in step{page}; Ctrl-C ends it."));
    }

    fn passed(&self, result: &Result<Pass, PassError>) {
        let pass = match result {
            Ok(pass) => pass,
            Err(error) => return self.terminal.error(&anyhow::anyhow!("{error}")),
        };
        report::circumstances(pass, &self.terminal);
        if self.terminal.output == Output::Json
            && let Err(error) = report::line(pass, &self.terminal)
        {
            self.terminal.error(&error);
        }
    }
}
