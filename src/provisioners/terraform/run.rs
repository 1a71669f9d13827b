//! One run of the program that may change something. It is never cut off by our own end: it prints into files of the workshop, and has
//! the workshop's lock for its standard input. A controller that is killed so leaves a run that goes on, saves its state, and keeps
//! everybody else out until then.

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Failure, Said, Workshop, commands::Purpose, flat};
use crate::process::{self, Asked, Exit, Outliving, ProcessError, Program};

/// The longest line that is handed on, characters.
const LONGEST_LINE: usize = 300;

/// What the program prints once it was asked to end; asked twice, it ends at once, without its state.
const IS_ENDING: &str = "Gracefully shutting down";
const ENDED_AT_ONCE: &str = "interrupts received";

/// How long the program may take to tell that somebody else has asked it to end: whoever stops us may stop it as well, such as systemd,
/// which signals all of a unit's processes.
const HEARS: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs a program that tells nothing but whether it went well.
pub(super) async fn quiet(program: Program, workshop: &Workshop) -> Result<(), Failure> {
    let mut run = program.start_outliving(workshop.files()?)?;
    while run.read().await?.is_some() {}
    run.finish().await?;
    workshop.clear_files()
}

/// Runs a program and tells each line of it. Where nobody waits for it any more, it is asked to end, and keeps the workshop until it
/// has saved the state.
pub(super) async fn told(
    program: Program,
    (workshop, purpose): (&Workshop, Purpose),
    said: Said<'_>,
) -> Result<Result<(), ProcessError>, Failure> {
    let run = program.start_outliving(workshop.files()?)?;
    let (sender, mut printed) = mpsc::channel(16);
    let keeper = workshop.clone();
    let running = tokio::spawn(async move { run_to_end(run, sender, (&keeper, purpose)).await });
    let mut running = Running(Some(running));
    let mut line = Vec::new();
    while let Some(bytes) = printed.recv().await {
        tell(&bytes, &mut line, said);
    }
    say(&mut line, said);
    running.end().await
}

/// A run that is followed to its end; where it is given up, this process does not end before it.
struct Running(Option<JoinHandle<Result<(), ProcessError>>>);

impl Running {
    async fn end(&mut self) -> Result<Result<(), ProcessError>, Failure> {
        let Some(running) = &mut self.0 else { return Err(Failure::Wrong("its run is over".to_owned())) };
        let ended = running.await;
        self.0 = None;
        ended.map_err(|error| Failure::Wrong(error.to_string()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(running) = self.0.take() {
            process::saving(running);
        }
    }
}

/// Whether a state tells of all that a run made which ended in this way.
pub(super) fn has_saved(ended: &Result<(), ProcessError>, workshop: &Workshop) -> bool {
    match ended {
        Ok(()) => true,
        Err(ProcessError::Failed { exit, said, .. }) => saved(*exit, said, workshop),
        Err(_) => false,
    }
}

fn saved(exit: Exit, said: &process::Said, workshop: &Workshop) -> bool {
    // What a signal or a fault of the program's own ended had no time to save anything.
    matches!(exit, Exit::Code(0 | 1)) && !said.as_str().contains(ENDED_AT_ONCE) && workshop.has_saved()
}

/// Hands on what a program prints until it has ended well.
async fn run_to_end(
    mut run: Outliving,
    printed: mpsc::Sender<Bytes>,
    of: (&Workshop, Purpose),
) -> Result<(), ProcessError> {
    loop {
        let read = tokio::select! {
            biased;
            () = printed.closed() => {
                give_up(run, of).await;
                return Ok(());
            }
            read = run.read() => read?,
        };
        match read {
            // Whether somebody listens is seen at the next turn.
            Some(bytes) => drop(printed.send(bytes).await),
            None => return run.finish().await,
        }
    }
}

/// Has a run end that nobody waits for. Where it saved what it made, its plan is of no more use.
async fn give_up(mut run: Outliving, (workshop, purpose): (&Workshop, Purpose)) {
    let asked = match tokio::time::timeout(HEARS, is_ending(&mut run)).await {
        Ok(true) => Asked::Already,
        Ok(false) | Err(_) => Asked::NotYet,
    };
    if let Some((exit, said)) = run.stop(asked).await
        && purpose == Purpose::Make
        && saved(exit, &said, workshop)
        && let Err(error) = workshop.close_plan()
    {
        tracing::warn!(%error, "the plan of a run that has ended could not be removed");
    }
}

/// Waits until the program tells that it was asked to end; not so where it ends before.
async fn is_ending(run: &mut Outliving) -> bool {
    let mut seen = Vec::new();
    while let Ok(Some(bytes)) = run.read().await {
        seen.extend_from_slice(&bytes);
        if String::from_utf8_lossy(&seen).contains(IS_ENDING) {
            return true;
        }
        seen.drain(..seen.len().saturating_sub(IS_ENDING.len()));
    }
    false
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
