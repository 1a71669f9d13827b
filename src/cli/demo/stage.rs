//! The stage of the demo: runs Backstay's own commands as a person would, shows them, and holds them to their promise.

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use anyhow::{Context, bail};

use super::super::{exit::Exit, terminal::Terminal};

/// How long the loop may take to do what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs commands, shows them, and holds them to their promise.
pub(super) struct Stage {
    terminal: Terminal,
    program: PathBuf,
    config: PathBuf,
}

impl Stage {
    pub(super) fn new(terminal: Terminal, config: PathBuf) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("failed to find the program itself")?;
        Ok(Self { terminal, program, config })
    }

    /// Begins a scene.
    pub(super) fn scene(&self, title: &str) -> anyhow::Result<()> {
        Ok(self.terminal.data(&format!("\n{}\n", self.terminal.stdout.strong(format!("── {title}"))))?)
    }

    /// Tells what happens behind the scene.
    pub(super) fn say(&self, text: &str) -> anyhow::Result<()> {
        Ok(self.terminal.data(&format!("{text}\n"))?)
    }

    /// Shows a command line that is run behind the scene.
    pub(super) fn command_line(&self, line: &str) -> anyhow::Result<()> {
        self.say(&self.terminal.stdout.faint(format!("$ {line}")))
    }

    /// Shows a command and its output, and fails unless it ends as it should.
    pub(super) fn backstay(&self, arguments: &[&str], expected: Exit) -> anyhow::Result<String> {
        let line = format!("backstay {}", typed(arguments));
        self.command_line(&line)?;
        let (mut both, stdout) = std::io::pipe()?;
        let mut command = self.command(arguments);
        command.stderr(stdout.try_clone()?).stdout(stdout);
        let mut child = command.spawn().with_context(|| format!("failed to start {line}"))?;
        // The pipe's end comes once nobody can write into it any more.
        drop(command);
        let mut text = String::new();
        both.read_to_string(&mut text)?;
        self.say(text.trim_end())?;
        match child.wait()?.code() {
            Some(code) if code == i32::from(expected.code()) => Ok(text),
            code => bail!("`{line}` ended with {code:?} where {} was expected", expected.code()),
        }
    }

    /// What a command says to programs, unshown.
    pub(super) fn ask(&self, arguments: &[&str]) -> anyhow::Result<serde_json::Value> {
        let run = self.command(arguments).args(["--output", "json"]).output()?;
        serde_json::from_slice(&run.stdout)
            .with_context(|| format!("failed to read `backstay {}`: {}", arguments.join(" "), words(&run)))
    }

    /// Starts `backstay run`, the loop that keeps reality in step.
    pub(super) fn start_loop(&self) -> anyhow::Result<Loop> {
        self.command_line("backstay run &")?;
        let mut child = self
            .command(&["run"])
            .args(["--output", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start `backstay run`")?;
        let stdout = child.stdout.take().context("`backstay run` has no output")?;
        Ok(Loop { passes: read_passes(stdout), child })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--config").arg(&self.config).stdin(Stdio::null());
        command.args([
            "--color",
            if self.terminal.stdout == crate::render::Palette::Colored { "always" } else { "never" },
        ]);
        command
    }
}

/// Arguments as a person types them.
fn typed(arguments: &[&str]) -> String {
    let quoted = arguments.iter().map(|argument| match argument.contains(' ') {
        true => format!("'{argument}'"),
        false => (*argument).to_owned(),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn words(run: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr))
}

/// The running loop; ends with this value.
pub(super) struct Loop {
    child: Child,
    passes: mpsc::Receiver<serde_json::Value>,
}

impl Loop {
    /// Waits until it ends by itself, as it does at Ctrl-C.
    pub(super) fn wait(mut self) -> anyhow::Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// Waits for a pass whose report satisfies `condition`.
    pub(super) fn wait_for(
        &self,
        what: &str,
        mut condition: impl FnMut(&serde_json::Value) -> bool,
    ) -> anyhow::Result<serde_json::Value> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let pass =
                self.passes.recv_timeout(left).with_context(|| format!("the loop did not come to {what}"))?;
            if condition(&pass) {
                return Ok(pass);
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // One that ended already needs no signal.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

fn read_passes(stdout: ChildStdout) -> mpsc::Receiver<serde_json::Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let Ok(pass) = serde_json::from_str(&line) else { continue };
            if sender.send(pass).is_err() {
                break;
            }
        }
    });
    receiver
}
