//! `backstay completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, exit::Exit, terminal::Terminal};

/// Print a script that completes commands in a shell
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay completions bash > /etc/bash_completion.d/backstay")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "backstay", &mut script);
        terminal.data(&String::from_utf8(script)?)?;
        Ok(Exit::Done)
    }
}
