//! Looking at what really exists, as far as what was seen is not fresh enough.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::{Ask, Controller, desired::Desired, lock};
use crate::{
    git::{
        push::{PushError, PushMirror},
        revision,
    },
    inventory::{Interrupted, LogReader, NativePrefix},
    observe::{
        Freshness, InfraSight, Sight, machines, observe,
        provided::{self, Hosted},
        seen::Seen,
        stores::Look,
    },
    provisioners::Provisioner,
    readers,
    sources::Source,
    spec::{
        DrillSubject, Spec, StandIns, Vm,
        names::{BackupName, DrillName, FolderName, StoreName, VmName},
    },
    state::{Before, StateError},
    templates::Templates,
};

/// How long the look at one machine may take before it counts as not seen; and all of the rendering that comes before.
const LIMIT: Duration = Duration::from_secs(60);
/// The same, where a person asked for a recovery.
const PATIENT: Duration = Duration::from_secs(1200);

/// The time for all of the rendering of one look: what is left of it is for the machines that come later.
#[derive(Clone, Copy, Debug)]
struct Rendering {
    until: Instant,
    limit: Duration,
}

impl Rendering {
    fn within(limit: Duration) -> Self {
        Self { until: Instant::now() + limit, limit }
    }

    /// What comes of `rendered`, or that there was no time for it.
    async fn bound<T>(self, rendered: impl Future<Output = T>) -> Result<T, String> {
        tokio::time::timeout_at(self.until, rendered).await.map_err(|_| {
            format!(
                "the templates of all machines take over {}s in all to render, and this one had no turn; make them smaller",
                self.limit.as_secs()
            )
        })
    }
}

impl Controller {
    /// What was seen counts only as long as no other process has changed anything since.
    pub(super) fn freshness_after_others(
        &self,
        ask: &Ask,
        wanted: Freshness,
    ) -> Result<Freshness, StateError> {
        if matches!(ask, Ask::Restore(_)) {
            return Ok(wanted);
        }
        let mut last = lock(&self.last_pass);
        let (mark, before) = self.state.begin_pass(*last)?;
        *last = Some(mark);
        Ok(if before == Before::Ours { wanted } else { Freshness::Now })
    }

    /// Looks at everything, as far as what was seen is not fresh enough.
    pub(super) async fn look(
        &self,
        seen: &mut Seen,
        spec: &Spec,
        interrupted: Vec<Interrupted>,
        freshness: Freshness,
    ) {
        let sight = Sight {
            stores: self.looks(spec).await,
            scheduler: self.drivers.scheduler(&spec.fleet),
            scheduled_by: self.scheduled_by(),
            made: self.made(seen, freshness),
            infra: spec.infra.as_ref().map(|infra| InfraSight {
                mirror: self.mirror.clone(),
                pushed: infra.mirrors.iter().map(|url| (url.clone(), self.pushed(url))).collect(),
            }),
            interrupted,
            logs: self.logs(spec).await,
        };
        *seen = observe(&sight, std::mem::take(seen), freshness, self.clock.now()).await;
        seen.inventory.readers = self.seen_readers();
        self.look_at_providers(seen, spec, freshness).await;
    }

    /// Asks the providers of declared sources what they keep, and judges by it what artifacts are still there.
    pub(super) async fn look_at_providers(&self, seen: &mut Seen, spec: &Spec, freshness: Freshness) {
        let now = self.clock.now();
        let mut asked = BTreeMap::new();
        for (name, backup) in &spec.backups {
            let named = seen.inventory.natives_named(&spec.moved.folder(name), &backup.source);
            if backup.source.has_provider() || !named.is_empty() {
                asked.insert(name, (backup, named));
            }
        }
        let mut provided = std::mem::take(&mut seen.inventory.provided);
        provided.retain(|name, seen| {
            let asked = asked.get(name);
            asked.is_some_and(|(backup, named)| {
                let has_natives = seen.found.known().is_none_or(|provided| provided.natives.is_some());
                provided::is_fresh(seen, &backup.source, freshness, now) && (named.is_empty() || has_natives)
            })
        });
        let mut hosted = BTreeMap::new();
        asked.retain(|name, _| freshness != Freshness::AsSeen && !provided.contains_key(*name));
        for (name, (backup, named)) in asked {
            let source = self.drivers.source(&backup.source).await.map_err(|refusal| refusal.to_string());
            // What is no longer captured so is still there, and the policy's to let go.
            let has_natives = backup.source.is_native() || !named.is_empty();
            let natives = has_natives.then(|| NativePrefix::of(&spec.fleet.name, &spec.moved.folder(name)));
            hosted.insert(name.clone(), Hosted { declared: backup.source.clone(), source, natives, named });
        }
        provided.extend(provided::look(hosted, now).await);
        let inventory = &mut seen.inventory;
        inventory.provided = provided;
        inventory.judge_natives(spec);
    }

    /// How the readers of logs are, where this host is to have any.
    pub(super) fn seen_readers(&self) -> BTreeMap<FolderName, LogReader> {
        match self.config.readers.most() {
            Some(_) => readers::seen(&self.state.readers()),
            None => BTreeMap::new(),
        }
    }

    /// Sources whose servers keep their logs for us.
    async fn logs(&self, spec: &Spec) -> BTreeMap<BackupName, Result<Box<dyn Source>, String>> {
        let mut logs = BTreeMap::new();
        for (name, backup) in spec.backups.iter().filter(|(_, backup)| backup.source.has_slot()) {
            let source = self.drivers.source(&backup.source).await;
            logs.insert(name.clone(), source.map_err(|refusal| refusal.to_string()));
        }
        logs
    }

    /// Looks at the declared machines, as far as how they stand is not known well enough.
    pub(super) async fn look_at_machines(
        &self,
        seen: &mut Seen,
        desired: &Desired,
        freshness: Freshness,
        ask: &Ask,
    ) {
        let (spec, now) = (&desired.spec, self.clock.now());
        (seen.inventory.left_behind, seen.inventory.previews_left) = self.cut_off();
        if seen.knows_machines(spec.vms.keys(), freshness, now) {
            seen.inventory.machines.retain(|vm, _| spec.vms.contains_key(vm));
            seen.inventory.stand_ins.retain(|drill, _| spec.drills.contains_key(drill));
            return;
        }
        // Backups do not wait for what a recovery would.
        let limit = if matches!(ask, Ask::Recover(_)) { PATIENT } else { LIMIT };
        let rendering = Rendering::within(limit);
        let declared = self.machines_within(desired, rendering).await;
        let of_drills = self.stand_ins(desired, rendering).await;
        let machines = machines::look(&declared, limit).await;
        let mut stand_ins: BTreeMap<DrillName, BTreeMap<VmName, _>> = BTreeMap::new();
        for ((drill, vm), machine) in machines::look(&of_drills, limit).await {
            stand_ins.entry(drill).or_default().insert(vm, machine);
        }
        seen.saw_machines(machines, stand_ins, now);
    }

    /// What makes the machines of drills.
    async fn stand_ins(
        &self,
        desired: &Desired,
        rendering: Rendering,
    ) -> BTreeMap<(DrillName, VmName), Result<Box<dyn Provisioner>, String>> {
        let mut vms = BTreeMap::new();
        for (name, drill) in &desired.spec.drills {
            let DrillSubject::Recovery(rehearsal) = &drill.subject else { continue };
            // What can have none leaves none behind.
            let Ok(stand_ins) = StandIns::of(&desired.spec, name, rehearsal) else { continue };
            vms.extend(stand_ins.vms().map(|(vm, made)| ((name.clone(), vm.clone()), made.clone())));
        }
        self.provisioners(desired, vms, rendering).await
    }

    /// What makes the declared machines; or why one can't even be asked.
    pub(super) async fn machines(
        &self,
        desired: &Desired,
    ) -> BTreeMap<VmName, Result<Box<dyn Provisioner>, String>> {
        self.machines_within(desired, Rendering::within(LIMIT)).await
    }

    async fn machines_within(
        &self,
        desired: &Desired,
        rendering: Rendering,
    ) -> BTreeMap<VmName, Result<Box<dyn Provisioner>, String>> {
        let vms = desired.spec.vms.iter().map(|(name, vm)| (name.clone(), vm.clone()));
        self.provisioners(desired, vms.collect(), rendering).await
    }

    async fn provisioners<K: Ord>(
        &self,
        desired: &Desired,
        vms: BTreeMap<K, Vm>,
        rendering: Rendering,
    ) -> BTreeMap<K, Result<Box<dyn Provisioner>, String>> {
        let mut provisioners = BTreeMap::new();
        if vms.is_empty() {
            return provisioners;
        }
        let (templates, fleet) = (self.templates(desired).await, &desired.spec.fleet.name);
        for (key, vm) in vms {
            let provisioner = match &templates {
                Ok(templates) => {
                    let made = self.drivers.provisioner(fleet, &vm, templates);
                    let made = rendering.bound(made).await;
                    made.and_then(|made| made.map_err(|refusal| refusal.to_string()))
                }
                Err(why) => Err(why.clone()),
            };
            provisioners.insert(key, provisioner);
        }
        provisioners
    }

    /// The templates of a revision.
    pub(super) async fn templates(&self, desired: &Desired) -> Result<Templates, String> {
        let (repo, revision) = (self.mirror.path().to_owned(), desired.revision.id.clone());
        match tokio::task::spawn_blocking(move || revision::templates(&repo, &revision)).await {
            Ok(Ok(own)) => Ok(Templates::of(own).remembering(self.unbounded.clone())),
            Ok(Err(error)) => Err(error.to_string()),
            Err(died) => Err(died.to_string()),
        }
    }

    pub(super) async fn looks(&self, spec: &Spec) -> BTreeMap<StoreName, Result<Look, String>> {
        let mut looks = BTreeMap::new();
        for (name, declared) in &spec.stores {
            let look = self.drivers.store(declared).await.map(|store| Look {
                name: name.clone(),
                store,
                fleet: spec.fleet.name.clone(),
                keys: self.keys.clone(),
                cache: self.cache.clone(),
            });
            looks.insert(name.clone(), look.map_err(|refusal| refusal.to_string()));
        }
        looks
    }

    pub(super) fn pushed(&self, url: &str) -> Result<PushMirror, PushError> {
        PushMirror::new(&self.mirror, url, &self.config.allow.mirrors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_others_took_all_of_the_time_has_no_turn() {
        let rendering = Rendering::within(Duration::from_secs(60));
        let takes = |seconds: u64| rendering.bound(tokio::time::sleep(Duration::from_secs(seconds)));
        assert_eq!(takes(50).await, Ok(()));
        assert_eq!(takes(9).await, Ok(()));
        let began = Instant::now();
        for _ in 0..3 {
            let why = takes(30).await.unwrap_err();
            assert!(why.contains("take over 60s in all") && why.contains("no turn"), "{why}");
        }
        assert_eq!(began.elapsed().as_secs(), 1, "all of them together");
    }
}
