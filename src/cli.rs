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
mod drift;
mod drill;
pub mod exit;
mod explain;
mod fleet;
mod folder;
mod git;
mod hold;
mod hook;
mod identity;
mod init;
mod keygen;
mod kit;
mod list;
mod measured;
mod names;
mod plan;
mod post;
mod probe;
mod progress;
mod rebuild;
mod render;
mod report;
mod restore;
mod review;
mod run;
mod runbook;
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
mod wal;
mod watch_stand_ins;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use exit::Exit;
use fleet::{Choice, WrongChoice};
use terminal::Terminal;

use crate::spec::names::FleetName;

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
    /// The controller's own configuration, or a folder with one for each of several fleets
    #[arg(
        long,
        global = true,
        value_name = "FILE|DIR",
        env = "BACKSTAY_CONFIG",
        default_value = "/etc/backstay/backstay.toml"
    )]
    config: PathBuf,
    /// The fleet that is meant, of a folder of several: `shop` for shop.toml
    #[arg(long, global = true, value_name = "NAME", env = "BACKSTAY_FLEET")]
    fleet: Option<FleetName>,
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
    Probe(probe::Probe),
    Apply(apply::Apply),
    Run(run::Run),
    Status(status::Status),
    List(list::List),
    Explain(explain::Explain),
    Drift(drift::Drift),
    Trace(trace::Trace),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Verify(verify::Verify),
    Drill(drill::Drill),
    Rebuild(rebuild::Rebuild),
    Runbook(runbook::Make),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Hold(hold::Hold),
    Release(hold::Release),
    Keygen(keygen::Keygen),
    Adopt(adopt::Adopt),
    Approve(approve::Approve),
    Kit(kit::Kit),
    Hook(hook::Hook),
    WalPush(wal::WalPush),
    WalFetch(wal::WalFetch),
    Wake(wake::Wake),
    Schema(schema::Schema),
    Completions(completions::Completions),
    #[command(name = crate::templates::apart::COMMAND, hide = true)]
    Render(render::Render),
    WatchStandIns(watch_stand_ins::WatchStandIns),
}

/// Parses the arguments, runs the command, and says how it ended.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let terminal = Terminal::new(&cli.global);
    let choice = Choice::new(&cli.global.config, cli.global.fleet.as_ref());
    log(&cli, choice);
    run_command(cli.command, choice, &terminal).unwrap_or_else(|error| {
        terminal.error(&error);
        if error.is::<WrongChoice>() { Exit::Usage } else { Exit::Failed }
    })
}

fn run_command(command: Command, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
    match command {
        Command::Demo(command) => command.run(terminal),
        Command::Init(command) => command.run(terminal),
        Command::Validate(command) => command.run(terminal),
        Command::Plan(command) => command.run(choice, terminal),
        Command::Probe(command) => command.run(&choice.one()?, terminal),
        Command::Apply(command) => command.run(&choice.one()?, terminal),
        Command::Run(command) => command.run(choice, terminal),
        Command::Status(command) => command.run(choice, terminal),
        Command::List(command) => command.run(choice, terminal),
        Command::Explain(command) => command.run(&choice.one()?, terminal),
        Command::Drift(command) => command.run(choice, terminal),
        Command::Trace(command) => command.run(&choice.one()?, terminal),
        Command::Backup(command) => command.run(&choice.one()?, terminal),
        Command::Restore(command) => command.run(&choice.one()?, terminal),
        Command::Verify(command) => command.run(&choice.one()?, terminal),
        Command::Drill(command) => command.run(&choice.one()?, terminal),
        Command::Rebuild(command) => command.run(&choice.one()?, terminal),
        Command::Runbook(command) => command.run(&choice.one()?, terminal),
        Command::Suspend(command) => command.run(&choice.one()?, terminal),
        Command::Resume(command) => command.run(&choice.one()?, terminal),
        Command::Hold(command) => command.run(&choice.one()?, terminal),
        Command::Release(command) => command.run(&choice.one()?, terminal),
        Command::Keygen(command) => command.run(terminal),
        Command::Adopt(command) => command.run(&choice.one()?, terminal),
        Command::Approve(command) => command.run(&choice.one()?, terminal),
        Command::Kit(command) => command.run(&choice.one()?, terminal),
        Command::Hook(command) => command.run(choice, terminal),
        Command::WalPush(command) => command.run(&choice.one()?, terminal),
        Command::WalFetch(command) => command.run(&choice.one()?),
        Command::Wake(command) => command.run(choice, terminal),
        Command::Schema(command) => command.run(terminal),
        Command::Completions(command) => command.run(terminal),
        Command::Render(command) => command.run(),
        Command::WatchStandIns(command) => command.run(&choice.one()?),
    }
}

/// Sends the log to stderr, as much of it as was asked for. Threads are called after their fleet, where there are several.
fn log(cli: &Cli, choice: Choice<'_>) {
    let global = &cli.global;
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "backstay=info,warn",
        (false, _) => "backstay=debug,info",
    };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_writer(std::io::stderr)
        .with_thread_names(matches!(cli.command, Command::Run(_)) && choice.folder().is_some())
        .with_ansi(global.color != Color::Never)
        .init();
}

fn refuse(error: &clap::Error) -> Exit {
    // Nothing better can be done when even stderr is closed.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
