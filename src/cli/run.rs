//! `backstay run`: the loop.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;

use super::{Output, controller, exit::Exit, fleet::Choice, report, terminal::Terminal};
use crate::{
    apply::executor::{Failure, Listener, Outcome},
    daemon::{
        self, Audience, Ended,
        fleets::{self, Audiences},
        queue::Pace,
    },
    plan::Step,
    reconcile::{Controller, Pass, PassError},
    render::plan::phrase,
    spec::names::FleetName,
};

/// Keep reality in step with the declaration, for ever
///
/// Looks when the infra repo changes, when something is due, at SIGHUP, and every `repo.poll`. SIGTERM ends it cleanly.
/// With `-o json` every pass is one line on stdout. Of a folder of configurations, each fleet has a loop of its own; SIGHUP
/// begins, changes and ends them as their files are.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay run --config /etc/backstay/backstay.toml\n  backstay run --config /etc/backstay/fleets"
)]
pub(super) struct Run {}

impl Run {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        let ended = match choice.folder() {
            Some(folder) => {
                let told = Arc::new(ToldOfAll { terminal: *terminal });
                let run = fleets::run(folder.to_owned(), Pace::default(), told);
                controller::block_on(async { Ok(run.await?) })?
            }
            None => {
                let config = choice.one()?;
                let open = Box::new(move || Ok(Controller::load(&config)?.guarded()));
                let told = Arc::new(Told { terminal: *terminal, fleet: None });
                controller::block_on(async { Ok(daemon::run(open, told).await?) })?
            }
        };
        Ok(match ended {
            Ended::Interrupted => Exit::Interrupted,
            Ended::Terminated => Exit::Terminated,
        })
    }
}

/// Tells of what the loops of several fleets do.
struct ToldOfAll {
    terminal: Terminal,
}

impl Audiences for ToldOfAll {
    fn of(&self, fleet: &FleetName) -> Arc<dyn Audience> {
        Arc::new(Told { terminal: self.terminal, fleet: Some(fleet.clone()) })
    }

    fn fault(&self, fault: &str) {
        self.terminal.error(&anyhow::anyhow!("{fault}"));
    }
}

/// Tells of what the loop does: for people on stderr, for programs on stdout.
struct Told {
    terminal: Terminal,
    /// Which it is, where there are several.
    fleet: Option<FleetName>,
}

impl Told {
    fn note(&self, text: &str) {
        match &self.fleet {
            Some(fleet) => self.terminal.note(&format!("{fleet}: {text}")),
            None => self.terminal.note(text),
        }
    }

    fn error(&self, error: anyhow::Error) {
        self.terminal.error(&match &self.fleet {
            Some(fleet) => error.context(format!("fleet {fleet}")),
            None => error,
        });
    }
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
                self.note(&format!("{} {phrase}", palette.good("✓")));
            }
            Outcome::Done(done) => {
                self.note(&format!("{} {phrase}: {}", palette.bad("✗"), done.damage.join("; ")));
            }
            Outcome::Failed(failure) => self.note(&format!("{} {phrase}: {failure}", palette.bad("✗"))),
            Outcome::Skipped(why) => self.note(&format!("{} {phrase}: {why}", palette.warn("-"))),
            Outcome::Cancelled => self.note(&format!("{} {phrase}: stopped", palette.warn("-"))),
        }
    }
}

impl Audience for Told {
    fn listens(&self, address: Option<SocketAddr>) {
        let fleet = self.fleet.as_ref().map(|fleet| format!("/fleets/{fleet}")).unwrap_or_default();
        let page = address.map(|address| format!(", http://{address}{fleet}/metrics")).unwrap_or_default();
        self.note(&format!("Keeping reality in step{page}; Ctrl-C ends it."));
    }

    fn passed(&self, result: &Result<Pass, PassError>) {
        let pass = match result {
            Ok(pass) => pass,
            Err(error) => return self.error(anyhow::anyhow!("{error}")),
        };
        report::notes(pass, &self.terminal).iter().for_each(|note| self.note(note));
        if self.terminal.output == Output::Json
            && let Err(error) = report::line(self.fleet.as_ref(), pass, &self.terminal)
        {
            self.error(error);
        }
    }
}
