//! Playbooks, by `ansible-playbook`. What it does is told by a callback plugin of our own, a JSON object a line, so that neither
//! the version of Ansible nor its collections matter.
//!
//! Nothing of whoever runs Backstay is read: HOME, the configuration, the inventory and the connections of ssh are made for each
//! run in a private folder, and the machines are known by their pinned keys only.

mod events;
mod folder;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;

use self::{
    events::{Events, Failure},
    folder::Folder,
};
use super::{Configurer, HostResult, Play, ProvisionError, Said, login::login};
use crate::{
    process::{self, ProcessError, Program},
    secrets::Resolver,
    ssh::{Files, Login},
    stores::Class,
};

/// The program.
pub const PROGRAM: &str = "ansible-playbook";

/// The longest that no task may begin or end, and the longest that a playbook may take.
const SILENCE: Duration = Duration::from_secs(2 * 3600);
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// How many failures an error tells.
const TOLD: usize = 5;

/// How each machine is reached, or why it can't be.
type Logins = BTreeMap<String, Result<(Login, Files), String>>;

/// Runs playbooks.
#[derive(Clone)]
pub struct AnsibleConfigurer {
    resolver: Resolver,
}

impl AnsibleConfigurer {
    /// Logs in with identities that `resolver` finds.
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver }
    }

    /// How each machine is reached, with the private files for it; or why it can't be: that fails the playbook only where it is
    /// meant for that machine.
    async fn logins(&self, play: &Play<'_>) -> Result<Logins, ProvisionError> {
        let mut logins = Logins::new();
        for (name, (vm, running)) in play.machines {
            let login = match login(&self.resolver, vm, running).await {
                Ok(login) => {
                    let files = Files::write(&login).map_err(|error| unprepared(&error))?;
                    Ok((login, files))
                }
                Err(error) => Err(error.message),
            };
            logins.insert(name.to_string(), login);
        }
        Ok(logins)
    }
}

#[async_trait]
impl Configurer for AnsibleConfigurer {
    async fn run(
        &self,
        play: &Play<'_>,
        said: Said<'_>,
    ) -> Result<BTreeMap<String, HostResult>, ProvisionError> {
        let playbook = within(play, play.playbook)?;
        let inventory = play.inventory.map(|path| within(play, path)).transpose()?;
        let logins = self.logins(play).await?;
        let folder = Folder::make(&logins, play).map_err(|error| unprepared(&error))?;
        let inventory = inventory.unwrap_or_else(|| folder.inventory());
        let program = program(play, &playbook, &inventory, &folder)?;
        let unreached =
            logins.iter().filter_map(|(name, login)| Some((name.clone(), login.as_ref().err()?.clone())));
        let mut events = Events::new(unreached.collect());
        let ended = follow(program, &mut events, said).await;
        folder.disconnect().await;
        judge(play, events, ended)
    }
}

/// A path of the tree, which must be there.
fn within(play: &Play<'_>, path: &str) -> Result<PathBuf, ProvisionError> {
    let whole = play.tree.join(path);
    if whole.exists() {
        return Ok(whole);
    }
    let (path, playbook) = (path.escape_debug(), play.playbook.escape_debug());
    Err(ProvisionError::stalled(format!(
        "failed to run {playbook}: the revision has no {path}; commit it to the infra repo"
    )))
}

fn program(
    play: &Play<'_>,
    playbook: &std::path::Path,
    inventory: &std::path::Path,
    folder: &Folder,
) -> Result<Program, ProvisionError> {
    let found = process::find(&[PROGRAM], &process::search_path());
    let found = found.map_err(|error| ProvisionError::stalled(format!("{error} (Debian: ansible-core)")))?;
    let mut program = Program::new(found).argument("--inventory").argument(inventory);
    if let Some(variables) = folder.variables() {
        program = program.argument("--extra-vars").argument(format!("@{}", variables.display()));
    }
    if let Some(limit) = play.limit {
        program = program.argument(format!("--limit={limit}"));
    }
    let program = program.argument("--").argument(playbook).folder(play.tree);
    let program = folder
        .environment()
        .into_iter()
        .fold(program, |program, (name, value)| program.variable(name, value));
    Ok(program.stall(SILENCE).timeout(LONGEST))
}

/// Runs it to its end, and hears what it tells.
async fn follow(program: Program, events: &mut Events, said: Said<'_>) -> Result<(), ProcessError> {
    let mut process = program.start()?;
    process.close_input();
    while let Some(bytes) = process.read().await? {
        events.hear(&bytes, said);
    }
    process.finish().await
}

/// Whether it ended well on every host.
fn judge(
    play: &Play<'_>,
    events: Events,
    ended: Result<(), ProcessError>,
) -> Result<BTreeMap<String, HostResult>, ProvisionError> {
    let playbook = play.playbook.escape_debug();
    let Events { hosts, failures, whole, .. } = events;
    if !failures.is_empty() {
        let told: Vec<String> = failures.iter().take(TOLD).map(Failure::to_string).collect();
        let more = failures.len().saturating_sub(TOLD);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let unreached = failures.iter().all(|failure| failure.unreachable);
        let class = if unreached { Class::Retry } else { Class::Stalled };
        if ended.is_err() || hosts.values().any(|host| host.failed > 0) {
            return Err(ProvisionError {
                class,
                message: format!("failed to run {playbook}: {}{more}", told.join("; ")),
            });
        }
    }
    if let Err(error) = ended {
        return Err(ProvisionError::stalled(format!("failed to run {playbook}: {error}")));
    }
    if !whole {
        return Err(ProvisionError::stalled(format!(
            "failed to run {playbook}: Ansible did not tell how it ended"
        )));
    }
    if hosts.is_empty() {
        let hint = "see its `hosts`, the declared limit and the inventory";
        return Err(ProvisionError::stalled(format!(
            "failed to run {playbook}: it was meant for no host; {hint}"
        )));
    }
    if let Some((host, result)) = hosts.iter().find(|(_, result)| result.failed > 0) {
        let (host, failed) = (host.escape_debug(), result.failed);
        return Err(ProvisionError::stalled(format!(
            "failed to run {playbook}: {failed} tasks failed on {host}"
        )));
    }
    Ok(hosts)
}

fn unprepared(error: &std::io::Error) -> ProvisionError {
    ProvisionError::retry(format!(
        "failed to write files for Ansible: {error}; make room in the folder of temporary files"
    ))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn judged(lines: &str) -> Result<BTreeMap<String, HostResult>, ProvisionError> {
        let machines = BTreeMap::new();
        let play = Play {
            tree: Path::new("/t"),
            playbook: "site.yml",
            limit: None,
            inventory: None,
            machines: &machines,
            drill: None,
        };
        let mut events = Events::default();
        events.hear(lines.as_bytes(), &|_| {});
        judge(&play, events, Ok(()))
    }

    #[test]
    fn a_run_is_good_only_when_it_ended_well_on_some_host_and_every_one() {
        let host = |name: &str, failed: u64| {
            format!("{{\"event\":\"host\",\"host\":\"{name}\",\"ok\":2,\"changed\":1,\"failed\":{failed}}}\n")
        };
        let end = "{\"event\":\"end\"}\n";
        let good = judged(&format!("{}{end}", host("web", 0))).unwrap();
        assert_eq!(good["web"], HostResult { ok: 2, changed: 1, failed: 0 });
        for (lines, why) in [
            (String::new(), "did not tell"),
            (host("web", 0), "did not tell"),
            (end.to_owned(), "no host"),
            (format!("{}{}{end}", host("web", 0), host("db", 1)), "1 tasks failed on db"),
        ] {
            let error = judged(&lines).unwrap_err().to_string();
            assert!(error.contains(why), "{lines}: {error}");
        }
    }

    #[test]
    fn an_error_names_the_task_the_host_and_why() {
        let error = judged(
            "{\"event\":\"failed\",\"host\":\"web\",\"task\":\"install\",\"why\":\"no\\u001b[31m package\"}\n\
             {\"event\":\"host\",\"host\":\"web\",\"ok\":2,\"changed\":1,\"failed\":1}\n{\"event\":\"end\"}\n",
        );
        let error = error.unwrap_err().to_string();
        assert_eq!(error, "failed to run site.yml: task `install` failed on web: no\\u{1b}[31m package");
    }
}
