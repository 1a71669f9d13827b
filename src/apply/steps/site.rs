//! What a recovery works on: the declared machines and data, or the stand-ins of a drill.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant},
};

use reqwest::redirect::Policy;
use tempfile::TempDir;

use super::{noted, transfers::Onto};
use crate::{
    apply::{
        executor::{Done, Failure},
        world::{World, stalled},
    },
    artifact::ArtifactId,
    git::revision,
    inventory::{Machine, Running},
    plan::{
        Step,
        action::{Existing, Remains, Restore, Work},
    },
    provisioners::{HostResult, Play, Provisioner, Remote, Said},
    sources::Holds,
    spec::{
        Ansible, Ready, Spec, Vm,
        names::{DrillName, TrafficName, VmName},
        traffic::Side,
    },
    templates::Templates,
    traffic::{SetError, Switch},
};

/// How long a machine may take until programs can be run on it.
const REACHED: Duration = Duration::from_secs(900);

/// The pause between two looks at what is waited for.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a server may take to answer what it took.
const CONFIRMED: Duration = Duration::from_secs(30);

/// How long one look may take.
const LOOK: Duration = Duration::from_secs(30);

/// Machines and data, as a declaration has them.
pub(super) struct Site<'a> {
    pub(super) world: &'a World,
    /// What of it is declared: the world's own declaration, or one of stand-ins.
    pub(super) spec: &'a Spec,
    /// The drill that made the stand-ins.
    pub(super) drill: Option<&'a DrillName>,
}

impl Site<'_> {
    /// Does a part of a recovery.
    pub(super) async fn work(
        &self,
        step: &Step,
        work: &Work,
        reader: Option<ArtifactId>,
    ) -> Result<Done, Failure> {
        let said = |line: &str| self.world.listener.says(step, line);
        match work {
            Work::Remove { vm, remains } => {
                let provisioner = self.provisioner(vm).await?;
                if *remains == Remains::HalfMade
                    && let Machine::Running(_) = provisioner.observe().await?
                {
                    return Err(stalled(format!(
                        "failed to remove what is left of machine {vm}: it runs; where that is meant, `--replace {vm}`"
                    )));
                }
                provisioner.down(&said).await?;
                Ok(noted("nothing of it is left".to_owned()))
            }
            Work::Provision(vm) => {
                let running = self.provisioner(vm).await?.up(&said).await?;
                Ok(noted(reached(&running)))
            }
            Work::Configure(vm) => self.configure(vm, &said).await,
            Work::Restore { restore, existing } => {
                let reader = reader.ok_or_else(|| stalled("no name was given"))?;
                let onto = Onto { spec: self.spec, existing: *existing };
                self.world.restore_in(step, restore, reader, onto).await
            }
            Work::Deploy(ansible) => Ok(noted(told(&self.play(ansible, &said).await?))),
            Work::Run { command, on, within } => {
                let remote = match on {
                    Some(vm) => self.remote(vm).await?,
                    None => self.world.drivers.here().map_err(stalled)?,
                };
                let printed = remote.run(command, *within).await?;
                Ok(noted(last_line(&printed)))
            }
            Work::Wait { until, within } => self.wait_until(until, *within).await,
            Work::Switch { .. } if self.drill.is_some() => {
                Err(stalled(format!("failed to {work}: a drill leads nobody anywhere")))
            }
            Work::Switch { traffic, to, values } => self.lead(traffic, *to, values).await,
        }
    }

    /// What to say where the data that is there stays, so that nothing is restored.
    ///
    /// # Errors
    /// Where there is data, and the plan does not say what becomes of it: nothing was begun then.
    pub(super) async fn data_that_stays(&self, work: &Work) -> Result<Option<String>, Failure> {
        let Work::Restore { restore, existing } = work else { return Ok(None) };
        let Restore { backup, .. } = restore;
        let declared = self.spec.backups.get(backup).ok_or_else(|| super::transfers::undeclared(backup))?;
        if *existing == Existing::Replaced {
            return Ok(None);
        }
        let source = self.world.drivers.source(&declared.source).await?;
        match (source.holds().await?, existing) {
            (Holds::Nothing, _) | (Holds::Untold, Existing::Refused | Existing::Replaced) => Ok(None),
            (Holds::Data(what), Existing::Kept) => Ok(Some(format!("its data is there ({what}), and stays"))),
            (Holds::Untold, Existing::Kept) => Ok(Some(format!(
                "left as it is: no machine that it waits for was made anew, and nothing tells whether its data is there; \
                 `--restore {backup}` restores it all the same"
            ))),
            (Holds::Data(what), Existing::Refused | Existing::Replaced) => Err(stalled(format!(
                "failed to restore {backup}: there is data already ({what}), which would be lost; where that is meant, or an earlier \
                 try of this recovery began to load it, `backstay rebuild … --resume --restore {backup}`"
            ))),
        }
    }

    async fn configure(&self, vm: &VmName, said: Said<'_>) -> Result<Done, Failure> {
        let declared = self.vm(vm)?;
        if declared.ssh.is_some() {
            self.remote(vm).await?.wait(REACHED).await?;
            said("programs can be run on it");
        }
        match &declared.ansible {
            Some(ansible) => {
                let results = self.play(ansible, said).await?;
                // Hosts of an inventory of the infra repo may be called otherwise.
                match ansible.inventory.is_some() || results.contains_key(vm.as_str()) {
                    true => Ok(noted(told(&results))),
                    false => Err(stalled(format!(
                        "failed to configure machine {vm}: playbook {} did nothing on it; see its `hosts` and `limit`",
                        ansible.playbook
                    ))),
                }
            }
            None => Ok(noted("it is reached".to_owned())),
        }
    }

    /// Runs a playbook of the revision, for the machines that run.
    async fn play(&self, ansible: &Ansible, said: Said<'_>) -> Result<BTreeMap<String, HostResult>, Failure> {
        let machines = self.running_machines(said).await?;
        let tree = self.world.tree().await?;
        let play = Play {
            tree: tree.path(),
            playbook: &ansible.playbook,
            limit: ansible.limit.as_deref(),
            inventory: ansible.inventory.as_deref(),
            machines: &machines,
            drill: self.drill,
        };
        Ok(self.world.drivers.configurer().map_err(stalled)?.run(&play, said).await?)
    }

    async fn wait_until(&self, until: &Ready, within: Duration) -> Result<Done, Failure> {
        let began = Instant::now();
        loop {
            let look = tokio::time::timeout(LOOK, self.holds_now(until)).await;
            let why = match look {
                Ok(Ok(told)) => return Ok(noted(told)),
                Ok(Err(why)) => why,
                Err(_) => format!("no answer within {}s", LOOK.as_secs()),
            };
            if began.elapsed() + PAUSE >= within {
                let within = within.as_secs();
                return Err(stalled(format!("failed to wait until {until}: not within {within}s: {why}")));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One look at what is waited for; why it is not so yet.
    async fn holds_now(&self, until: &Ready) -> Result<String, String> {
        match until {
            Ready::Tcp(place) => {
                let taken = tokio::net::TcpStream::connect(place).await;
                taken.map(|_| "it takes connections".to_owned()).map_err(|error| error.to_string())
            }
            Ready::Http(url) => {
                // Where it would lead to says nothing of what is waited for.
                let client = reqwest::Client::builder().redirect(Policy::none()).build();
                let client = client.map_err(|error| error.to_string())?;
                let answer = client.get(url).send().await;
                let answer = answer.map_err(|error| error.without_url().to_string())?;
                let status = answer.status();
                match status.is_client_error() || status.is_server_error() {
                    true => Err(format!("it answers {status}")),
                    false => Ok(format!("it answers {status}")),
                }
            }
            Ready::Source(backup) => {
                let declared = self.spec.backups.get(backup).ok_or("it is not declared")?;
                let source =
                    self.world.drivers.source(&declared.source).await.map_err(|it| it.to_string())?;
                Ok(source.probe().await.map_err(|error| error.to_string())?.version)
            }
        }
    }

    /// Leads users elsewhere, unless they are led there already; done once whoever decides of it says so.
    async fn lead(&self, name: &TrafficName, to: Side, wanted: &BTreeSet<String>) -> Result<Done, Failure> {
        let why = || stalled(format!("failed to switch traffic {name}: the revision does not declare it"));
        let declared = self.spec.traffic.get(name).ok_or_else(why)?;
        let switch = self.world.drivers.switch(declared).await.map_err(stalled)?;
        let before = switch.observe().await.map_err(stalled)?;
        if before == *wanted {
            return Ok(noted(format!("{} leads to {} already", declared.what(), listed(wanted))));
        }
        let untold = switch.ready(wanted).await.map_err(stalled)?;
        led(switch.as_ref(), &before, wanted)
            .await
            .map_err(|why| stalled(format!("failed to switch traffic {name} to {to}: {why}")))?;
        let was = if before.is_empty() { "nowhere".to_owned() } else { listed(&before) };
        let resolvers =
            declared.zone().map(|_| "resolvers may answer what was for as long as its TTL said".to_owned());
        let led = format!("{} led to {was}, and leads to {}", declared.what(), listed(wanted));
        Ok(noted([Some(led), resolvers, untold].into_iter().flatten().collect::<Vec<_>>().join("; ")))
    }

    fn vm(&self, vm: &VmName) -> Result<&Vm, Failure> {
        let why = || stalled(format!("failed to use machine {vm}: the revision does not declare it"));
        self.spec.vms.get(vm).ok_or_else(why)
    }

    pub(super) async fn provisioner(&self, vm: &VmName) -> Result<Box<dyn Provisioner>, Failure> {
        let declared = self.vm(vm)?;
        self.world
            .drivers
            .provisioner(&self.spec.fleet.name, declared, &self.world.templates().await?)
            .await
            .map_err(stalled)
    }

    /// What runs programs on a machine that runs.
    async fn remote(&self, vm: &VmName) -> Result<Box<dyn Remote>, Failure> {
        let running = match self.provisioner(vm).await?.observe().await? {
            Machine::Running(running) => running,
            Machine::Gone => return Err(stalled(format!("failed to reach machine {vm}: it is gone"))),
            Machine::Broken { why } => {
                return Err(stalled(format!("failed to reach machine {vm}: it does not run: {why}")));
            }
        };
        self.world.drivers.remote(self.vm(vm)?, &running).await.map_err(stalled)
    }

    /// The machines that run; those that do not are left out, and told.
    ///
    /// # Errors
    /// One that can't be seen: a playbook must not pass it by.
    async fn running_machines(&self, said: Said<'_>) -> Result<BTreeMap<VmName, (Vm, Running)>, Failure> {
        let mut machines = BTreeMap::new();
        for (name, vm) in &self.spec.vms {
            match self.provisioner(name).await?.observe().await? {
                Machine::Running(running) => drop(machines.insert(name.clone(), (vm.clone(), running))),
                Machine::Gone => said(&format!("machine {name} is gone, and left out")),
                Machine::Broken { why } => {
                    said(&format!("machine {name} does not run, and is left out: {why}"))
                }
            }
        }
        Ok(machines)
    }
}

impl World {
    async fn templates(&self) -> Result<Templates, Failure> {
        let (repo, revision) = (self.mirror.path().to_owned(), self.revision.clone());
        let read = tokio::task::spawn_blocking(move || revision::templates(&repo, &revision)).await;
        read.map_err(stalled)?.map(Templates::of).map_err(stalled)
    }

    /// The files of the revision, in a folder that goes with the answer.
    async fn tree(&self) -> Result<TempDir, Failure> {
        let (repo, revision) = (self.mirror.path().to_owned(), self.revision.clone());
        let written = tokio::task::spawn_blocking(move || -> Result<TempDir, String> {
            let folder = tempfile::Builder::new().prefix("backstay-tree-").tempdir();
            let folder = folder.map_err(|error| format!("failed to make a folder for the tree: {error}"))?;
            let into: &Path = folder.path();
            revision::write_tree(&repo, &revision, into).map_err(|error| error.to_string())?;
            Ok(folder)
        });
        written.await.map_err(stalled)?.map_err(stalled)
    }
}

fn reached(running: &Running) -> String {
    match &running.address {
        Some(address) => format!("it runs at {}:{}", address.host, address.port),
        None => "it runs".to_owned(),
    }
}

/// Leads users by `wanted` in place of `before`, until whoever decides of it says so.
async fn led(
    switch: &dyn Switch,
    before: &BTreeSet<String>,
    wanted: &BTreeSet<String>,
) -> Result<(), String> {
    // An answer can be lost on its way: what counts then is what the server says afterwards.
    let untold = match switch.set(before, wanted).await {
        Ok(()) => None,
        Err(SetError::Untold(why)) => Some(why),
        Err(SetError::Unconfirmed(why)) => return Err(why.to_string()),
    };
    let began = Instant::now();
    loop {
        let seen = switch.observe().await;
        if seen.as_ref().is_ok_and(|seen| seen == wanted) {
            return Ok(());
        }
        if let Some(why) = untold {
            return Err(why.to_string());
        }
        if began.elapsed() >= CONFIRMED {
            let why = seen.err().map(|why| format!(": {why}")).unwrap_or_default();
            return Err(format!(
                "the change was taken, and within {}s the server does not answer it{why}",
                CONFIRMED.as_secs()
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn listed(values: &BTreeSet<String>) -> String {
    values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn last_line(printed: &str) -> String {
    printed.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("done").to_owned()
}

/// `pavroto-2: 12 ok, 7 changed`
fn told(results: &BTreeMap<String, HostResult>) -> String {
    let of_host =
        |(host, it): (&String, &HostResult)| format!("{host}: {} ok, {} changed", it.ok, it.changed);
    results.iter().map(of_host).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::traffic::SwitchError;

    /// What takes a change, and fails all the same.
    struct Taken(SetError);

    #[async_trait]
    impl Switch for Taken {
        async fn observe(&self) -> Result<BTreeSet<String>, SwitchError> {
            Ok(BTreeSet::from(["new".to_owned()]))
        }

        async fn set(&self, _: &BTreeSet<String>, _: &BTreeSet<String>) -> Result<(), SetError> {
            Err(self.0.clone())
        }
    }

    #[tokio::test]
    async fn a_change_that_may_not_hold_everywhere_is_a_failure_and_a_lost_answer_is_none() {
        let (before, wanted) = (BTreeSet::from(["old".to_owned()]), BTreeSet::from(["new".to_owned()]));
        let why = SwitchError("no answer".to_owned());
        let lost = led(&Taken(SetError::Untold(why.clone())), &before, &wanted).await;
        assert_eq!(lost, Ok(()));
        let unconfirmed = led(&Taken(SetError::Unconfirmed(why)), &before, &wanted).await;
        assert_eq!(unconfirmed, Err("no answer".to_owned()));
    }
}
