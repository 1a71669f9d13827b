//! The command line. The only part of the library that prints; data goes to stdout, all else to stderr.

mod adopt;
mod apply;
mod approve;
mod backup;
mod checkout;
mod completions;
mod controller;
mod declaration;
mod demo;
pub mod exit;
mod explain;
mod folder;
mod git;
mod hold;
mod hook;
mod identity;
mod init;
mod keygen;
mod kit;
mod list;
mod names;
mod plan;
mod post;
mod progress;
mod report;
mod restore;
mod review;
mod run;
mod saying;
mod scheduled;
mod schema;
mod status;
mod suspend;
mod terminal;
mod trace;
mod validate;
mod verify;
mod wake;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

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
    Demo(demo::Demo),
    Init(init::Init),
    Validate(validate::Validate),
    Plan(plan::Plan),
    Apply(apply::Apply),
    Run(run::Run),
    Status(status::Status),
    List(list::List),
    Explain(explain::Explain),
    Trace(trace::Trace),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Hold(hold::Hold),
    Release(hold::Release),
    Keygen(keygen::Keygen),
    Adopt(adopt::Adopt),
    Approve(approve::Approve),
    Kit(kit::Kit),
    Hook(hook::Hook),
    Wake(wake::Wake),
    Schema(schema::Schema),
    Completions(completions::Completions),
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let terminal = Terminal::new(&cli.global);
    log(&cli.global);
    run_command(cli.command, &cli.global.config, &terminal).unwrap_or_else(|error| {
        terminal.error(&error);
        Exit::Failed
    })
}

fn run_command(command: Command, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(command) => command.run(terminal),
        Command::Init(command) => command.run(terminal),
        Command::Validate(command) => command.run(terminal),
        Command::Plan(command) => command.run(config, terminal),
        Command::Apply(command) => command.run(config, terminal),
        Command::Run(command) => command.run(config, terminal),
        Command::Status(command) => command.run(config, terminal),
        Command::List(command) => command.run(config, terminal),
        Command::Explain(command) => command.run(config, terminal),
        Command::Trace(command) => command.run(config, terminal),
        Command::Backup(command) => command.run(config, terminal),
        Command::Restore(command) => command.run(config, terminal),
        Command::Verify(command) => command.run(config, terminal),
        Command::Suspend(command) => command.run(config, terminal),
        Command::Resume(command) => command.run(config, terminal),
        Command::Hold(command) => command.run(config, terminal),
        Command::Release(command) => command.run(config, terminal),
        Command::Keygen(command) => command.run(terminal),
        Command::Adopt(command) => command.run(config, terminal),
        Command::Approve(command) => command.run(config, terminal),
        Command::Kit(command) => command.run(config, terminal),
        Command::Hook(command) => command.run(config, terminal),
        Command::Wake(command) => command.run(config, terminal),
        Command::Schema(command) => command.run(terminal),
        Command::Completions(command) => command.run(terminal),
    }
}

/// Sends the log to stderr, as much of it as was asked for.
fn log(global: &Global) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "backstay=info,warn",
        (false, _) => "backstay=debug,info",
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_ansi(global.color != Color::Never)
        .init();
}

fn refuse(error: &clap::Error) -> Exit {
    // Nothing better can be done when even stderr is closed.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
