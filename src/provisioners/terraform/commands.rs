//! How the program is run: without a shell, with an environment of its own, and never asking anybody anything.

use std::time::Duration;

use super::{Bounds, Failure, Plan, Said, State, Workshop, run};
use crate::{
    process::{self, Program},
    spec::TerraformProgram,
};

/// Variables of this host's environment that the program gets: how it reaches the world, and what the host says of its providers.
const INHERITED: [&str; 12] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TF_CLI_CONFIG_FILE",
    "TF_PLUGIN_CACHE_DIR",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
];

/// The most of a plan or a state that is read, bytes.
const LARGEST: usize = 64 << 20;

/// How long a run waits for another host's that has locked the state.
const LOCK: &str = "-lock-timeout=5m";

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know how things stand: it locks nothing, and is never applied.
    Look,
    /// To be applied.
    Make,
    /// To be applied, and to leave nothing.
    Remove,
}

/// The program, in a workshop.
#[derive(Debug)]
pub(super) struct Commands {
    path: std::path::PathBuf,
    folder: std::path::PathBuf,
    data: std::path::PathBuf,
    bounds: Bounds,
}

impl Commands {
    pub(super) fn new(
        program: TerraformProgram,
        workshop: &Workshop,
        bounds: Bounds,
    ) -> Result<Self, Failure> {
        Ok(Self {
            path: process::find(&[program.as_str()], &process::search_path())?,
            folder: workshop.folder().to_owned(),
            data: workshop.data(),
            bounds,
        })
    }

    /// Sets the module's folder up: its backend and its providers. A backend that changed is not taken over by itself.
    pub(super) async fn init(&self, workshop: &Workshop) -> Result<(), Failure> {
        run::quiet(self.program("init").timeout(self.bounds.look), workshop).await
    }

    /// Plans, into the file that [`Self::apply`] applies, and tells what is planned.
    pub(super) async fn plan(&self, workshop: &Workshop, purpose: Purpose) -> Result<Plan, Failure> {
        let file = workshop.planned(purpose);
        let mut out = std::ffi::OsString::from("-out=");
        out.push(&file);
        let plan = self.program("plan").argument(out);
        let plan = match purpose {
            Purpose::Look => plan.argument("-lock=false"),
            Purpose::Make => self.locking(plan),
            Purpose::Remove => self.locking(plan).argument("-destroy"),
        };
        run::quiet(plan.timeout(self.bounds.look), workshop).await?;
        let plan = self.planned(&file).await?;
        if purpose == Purpose::Look {
            // It holds what the state holds.
            std::fs::remove_file(&file).map_err(|error| Failure::Io(file, error))?;
        }
        Ok(plan)
    }

    /// What a file tells that was planned.
    pub(super) async fn planned(&self, file: &std::path::Path) -> Result<Plan, Failure> {
        let shown = self.program("show").argument("-json").argument(file).timeout(self.bounds.look);
        Plan::read(&shown.output(b"", LARGEST).await?).map_err(Failure::Wrong)
    }

    /// Applies exactly what was planned last, and tells each line of it. Where nobody waits for it any more, the run is asked to
    /// end, and keeps the workshop until it has saved the state. Where this process is killed, it goes on.
    pub(super) async fn apply(
        &self,
        workshop: &Workshop,
        purpose: Purpose,
        said: Said<'_>,
    ) -> Result<(), Failure> {
        let file = workshop.begin(purpose)?;
        let apply = self.locking(self.program("apply")).argument(&file);
        let apply = apply.stall(self.bounds.quiet).timeout(self.bounds.longest);
        let applied = run::told(apply, (workshop, purpose), said).await?;
        // What a run made that was ended, or could not save its state, only its plan tells.
        match purpose {
            Purpose::Make if run::has_saved(&applied, workshop) => workshop.close_plan()?,
            Purpose::Make => {}
            Purpose::Look | Purpose::Remove => {
                std::fs::remove_file(&file).map_err(|error| Failure::Io(file, error))?;
            }
        }
        if applied.is_ok() {
            workshop.clear_files()?;
        }
        Ok(applied?)
    }

    /// The state as it is kept, without a look at what it tells of.
    pub(super) async fn state(&self) -> Result<State, Failure> {
        let json =
            self.program("show").argument("-json").timeout(self.bounds.look).output(b"", LARGEST).await?;
        State::read(&json).map_err(Failure::Wrong)
    }

    /// One that locks the state in its backend: killed, it would leave it locked.
    fn locking(&self, program: Program) -> Program {
        program.argument(LOCK).grace(self.bounds.grace).interrupted()
    }

    fn program(&self, command: &str) -> Program {
        let program = Program::new(&self.path).argument(command).folder(&self.folder);
        let program = INHERITED.into_iter().fold(program, Program::inherit);
        let program = program
            .variable("TF_IN_AUTOMATION", "1")
            .variable("TF_INPUT", "0")
            .variable("CHECKPOINT_DISABLE", "1")
            .variable("TF_DATA_DIR", &self.data)
            .grace(Duration::from_secs(30));
        match command {
            "show" => program.argument("-no-color"),
            _ => program.arguments(["-input=false", "-no-color"]),
        }
    }
}
