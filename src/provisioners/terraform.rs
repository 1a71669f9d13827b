//! Machines by modules of Terraform or OpenTofu: the rendered template is a module, which is planned, applied exactly as it was
//! planned, and destroyed.
//!
//! ```text
//! workshop (a private folder with the module, one user at a time) · commands (how the program is run)
//! run (one run of it, which no end of ours cuts off) · plan (what its JSON means; pure) · by_hand (the same without Backstay; pure)
//! holders (who works in a workshop that is not ours)
//! ```
//!
//! What knows of a machine is the module's state alone. Where that is lost with this host, a second machine would be made beside
//! the first: so a module keeps its state in a backend, or its declaration says that the loss is taken.

mod by_hand;
mod commands;
mod holders;
mod plan;
mod run;
mod workshop;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use super::{ProvisionError, Provisioner, Said};
use crate::{
    inventory::{Machine, PreviewMark, Running},
    plan::by_hand::MadeByHand,
    spec::{
        self, TerraformState,
        names::{FleetName, VmName},
    },
};
use commands::Commands;
use plan::{Plan, State};
use workshop::Workshop;

/// How long programs may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The longest silence of a run that changes something; the program itself says every ten seconds what it waits for.
    pub quiet: Duration,
    /// The longest that such a run may take.
    pub longest: Duration,
    /// The longest that one may take that only looks.
    pub look: Duration,
    /// How long one may take to end after it was asked to: it finishes what it is at, and saves the state.
    pub grace: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        Self { quiet: minutes(10), longest: minutes(120), look: minutes(15), grace: minutes(10) }
    }
}

/// A declared module, with its template rendered.
#[derive(Clone, Debug)]
pub struct Module {
    /// Whose it is.
    pub fleet: FleetName,
    /// The machine.
    pub vm: VmName,
    /// The machine that it stands in for, where a drill makes it: then its state is kept in a file of its own, whatever the module
    /// says, and nothing is done that does more than make what was not there.
    pub stands_for: Option<VmName>,
    /// What is declared of it.
    pub declared: spec::Terraform,
    /// What the template renders to: HCL, or JSON.
    pub body: String,
    /// A folder for the modules of this host.
    pub folder: PathBuf,
}

/// A machine as a module.
#[derive(Clone, Debug)]
pub struct TerraformProvisioner {
    module: Module,
    bounds: Bounds,
}

impl TerraformProvisioner {
    /// The machine of a module. Starts nothing.
    ///
    /// # Errors
    /// Where the template renders to nothing.
    pub fn new(module: Module) -> Result<Self, ProvisionError> {
        if module.body.trim().is_empty() {
            let vm = &module.vm;
            return Err(ProvisionError::stalled(format!(
                "failed to use the module of vm.{vm}: its template renders to nothing"
            )));
        }
        Ok(Self { module, bounds: Bounds::default() })
    }

    /// The same within other bounds.
    pub fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// The program in the module's folder, once that is set up: nobody else uses it meanwhile.
    async fn begin(&self) -> Result<(Workshop, Commands), Failure> {
        let workshop = Workshop::open(&self.module)?;
        let commands = Commands::new(self.module.declared.program, &workshop, self.bounds)?;
        commands.init(&workshop).await?;
        if self.module.stands_for.is_some() && !workshop.has_state_of_its_own()? {
            return Err(Failure::ForeignState);
        }
        if self.module.declared.state == TerraformState::Backend && !workshop.has_backend()? {
            return Err(Failure::NoBackend);
        }
        Ok((workshop, commands))
    }

    /// Whether it stands in for a machine, and no drill made anything of it: then nothing needs to be asked.
    fn was_never_made(&self) -> bool {
        self.module.stands_for.is_some() && !workshop::was_begun(&self.module)
    }

    /// A drill does nothing to what is there already.
    fn may_be_made(&self, plan: &Plan) -> Result<(), Failure> {
        match &self.module.stands_for {
            Some(_) => plan.only_makes().map_err(Failure::NotAlone),
            None => Ok(()),
        }
    }

    async fn observed(&self) -> Result<Machine, Failure> {
        if self.was_never_made() {
            return Ok(Machine::Gone);
        }
        let (workshop, commands) = self.begin().await?;
        if let Some(lost) = lost(&workshop, &commands).await? {
            return Ok(Machine::Broken { why: lost.to_string() });
        }
        let plan = commands.plan(&workshop, commands::Purpose::Look).await?;
        plan.machine().map_err(Failure::Wrong)
    }

    async fn previewed(&self) -> Result<Vec<String>, Failure> {
        let (workshop, commands) = self.begin().await?;
        let plan = commands.plan(&workshop, commands::Purpose::Look).await?;
        self.may_be_made(&plan)?;
        let there = plan.there();
        let first = match there.is_empty() {
            true => None,
            false => Some(format!("{} is there already, and goes first", there.join(", "))),
        };
        Ok(first.into_iter().chain(plan.lines()).collect())
    }

    async fn made(&self, said: Said<'_>) -> Result<Running, Failure> {
        let (workshop, commands) = self.begin().await?;
        let plan = commands.plan(&workshop, commands::Purpose::Make).await?;
        self.may_be_made(&plan)?;
        refuse_second(&plan)?;
        if let Some(lost) = lost(&workshop, &commands).await? {
            return Err(lost);
        }
        if let Err(failure) = commands.apply(&workshop, commands::Purpose::Make, said).await {
            let left = commands.state().await.map(|state| state.there()).unwrap_or_default();
            return Err(Failure::Half(Box::new(failure), left));
        }
        let state = commands.state().await?;
        match state.there().is_empty() {
            true => Err(Failure::Wrong("the module makes nothing".to_owned())),
            false => state.running().map_err(Failure::Wrong),
        }
    }

    async fn removed(&self, said: Said<'_>) -> Result<(), Failure> {
        if self.was_never_made() {
            return Ok(());
        }
        let (workshop, commands) = self.begin().await?;
        if commands.state().await?.there().is_empty() && workshop.open_plan().is_none() {
            return self.forget(&workshop);
        }
        // A run of another host may write its state later: to plan waits for it.
        commands.plan(&workshop, commands::Purpose::Remove).await?;
        // Once it is removed, no state tells of it any more.
        let lost = lost(&workshop, &commands).await?;
        let left = self.cleared(&workshop, &commands, said).await?;
        match (left.is_empty(), lost) {
            (false, _) => Err(Failure::Left(left)),
            (true, Some(lost)) => Err(lost),
            (true, None) => self.forget(&workshop),
        }
    }

    /// Removes what the state tells of; what it tells of afterwards.
    async fn cleared(
        &self,
        workshop: &Workshop,
        commands: &Commands,
        said: Said<'_>,
    ) -> Result<Vec<String>, Failure> {
        if commands.state().await?.there().is_empty() {
            return Ok(Vec::new());
        }
        let applied = commands.apply(workshop, commands::Purpose::Remove, said).await;
        let left = commands.state().await?.there();
        match applied {
            Ok(()) => Ok(left),
            Err(failure) => Err(Failure::Half(Box::new(failure), left)),
        }
    }

    /// Removes what is left of the state of a stand-in of which nothing is left: it may hold secrets.
    fn forget(&self, workshop: &Workshop) -> Result<(), Failure> {
        match &self.module.stands_for {
            Some(_) => workshop.forget(),
            None => Ok(()),
        }
    }

    fn explain(&self, failure: Failure, doing: &str) -> ProvisionError {
        let (program, vm) = (self.module.declared.program.as_str(), &self.module.vm);
        let message = format!("failed to {doing} vm.{vm} by {program}: {failure}");
        ProvisionError { class: failure.class(), message }
    }
}

/// What an earlier run was to make that did not come to its end as far as anybody saw, and that no state tells of: it may be there. Where
/// a state tells of all of it, that run is done with.
async fn lost(workshop: &Workshop, commands: &Commands) -> Result<Option<Failure>, Failure> {
    let Some(open) = workshop.open_plan() else { return Ok(None) };
    let made = match commands.planned(&open).await {
        Ok(plan) => plan.made(),
        Err(why) => return Ok(Some(Failure::Unreadable(open, Box::new(why)))),
    };
    let told = workshop.account(commands.state().await?.there().into_iter().collect())?;
    let lost: Vec<String> =
        made.into_iter().filter(|it| !told.contains(it)).map(|it| format!("create {it}")).collect();
    if lost.is_empty() {
        workshop.close_plan()?;
        return Ok(None);
    }
    Ok(Some(Failure::Lost(lost, open)))
}

fn refuse_second(plan: &Plan) -> Result<(), Failure> {
    let there = plan.there();
    if there.is_empty() { Ok(()) } else { Err(Failure::There(there)) }
}

#[async_trait]
impl Provisioner for TerraformProvisioner {
    async fn observe(&self) -> Result<Machine, ProvisionError> {
        self.observed().await.map_err(|failure| self.explain(failure, "look at"))
    }

    async fn preview(&self, _: &PreviewMark) -> Result<Vec<String>, ProvisionError> {
        self.previewed().await.map_err(|failure| self.explain(failure, "preview"))
    }

    async fn by_hand(&self, folder: &str) -> Result<MadeByHand, ProvisionError> {
        Ok(by_hand::made(&self.module, folder))
    }

    async fn up(&self, said: Said<'_>) -> Result<Running, ProvisionError> {
        self.made(said).await.map_err(|failure| self.explain(failure, "make"))
    }

    async fn down(&self, said: Said<'_>) -> Result<(), ProvisionError> {
        self.removed(said).await.map_err(|failure| self.explain(failure, "remove"))
    }
}

/// What went wrong, before it is known with which machine.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{}", flat(&.0.to_string()))]
    Program(#[from] crate::process::ProcessError),
    #[error("{path}: {error}", path = .0.display(), error = .1)]
    Io(PathBuf, std::io::Error),
    #[error("another run of this host is at it, whose controller may be gone: {}", busy(.lock, .holders))]
    Busy { lock: PathBuf, holders: Vec<String> },
    #[error(
        "its module keeps its state on this host, and with the state a machine would be lost that goes on running; give the \
         module a backend, or declare `state = \"local\"` to take that"
    )]
    NoBackend,
    #[error(
        "an earlier run could not save its state in the backend, and left it in {path}; put it there (`terraform state push`) and \
         remove the file",
        path = .0.display()
    )]
    Unsaved(PathBuf),
    #[error(
        "its state is not kept in a file of the drill's own, and might be the machine's; nothing was planned"
    )]
    ForeignState,
    #[error("a drill only makes what was not there, and its module would {list}; nothing was done", list = .0.join(", "))]
    NotAlone(Vec<String>),
    #[error("{0}")]
    Wrong(String),
    #[error("{list} is there already, and nothing was changed; remove it first", list = .0.join(", "))]
    There(Vec<String>),
    #[error(
        "an earlier run was cut off, or could not save its state, and no state tells of this, which it was to do: {list}; look \
         for that at the provider, remove it there by hand, and then the file {path}",
        list = .0.join(", "), path = .1.display()
    )]
    Lost(Vec<String>, PathBuf),
    #[error(
        "an earlier run was cut off, or could not save its state, and what it was to make can't be read ({1}); look at the provider for \
         what no state tells of, remove it there by hand, and then the file {path}",
        path = .0.display()
    )]
    Unreadable(PathBuf, Box<Failure>),
    #[error("it went well, and left {list}", list = .0.join(", "))]
    Left(Vec<String>),
    #[error("{0}; {left}", left = left_of(.1))]
    Half(Box<Failure>, Vec<String>),
}

impl Failure {
    fn class(&self) -> crate::stores::Class {
        use crate::{process::ProcessError, stores::Class};
        match self {
            Failure::Busy { .. } => Class::Retry,
            // The program itself tells no outage from a fault of the module.
            Failure::Program(ProcessError::Missing { .. } | ProcessError::TooMuch { .. }) => Class::Stalled,
            Failure::Program(_) => Class::Retry,
            Failure::Half(failure, _) => failure.class(),
            _ => Class::Stalled,
        }
    }
}

/// What is known of whoever has the lock, and what to do about it.
fn busy(lock: &Path, holders: &[String]) -> String {
    if holders.is_empty() {
        let lock = lock.display();
        return format!(
            "try again later, and where it is at it still, look for what has {lock} open (`fuser -v {lock}`, as root)"
        );
    }
    format!(
        "{list}; try again later, and where that hangs, have it end: the program by one SIGINT (`kill -INT`), so that it saves its \
         state",
        list = holders.join(", ")
    )
}

fn left_of(left: &[String]) -> String {
    if left.is_empty() {
        "nothing is left".to_owned()
    } else {
        format!("left is {}, until it is removed", left.join(", "))
    }
}

/// A program's text on one line.
fn flat(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_control() || "╷│╵".contains(c) { ' ' } else { c }).collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file that a module's template renders to, by what it is.
fn file_of(body: &str) -> &'static str {
    if body.trim_start().starts_with('{') { "main.tf.json" } else { "main.tf" }
}

/// The module's variables, in the program's own file of them.
fn variables(declared: &BTreeMap<String, String>) -> String {
    serde_json::to_value(declared).unwrap_or_default().to_string()
}
