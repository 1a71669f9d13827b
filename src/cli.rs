//! The command line. The only part of the library that prints; data goes to stdout, all else to stderr.

mod completions;
pub mod exit;
mod folder;
mod git;
mod identity;
mod init;
mod keygen;
mod terminal;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use exit::Exit;
use terminal::Terminal;

/// Keeps backups in step with what a Git repository declares.
#[derive(Debug, Parser)]
#[command(name = "backstay", version, max_term_width = 100, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
struct Global {
    /// The controller's own configuration
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "BACKSTAY_CONFIG",
        default_value = "/etc/backstay/backstay.toml"
    )]
    config: PathBuf,
    /// What data on stdout looks like
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    color: Color,
    /// Say more on stderr; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

/// What data on stdout looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: one object with a versioned `format`.
    Json,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    /// On a terminal that wants them.
    Auto,
    /// Even in a pipe.
    Always,
    /// At no time.
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Keygen(keygen::Keygen),
    Completions(completions::Completions),
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let terminal = Terminal::new(&cli.global);
    let outcome = match cli.command {
        Command::Init(command) => command.run(&terminal),
        Command::Keygen(command) => command.run(&terminal),
        Command::Completions(command) => command.run(&terminal),
    };
    outcome.unwrap_or_else(|error| {
        terminal.error(&error);
        Exit::Failed
    })
}

fn refuse(error: &clap::Error) -> Exit {
    // Nothing better can be done when even stderr is closed.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
