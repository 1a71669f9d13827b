//! One run of the program that may change something. It is never cut off by our own end: it prints into files of the workshop, and has
//! the workshop's lock for its standard input. A controller that is killed so leaves a run that goes on, saves its state, and keeps
//! everybody else out until then.

use bytes::Bytes;
use tokio::{sync::mpsc, task::JoinHandle};

use super::{Failure, Said, Workshop, commands::Purpose, flat};
use crate::process::{self, Exit, Outliving, ProcessError, Program};

/// The longest line that is handed on, characters.
const LONGEST_LINE: usize = 300;

/// What the program prints once it was asked to end; asked twice, it ends at once, without its state. It begins a line: what a module's
/// own programs print comes after their resource's name.
const IS_ENDING: &[u8] = b"\nGracefully shutting down";
const ENDED_AT_ONCE: &str = "interrupts received";

/// How long the program may take to tell that somebody else has asked it to end: whoever stops us may stop it as well, such as systemd,
/// which signals all of a unit's processes.
const HEARS: std::time::Duration = std::time::Duration::from_secs(2);

/// Runs a program that tells nothing but whether it went well. Given up, it keeps the workshop until it has ended as well.
pub(super) async fn quiet(program: Program, workshop: &Workshop) -> Result<(), Failure> {
    // Whatever its plan is for, the run itself makes nothing, and an open plan is none of its business.
    told(program, (workshop, Purpose::Look), &|_| {}).await??;
    workshop.clear_files()
}

/// Runs a program and tells each line of it. Where nobody waits for it any more, it is asked to end, and keeps the workshop until it
/// has saved the state.
pub(super) async fn told(
    program: Program,
    (workshop, purpose): (&Workshop, Purpose),
    said: Said<'_>,
) -> Result<Result<(), ProcessError>, Failure> {
    let run = Heard::of(program.start_outliving(workshop.files()?)?);
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
    mut run: Heard,
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
            None => return run.run.finish().await,
        }
    }
}

/// Has a run end that nobody waits for. Where it saved what it made, its plan is of no more use.
async fn give_up(mut run: Heard, (workshop, purpose): (&Workshop, Purpose)) {
    // Where it tells nothing in that time, nobody asked it.
    let _ = tokio::time::timeout(HEARS, run.until_asked()).await;
    if let Some((exit, said)) = run.run.stop().await
        && purpose == Purpose::Make
        && saved(exit, &said, workshop)
        && let Err(error) = workshop.close_plan()
    {
        tracing::warn!(%error, "the plan of a run that has ended could not be removed");
    }
}

/// A run, of which each piece that it prints is looked at: once it tells that somebody has asked it to end, nobody asks it again, be
/// it for a limit or because it is given up.
struct Heard {
    run: Outliving,
    notice: Notice,
    was_asked: bool,
}

impl Heard {
    fn of(run: Outliving) -> Self {
        Self { run, notice: Notice::default(), was_asked: false }
    }

    async fn read(&mut self) -> Result<Option<Bytes>, ProcessError> {
        let read = self.run.read().await?;
        if let Some(bytes) = &read
            && self.notice.is_in(bytes)
        {
            self.was_asked = true;
            self.run.was_asked();
        }
        Ok(read)
    }

    /// Waits until it tells that it was asked to end, or has ended.
    async fn until_asked(&mut self) {
        while !self.was_asked && matches!(self.read().await, Ok(Some(_))) {}
    }
}

/// Looks for [`IS_ENDING`] in what comes in pieces.
struct Notice {
    /// The end of what came before, too short to hold all of it.
    tail: Vec<u8>,
}

impl Default for Notice {
    /// What comes first begins a line.
    fn default() -> Self {
        Self { tail: vec![b'\n'] }
    }
}

impl Notice {
    /// Whether it is in what came until now, and was not before.
    fn is_in(&mut self, piece: &[u8]) -> bool {
        self.tail.extend_from_slice(piece);
        let found = self.tail.windows(IS_ENDING.len()).any(|window| window == IS_ENDING);
        self.tail.drain(..self.tail.len().saturating_sub(IS_ENDING.len() - 1));
        found
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

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Mutex, time::Duration};

    use super::*;
    use crate::provisioners::terraform::workshop::tests::stand_in;

    fn sh(script: &str) -> Program {
        Program::new("sh").arguments(["-c", script]).grace(Duration::from_secs(30))
    }

    /// Waits until nothing runs any more in the workshop below `root`.
    async fn left(root: &Path) -> Workshop {
        loop {
            match Workshop::open(&stand_in(root)) {
                Ok(workshop) => return workshop,
                Err(Failure::Busy { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_notice_is_found_over_borders_and_only_where_the_program_itself_tells_it() {
        let found = |pieces: &[&str]| {
            let mut notice = Notice::default();
            pieces.iter().any(|piece| notice.is_in(piece.as_bytes()))
        };
        assert!(found(&["Interrupt received.\nGracefully shutting down...\n"]));
        assert!(found(&["a\n", "\nGrace", "fully shutting", " down"]));
        assert!(found(&["Gracefully shutting down"]));
        assert!(!found(&["x (local-exec): Gracefully shutting down\n", "Gracefully\nshutting down"]));
    }

    #[tokio::test]
    async fn a_run_that_told_of_its_end_is_not_asked_again() {
        let told_of = "trap 'echo asked > asked' INT; echo Gracefully shutting down...; echo more;";
        let root = tempfile::tempdir().unwrap();
        let workshop = left(root.path()).await;
        let asked = workshop.path("asked");
        let program = |rest: &str| sh(&format!("{told_of} {rest}")).folder(workshop.folder()).interrupted();

        let silent = program("sleep 1; exit 1").stall(Duration::from_millis(300));
        let ended = told(silent, (&workshop, Purpose::Make), &|_| {}).await.unwrap();
        assert!(matches!(ended, Err(ProcessError::Stalled { .. })), "{ended:?}");
        assert!(!asked.exists(), "it was asked again for a limit");

        // Longer than is waited for the notice.
        let (program, heard) = (program("sleep 3; touch ended; exit 1"), Mutex::new(Vec::new()));
        let hear = |line: &str| heard.lock().unwrap().push(line.to_owned());
        let run = told(program, (&workshop, Purpose::Make), &hear);
        let given_up = async {
            while !heard.lock().unwrap().iter().any(|line| line == "more") {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = run => panic!("it ended: {ended:?}"),
            () = given_up => {}
        }
        drop(workshop);
        let workshop = left(root.path()).await;
        assert!(
            workshop.path("ended").exists() && !asked.exists(),
            "it was asked again when it was given up"
        );
    }

    #[tokio::test]
    async fn a_quiet_run_that_is_given_up_keeps_the_workshop_until_it_has_ended() {
        let root = tempfile::tempdir().unwrap();
        let workshop = left(root.path()).await;
        std::fs::write(workshop.planned(Purpose::Make), "").unwrap();
        let open = workshop.begin(Purpose::Make).unwrap();
        let begun = workshop.path("begun");
        let saves = "trap 'sleep 0.5; echo {} > drill.tfstate; exit 1' INT; touch begun; sleep 60";
        let program = sh(saves).folder(workshop.folder()).interrupted();
        let given_up = async {
            while !begun.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            ended = quiet(program, &workshop) => panic!("it ended: {ended:?}"),
            () = given_up => {}
        }
        drop(workshop);
        assert!(matches!(Workshop::open(&stand_in(root.path())), Err(Failure::Busy { .. })));
        let workshop = left(root.path()).await;
        assert!(workshop.has_saved(), "it was not waited for");
        assert!(open.exists(), "the plan of an earlier run is none of its business");
    }
}
