//! `backstay drill`: restore tests now.

use std::path::Path;

use clap::Args;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::{
    Output,
    controller::{self, Interruption},
    exit::Exit,
    names,
    progress::Spinners,
    report,
    restore::At,
    terminal::Terminal,
};
use crate::{
    apply::executor::{Listener, Outcome},
    artifact::{drill::DrillReport, rehearsed::RehearsalReport},
    chance::{Chance, SystemChance},
    plan::drill::Request,
    reconcile::{Ask, Controller, Pass, Terms},
    render::{self, Palette},
    spec::{
        DrillHow,
        names::{DrillName, StoreName},
    },
};

/// Try restores now: into a sandbox, or a whole recovery on machines of its own, with the declared checks
///
/// Nothing but the sandbox or those machines is written to, and they are removed again. What came of it is recorded in the stores. Exit code 7 where
/// one did not pass: also where it could not be made.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay drill agama --at '2026-11-19 12:00'")]
pub(super) struct Drill {
    /// The drills, as they are declared
    #[arg(required = true, value_name = "NAME")]
    names: Vec<DrillName>,
    /// The newest that is not newer than this time (UTC), or one artifact, or a place in the log [default: as declared]
    #[arg(long, value_name = "TIME|ARTIFACT")]
    at: Option<At>,
    /// Only from this store [default: the one that was drilled longest ago]
    #[arg(long, value_name = "STORE")]
    from: Option<StoreName>,
    /// Restore by the commands that the runbook prints [default: as declared]
    #[arg(long)]
    by_hand: bool,
    /// Show what would be restored, and stop
    #[arg(long)]
    dry_run: bool,
}

/// Drills for programs.
#[derive(Serialize)]
struct Told<'a> {
    drills: Vec<Report<'a>>,
    /// Drills that came to no result: nothing of them is recorded.
    failures: Vec<String>,
}

/// What a drill found.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
enum Report<'a> {
    Backup(&'a DrillReport),
    Recovery(&'a RehearsalReport),
}

impl<'a> Report<'a> {
    fn of(outcome: &'a Outcome) -> Option<Self> {
        let Outcome::Done(done) = outcome else { return None };
        let of_backup = done.drilled.as_deref().map(Report::Backup);
        of_backup.or(done.rehearsed.as_deref().map(Report::Recovery))
    }

    fn is_passed(self) -> bool {
        match self {
            Report::Backup(report) => report.drilled.outcome.is_passed(),
            Report::Recovery(report) => report.rehearsed.outcome.is_passed(),
        }
    }

    fn text(self, zone: &TimeZone, palette: Palette) -> String {
        match self {
            Report::Backup(report) => render::drills::text(report, zone, palette),
            Report::Recovery(report) => render::drills::rehearsal(report, zone, palette),
        }
    }
}

impl Drill {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let terms = Terms::default();
        controller::block_on(async {
            let spec = controller.survey(&terms).await?.spec;
            if let Some(from) = self.from.as_ref().filter(|from| !spec.stores.contains_key(*from)) {
                return Err(names::no_store(from, &spec));
            }
            if let Some(name) = self.names.iter().find(|name| !spec.drills.contains_key(*name)) {
                let hint = names::hint(name.as_str(), spec.drills.keys().map(DrillName::as_str));
                anyhow::bail!("the revision in force declares no drill {name}; {hint}");
            }
            let ask = Ask::Drill(self.names.iter().map(|name| self.request(name)).collect());
            if self.dry_run {
                return show(&controller, &ask, &terms, terminal).await;
            }
            make(&controller, &ask, &terms, terminal).await
        })
    }

    fn request(&self, name: &DrillName) -> Request {
        let point = self.at.clone().map(|At(point)| point);
        let how = self.by_hand.then_some(DrillHow::ByHand);
        Request { drill: name.clone(), point, from: self.from.clone(), seed: SystemChance.draw(), how }
    }
}

async fn show(
    controller: &Controller,
    ask: &Ask,
    terms: &Terms,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let pass = controller.plan(ask, terms).await?;
    report::circumstances(&pass, terminal);
    match terminal.output {
        Output::Text => terminal.data(&render::plan::text(&pass.plan, terminal.stdout))?,
        Output::Json => terminal.json("backstay.plan/1", &pass.plan)?,
    }
    Ok(Exit::Done)
}

async fn make(
    controller: &Controller,
    ask: &Ask,
    terms: &Terms,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let interruption = Interruption::listen()?;
    let spinners: std::sync::Arc<dyn Listener> = std::sync::Arc::new(Spinners::new(terminal));
    let pass = controller.apply(ask, terms, interruption.halt(), &spinners).await?;
    report::circumstances(&pass, terminal);
    let (drills, failures) = (reports(&pass), failures(&pass));
    let exit = exit(&pass, &drills, &failures);
    match terminal.output {
        Output::Json => terminal.json("backstay.drill/1", &Told { drills, failures })?,
        Output::Text => {
            for drill in drills {
                terminal.data(&drill.text(&pass.plan.zone, terminal.stdout))?;
            }
            for failure in failures {
                terminal.note(&format!("{} {failure}", terminal.stderr.bad("✗")));
            }
        }
    }
    Ok(interruption.exit_or(exit).await)
}

fn reports(pass: &Pass) -> Vec<Report<'_>> {
    pass.outcomes.values().filter_map(Report::of).collect()
}

fn failures(pass: &Pass) -> Vec<String> {
    let failed = pass.failures().map(|(step, failure)| format!("{}: {failure}", step.action));
    failed.collect()
}

/// Whatever did not pass is no success: not only what failed.
fn exit(pass: &Pass, drills: &[Report<'_>], failures: &[String]) -> Exit {
    let passed = drills.iter().all(|report| report.is_passed());
    match report::applied(pass) {
        _ if !passed || !failures.is_empty() => Exit::Damage,
        exit => exit,
    }
}
