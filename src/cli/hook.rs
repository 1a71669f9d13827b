//! `backstay hook`: a plain Git server tells the controller of every push.

mod script;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::script::{CHAINED, MARK, Way};
use super::{Output, exit::Exit, fleet::Choice, terminal::Terminal};
use crate::git::url::git_dir;

/// The hook that Git runs when a push is through (githooks(5)).
const NAME: &str = "post-receive";

/// Let a plain Git server tell the controller of every push
///
/// Writes a `post-receive` hook into a repository on this host. It never delays or fails a push. A hook that is there
/// already goes on running after it. Forges such as GitHub have webhooks for this.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  backstay hook install /srv/git/infra.git\n  backstay hook install /srv/git/infra.git --url \
                  https://backup.example.org/hooks/git --token /etc/backstay-hook-token"
)]
pub(super) struct Hook {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the hook; again, to change it
    Install {
        /// The repository, bare or not
        repo: PathBuf,
        #[command(flatten)]
        way: WayArguments,
    },
    /// Take the hook away, and put the one that was there before into its place
    Remove {
        /// The repository, bare or not
        repo: PathBuf,
    },
    /// Print the hook, for a Git server without Backstay
    Print {
        #[command(flatten)]
        way: WayArguments,
    },
}

#[derive(Debug, Args)]
struct WayArguments {
    /// The controller's webhook, when the controller is on another host or runs as another user; needs curl
    #[arg(long, requires = "token", value_parser = url)]
    url: Option<String>,
    /// The file of the webhook's secret on the Git server, mode 0600, of the user that receives pushes
    #[arg(long, requires = "url", value_name = "FILE")]
    token: Option<PathBuf>,
}

#[derive(Serialize)]
struct Done {
    hook: PathBuf,
    chained: Option<PathBuf>,
    did: Did,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Did {
    Installed,
    Removed,
    Nothing,
}

impl Hook {
    pub(super) fn run(self, choice: Choice<'_>, terminal: &Terminal) -> anyhow::Result<Exit> {
        match self.command {
            Command::Install { repo, way } => {
                let hooks = hooks_of(&repo)?;
                let way = way.way(choice)?;
                if let Way::Web { token, .. } = &way {
                    check_token(token, terminal)?;
                }
                report(terminal, &install(&hooks, &script::text(&way))?)
            }
            Command::Remove { repo } => report(terminal, &remove(&hooks_of(&repo)?)?),
            Command::Print { way } => {
                terminal.data(&script::text(&way.way(choice)?))?;
                Ok(Exit::Done)
            }
        }
    }
}

impl WayArguments {
    fn way(self, choice: Choice<'_>) -> anyhow::Result<Way> {
        Ok(match (self.url, self.token) {
            (Some(url), Some(token)) => Way::Web { url, token: std::path::absolute(token)? },
            _ => {
                let program = std::env::current_exe().context("failed to find this program's own file")?;
                Way::Local { program, config: std::path::absolute(choice.one_or_folder()?)? }
            }
        })
    }
}

fn url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_graphic());
    match rest {
        Some(rest) if plain(rest) => Ok(text.to_owned()),
        _ => Err("give a URL of http or https, such as http://127.0.0.1:9180/hooks/git".to_owned()),
    }
}

/// Where Git looks for the hooks of this repository.
fn hooks_of(repo: &Path) -> anyhow::Result<PathBuf> {
    let dir = git_dir(repo).with_context(|| {
        format!(
            "failed to find a Git repository in {}: give a bare repository, or one with a work tree",
            repo.display()
        )
    })?;
    let opened = git2::Repository::open(&dir)
        .with_context(|| format!("failed to open the Git repository {}", dir.display()))?;
    if let Ok(elsewhere) = opened.config().and_then(|config| config.get_path("core.hooksPath")) {
        bail!(
            "failed to install a hook into {}: its hooks are in {} (core.hooksPath), which other repositories may share; \
             put the script of `backstay hook print` there yourself",
            repo.display(),
            elsewhere.display()
        );
    }
    Ok(std::path::absolute(dir)?.join("hooks"))
}

/// A token that others can read, or that nobody can, is told while a person looks on: the hook itself is silent.
fn check_token(token: &Path, terminal: &Terminal) -> anyhow::Result<()> {
    let read = fs::metadata(token).with_context(|| {
        format!("failed to read the token {}: write the webhook's secret into it", token.display())
    })?;
    let mode = read.permissions().mode() & 0o7777;
    ensure!(
        mode & 0o077 == 0,
        "failed to use the token {}: others can read it (mode {mode:04o}); chmod 600 it",
        token.display()
    );
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|folder| folder.join("curl").is_file()) {
        terminal.note("The hook needs curl, which is not on the PATH here: install it.");
    }
    Ok(())
}

/// Puts `text` into the hook's place, at no moment of which there is no hook where there was one.
fn install(hooks: &Path, text: &str) -> anyhow::Result<Done> {
    let (hook, chained) = (hooks.join(NAME), hooks.join(CHAINED));
    let failed = || format!("failed to write the hook {}: check the rights there", hook.display());
    fs::create_dir_all(hooks).with_context(failed)?;
    let before = occupant(&hook)?;
    if before == Occupant::Ours && fs::read_to_string(&hook).is_ok_and(|present| present == text) {
        return Ok(Done { hook, chained: existing(chained), did: Did::Nothing });
    }
    let mut written = tempfile::NamedTempFile::new_in(hooks).with_context(failed)?;
    io::Write::write_all(&mut written, text.as_bytes()).with_context(failed)?;
    fs::set_permissions(written.path(), fs::Permissions::from_mode(0o755)).with_context(failed)?;
    written.as_file().sync_all().with_context(failed)?;
    if before == Occupant::Another {
        fs::hard_link(&hook, &chained).with_context(|| {
            format!(
                "failed to keep the hook {} as {}: move one of the two away",
                hook.display(),
                chained.display()
            )
        })?;
    }
    written.persist(&hook).map_err(|error| error.error).with_context(failed)?;
    Ok(Done { hook, chained: existing(chained), did: Did::Installed })
}

/// Takes a hook of ours away; another one is not touched.
fn remove(hooks: &Path) -> anyhow::Result<Done> {
    let (hook, chained) = (hooks.join(NAME), hooks.join(CHAINED));
    let failed = || format!("failed to remove the hook {}: check the rights there", hook.display());
    if occupant(&hook)? != Occupant::Ours {
        return Ok(Done { hook, chained: None, did: Did::Nothing });
    }
    match fs::rename(&chained, &hook) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::remove_file(&hook).with_context(failed)?
        }
        renamed => renamed.with_context(failed)?,
    }
    Ok(Done { hook, chained: None, did: Did::Removed })
}

/// Whose hook is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occupant {
    Nobody,
    Ours,
    Another,
}

fn occupant(hook: &Path) -> anyhow::Result<Occupant> {
    match fs::symlink_metadata(hook) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Occupant::Nobody),
        Err(error) => return Err(error).with_context(|| format!("failed to read {}", hook.display())),
        Ok(found) if found.is_dir() => {
            bail!("failed to replace {}: it is a folder; move it away", hook.display())
        }
        Ok(found) if !found.is_file() => return Ok(Occupant::Another),
        Ok(_) => {}
    }
    let text = fs::read(hook).with_context(|| format!("failed to read {}", hook.display()))?;
    let ours = text.split(|byte| *byte == b'\n').nth(1) == Some(MARK.as_bytes());
    Ok(if ours { Occupant::Ours } else { Occupant::Another })
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    path.symlink_metadata().is_ok().then_some(path)
}

fn report(terminal: &Terminal, done: &Done) -> anyhow::Result<Exit> {
    if terminal.output == Output::Json {
        terminal.json("backstay.hook/1", done)?;
        return Ok(Exit::Done);
    }
    let hook = done.hook.display();
    let text = match (done.did, &done.chained) {
        (Did::Installed, None) => format!("Installed {hook}.\n"),
        (Did::Installed, Some(chained)) => {
            format!("Installed {hook}; the one that was there runs after it, as {}.\n", chained.display())
        }
        (Did::Removed, _) => format!("Removed {hook}; what was there before is back.\n"),
        (Did::Nothing, _) => format!("Nothing to do for {hook}.\n"),
    };
    terminal.data(&text)?;
    Ok(Exit::Done)
}
