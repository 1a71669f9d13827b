//! How the program is run: without a shell, with an environment of its own, and never asking anybody anything.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Bounds, Failure, Plan, Said, State, Workshop, flat};
use crate::{
    process::{self, Process, ProcessError, Program},
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

/// The longest line that is handed on, characters.
const LONGEST_LINE: usize = 300;

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
    pub(super) async fn init(&self) -> Result<(), Failure> {
        let run = self.program("init").timeout(self.bounds.look).discard_output();
        Ok(run.start()?.finish().await?)
    }

    /// Plans, into the file that [`Self::apply`] applies, and tells what is planned.
    pub(super) async fn plan(&self, workshop: &Workshop, purpose: Purpose) -> Result<Plan, Failure> {
        let file = workshop.planned(purpose);
        let mut out = std::ffi::OsString::from("-out=");
        out.push(&file);
        let run = self.program("plan").argument(out);
        let run = match purpose {
            Purpose::Look => run.argument("-lock=false"),
            Purpose::Make => run.argument(LOCK),
            Purpose::Remove => run.arguments([LOCK, "-destroy"]),
        };
        run.timeout(self.bounds.look).discard_output().start()?.finish().await?;
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
    /// end, and keeps the workshop until it has saved the state.
    pub(super) async fn apply(
        &self,
        workshop: &Workshop,
        purpose: Purpose,
        said: Said<'_>,
    ) -> Result<(), Failure> {
        let file = workshop.begin(purpose)?;
        let run = self.program("apply").argument(LOCK).argument(&file);
        let run = run.stall(self.bounds.quiet).timeout(self.bounds.longest);
        let process = run.grace(self.bounds.grace).interrupted().start()?;
        let (sender, mut printed) = mpsc::channel(16);
        let lock = workshop.lock();
        let running = tokio::spawn(async move {
            let ended = run_to_end(process, sender).await;
            drop(lock);
            ended
        });
        let mut line = Vec::new();
        while let Some(bytes) = printed.recv().await {
            tell(&bytes, &mut line, said);
        }
        say(&mut line, said);
        let applied = running.await.map_err(|error| Failure::Wrong(error.to_string()))?;
        // What a run made that was ended, or could not save its state, only its plan tells.
        let is_told = match &applied {
            Ok(()) => true,
            Err(ProcessError::Failed { .. }) => workshop.has_saved(),
            Err(_) => false,
        };
        if is_told || purpose != Purpose::Make {
            std::fs::remove_file(&file).map_err(|error| Failure::Io(file, error))?;
        }
        Ok(applied?)
    }

    /// The state as it is kept, without a look at what it tells of.
    pub(super) async fn state(&self) -> Result<State, Failure> {
        let json =
            self.program("show").argument("-json").timeout(self.bounds.look).output(b"", LARGEST).await?;
        State::read(&json).map_err(Failure::Wrong)
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

/// Hands on what a program prints until it has ended well. Once nobody listens any more it is asked to end, with its output still
/// open: a program that can't print ends where it stands.
async fn run_to_end(mut process: Process, printed: mpsc::Sender<Bytes>) -> Result<(), ProcessError> {
    loop {
        let read = tokio::select! {
            biased;
            () = printed.closed() => {
                process.stop().await;
                return Ok(());
            }
            read = process.read() => read?,
        };
        match read {
            // Whether somebody listens is seen at the next turn.
            Some(bytes) => drop(printed.send(bytes).await),
            None => return process.finish().await,
        }
    }
}

/// Hands on each line that is complete.
fn tell(bytes: &[u8], line: &mut Vec<u8>, said: Said<'_>) {
    for byte in bytes {
        match byte {
            b'\n' => say(line, said),
            byte if line.len() < 4 * LONGEST_LINE => line.push(*byte),
            _ => {}
        }
    }
}

fn say(line: &mut Vec<u8>, said: Said<'_>) {
    let text = flat(&String::from_utf8_lossy(line));
    line.clear();
    if !text.is_empty() {
        said(&text.chars().take(LONGEST_LINE).collect::<String>());
    }
}
