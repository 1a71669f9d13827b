//! `backstay rebuild`: machines and data back, in order.

use std::{path::Path, str::FromStr, sync::Arc, time::Duration};

use clap::Args;
use jiff::Timestamp;
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
    apply::executor::Listener,
    artifact::recovered::{self, RecoverySubject},
    plan::{
        Plan,
        recovery::{Begin, Request},
        restore::Point,
    },
    reconcile::{Ask, Controller, Pass, Terms},
    render::{
        self,
        recovery::{Previews, Report},
    },
    spec::{
        Spec,
        names::{BackupName, RecoveryName, StoreName, VmName},
    },
};

/// Bring machines and their data back, in order
///
/// Machines that are gone are made anew from the templates of the revision in force and configured; data is restored where a machine
/// that it waits for was made anew. What is there stays as it is. What was done is recorded in the stores, so that a recovery that
/// was cut off goes on with `--resume`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay rebuild --recovery site --dry-run")]
pub(super) struct Rebuild {
    /// One machine, as it is declared
    #[arg(value_name = "VM", required_unless_present = "recovery", conflicts_with = "recovery")]
    vm: Option<VmName>,
    /// A whole recovery, as it is declared
    #[arg(long, value_name = "NAME")]
    recovery: Option<RecoveryName>,
    /// The newest data that is not newer than this time (UTC) [default: the newest]
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
    /// Data only from this store [default: the first that has everything]
    #[arg(long, value_name = "STORE")]
    from: Option<StoreName>,
    /// A machine that is there, and is removed with its disks and made anew; may be repeated
    #[arg(long, value_name = "VM")]
    replace: Vec<VmName>,
    /// A backup that is restored whatever data is there; may be repeated
    #[arg(long, value_name = "BACKUP")]
    restore: Vec<BackupName>,
    /// Go on where the last time was cut off, on its terms
    #[arg(long)]
    resume: bool,
    /// Begin at the beginning although the last time was cut off
    #[arg(long, conflicts_with = "resume")]
    anew: bool,
    /// Show what would be done, and stop
    #[arg(long)]
    dry_run: bool,
    /// Show it as a flowchart (Mermaid)
    #[arg(long, requires = "dry_run")]
    diagram: bool,
}

/// A time: data is brought back to the newest that is not newer.
#[derive(Clone, Copy, Debug)]
struct Moment(Timestamp);

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<At>()? {
            At(Point::At(at)) => Ok(Self(at)),
            At(_) => Err("a recovery goes to a time, such as '2026-11-19 12:00'".to_owned()),
        }
    }
}

/// A planned recovery for programs.
#[derive(Serialize)]
struct Planned<'a> {
    plan: &'a Plan,
    /// What making each machine would do, by the number of the step.
    previews: std::collections::BTreeMap<u32, &'a [String]>,
    diagram: String,
}

impl Rebuild {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let terms = Terms::default();
        controller::block_on(async {
            let spec = controller.declared().await?;
            self.knows(&spec)?;
            let ask = Ask::Recover(Box::new(self.request()));
            if self.dry_run {
                return self.show(&controller, &ask, &terms, terminal).await;
            }
            let rto = rto(&spec, &self.subject());
            make(&controller, &ask, &terms, rto, terminal).await
        })
    }

    /// Refuses names that nobody declares, with the nearest that somebody does.
    fn knows(&self, spec: &Spec) -> anyhow::Result<()> {
        if let Some(from) = self.from.as_ref().filter(|from| !spec.stores.contains_key(*from)) {
            return Err(names::no_store(from, spec));
        }
        if let Some(name) = self.recovery.as_ref().filter(|name| !spec.recoveries.contains_key(*name)) {
            let hint = names::hint(name.as_str(), spec.recoveries.keys().map(RecoveryName::as_str));
            anyhow::bail!("the revision in force declares no recovery {name}; {hint}");
        }
        let machines = self.vm.iter().chain(&self.replace);
        if let Some(name) = machines.into_iter().find(|name| !spec.vms.contains_key(*name)) {
            let hint = names::hint(name.as_str(), spec.vms.keys().map(VmName::as_str));
            anyhow::bail!("the revision in force declares no machine {name}; {hint}");
        }
        Ok(())
    }

    fn subject(&self) -> RecoverySubject {
        match (&self.recovery, &self.vm) {
            (Some(name), _) => RecoverySubject::Recovery(name.clone()),
            // The parser takes no command without either.
            (None, Some(vm)) => RecoverySubject::Vm(vm.clone()),
            (None, None) => unreachable!("clap requires one of them"),
        }
    }

    fn request(&self) -> Request {
        Request {
            subject: self.subject(),
            terms: recovered::Terms {
                at: self.at.map(|Moment(at)| at),
                from: self.from.clone(),
                replace: self.replace.iter().cloned().collect(),
                restore: self.restore.iter().cloned().collect(),
            },
            begin: match (self.resume, self.anew) {
                (true, _) => Begin::Resume,
                (false, true) => Begin::Anew,
                (false, false) => Begin::First,
            },
        }
    }

    async fn show(
        &self,
        controller: &Controller,
        ask: &Ask,
        terms: &Terms,
        terminal: &Terminal,
    ) -> anyhow::Result<Exit> {
        let pass = controller.plan(ask, terms).await?;
        report::circumstances(&pass, terminal);
        if self.diagram && terminal.output == Output::Text {
            terminal.data(&render::recovery::diagram(&pass.plan))?;
            return Ok(Exit::Done);
        }
        let previews = controller.previews(&pass.plan).await?;
        match terminal.output {
            Output::Text => terminal.data(&render::recovery::text(&pass.plan, &previews, terminal.stdout))?,
            Output::Json => terminal.json("backstay.plan/1", &planned(&pass.plan, &previews))?,
        }
        Ok(Exit::Done)
    }
}

fn planned<'a>(plan: &'a Plan, previews: &'a Previews) -> Planned<'a> {
    let told = |(step, lines): (&crate::plan::StepId, &'a Result<Vec<String>, String>)| {
        Some((step.0, lines.as_ref().ok()?.as_slice()))
    };
    Planned {
        plan,
        previews: previews.iter().filter_map(told).collect(),
        diagram: render::recovery::diagram(plan),
    }
}

/// The longest that it may take: as it declares, or as the strictest of what it restores does.
fn rto(spec: &Spec, subject: &RecoverySubject) -> Option<Duration> {
    match subject {
        RecoverySubject::Recovery(name) => spec.recoveries.get(name)?.rto(spec),
        RecoverySubject::Vm(_) => None,
    }
}

async fn make(
    controller: &Controller,
    ask: &Ask,
    terms: &Terms,
    rto: Option<Duration>,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let interruption = Interruption::listen()?;
    let spinners: Arc<dyn Listener> = Arc::new(Spinners::new(terminal));
    let pass = controller.apply(ask, terms, interruption.halt(), &spinners).await?;
    report::circumstances(&pass, terminal);
    tell(&pass, rto, terminal)?;
    Ok(interruption.exit_or(report::applied(&pass)).await)
}

fn tell(pass: &Pass, rto: Option<Duration>, terminal: &Terminal) -> anyhow::Result<()> {
    let Some(report) = Report::of(&pass.plan, &pass.outcomes, rto) else {
        return match terminal.output {
            Output::Text => Ok(terminal.data("Nothing is left to do.\n")?),
            Output::Json => Ok(terminal.json("backstay.rebuild/1", &serde_json::json!({ "steps": [] }))?),
        };
    };
    match terminal.output {
        Output::Text => terminal.data(&render::recovery::report(&report, terminal.stdout))?,
        Output::Json => terminal.json("backstay.rebuild/1", &report)?,
    }
    Ok(())
}
