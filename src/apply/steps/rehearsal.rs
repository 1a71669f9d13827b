//! The drill of a whole recovery: machines of its own are made, data is restored into them, what must hold is checked, and the machines
//! are removed, whatever came of it.

mod apart;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{StreamExt, stream::FuturesUnordered};

use super::{drills::seal, noted, site::Site};
use crate::{
    apply::{
        drill::{
            self,
            reach::{Addresses, reach},
        },
        executor::{Done, Failure},
        ledger::{Entry, Held},
        remover::Remover,
        watchdog::Watchdog,
        world::{World, stalled},
    },
    artifact::{
        ArtifactId,
        drill::{DrillOutcome, Finding, Verdict},
        record::Event,
        rehearsed::{PartTime, RehearsalReport, Rehearsed, RestoredPoint},
    },
    inventory::{PreviewMark, Running},
    plan::{
        Step,
        action::{RehearsalPart, Rehearse, Restore, Work},
    },
    sources::Holds,
    spec::{
        DrillCheck, DrillSubject, Endpoint, Hosts, Recipient, RehearsalCheck, Spec, StandIns,
        names::{BackupName, DrillName, VmName},
    },
};

/// How long others may take who remove machines of the same drill.
const PATIENCE: Duration = Duration::from_secs(1800);

impl World {
    /// Tries a recovery on machines of its own. Whatever comes of it is recorded in every store that is ours.
    pub(in crate::apply) async fn rehearse(&self, step: &Step, rehearse: &Rehearse) -> Result<Done, Failure> {
        let began = self.clock.now();
        let stand_ins = self.stand_ins(&rehearse.drill)?;
        let watched = self.watched(step, rehearse).await;
        let trial = Trial {
            world: self,
            step,
            rehearse,
            stand_ins,
            hosts: Mutex::default(),
            times: Mutex::default(),
            counted: Mutex::default(),
        };
        let ended = match &watched {
            Ok(watched) => trial.through(watched).await,
            Err(failure) => Ended::could_not_run(failure.message.clone()),
        };
        let rehearsed = Rehearsed {
            drill: rehearse.drill.clone(),
            slot: rehearse.slot,
            began,
            recovery: rehearse.recovery.clone(),
            restored: rehearse.restores().filter_map(|restore| trial.restored(restore)).collect(),
            left_out: rehearse.left_out.len(),
            outcome: ended.outcome.clone(),
            parts: trial.times.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            checks: ended.findings.iter().map(|finding| finding.verdict).collect(),
            rpo_seconds: age(rehearse, began),
            rto_seconds: ended.usable_after.map(|length| length.as_secs()),
            sealed: self.seal_for_readers_of_all(rehearse, &ended.findings)?,
        };
        // What was found stands before anything can go wrong with the machines.
        self.record_now(&Event::Rehearsed(Box::new(rehearsed.clone()))).await;
        let left = match watched {
            Ok(watched) => watched.end(trial.remove().await).await.err(),
            // Nothing was made.
            Err(_) => None,
        };
        self.deeds.touch_machines();
        Ok(told(rehearsed, ended, rehearse, left))
    }

    /// Writes down what is about to be made, and has it watched. What an earlier drill of this name left goes first.
    async fn watched(&self, step: &Step, rehearse: &Rehearse) -> Result<Watched, Failure> {
        let drill = &rehearse.drill;
        let failed = |why: std::io::Error| {
            stalled(format!(
                "failed to write down which machines drill {drill} makes: {why}; make room in state_dir"
            ))
        };
        let held = self.ledger.hold(drill, PATIENCE).await.map_err(failed)?;
        self.clear_remembered(step, &held).await?;
        let fleet = self.spec.fleet.name.clone();
        let declared = (self.revision.clone(), self.declared_in.clone());
        let vms = rehearse.machines().cloned().collect();
        let new = Entry::new(fleet, drill.clone(), declared, vms, self.clock.now());
        let mark = PreviewMark::drawn(self.chance.draw());
        let entry = new.previewed_as(Some(mark.clone()));
        held.write(&entry).map_err(failed)?;
        let watchdog = match self.kennel.as_ref().map(|kennel| kennel.watch(drill, &self.ledger)).transpose()
        {
            Ok(watchdog) => watchdog,
            Err(why) => {
                held.clear().map_err(failed)?;
                return Err(stalled(format!("failed to have the machines of drill {drill} watched: {why}")));
            }
        };
        Ok(Watched { watchdog, held, entry, mark, has_left_preview: AtomicBool::new(false) })
    }

    /// Removes what this host remembers of a drill.
    async fn clear_remembered(&self, step: &Step, held: &Held) -> Result<(), Failure> {
        let Some(entry) = held.entry().map_err(stalled)? else { return Ok(()) };
        let remover = Remover { mirror: self.mirror.path().to_owned(), drivers: self.drivers.clone() };
        remover.remove(&entry, &|line| self.listener.says(step, line)).await?;
        held.clear().map_err(stalled)
    }

    /// Removes the machines that a drill left behind that was cut off: those that this host remembers, and those that are declared
    /// now, unless `revision` says that the former are meant.
    pub(in crate::apply) async fn clear_away(
        &self,
        step: &Step,
        drill: &DrillName,
        vms: &[VmName],
        revision: Option<&str>,
    ) -> Result<Done, Failure> {
        let held = self.ledger.hold(drill, PATIENCE).await.map_err(stalled)?;
        self.clear_remembered(step, &held).await?;
        if revision.is_none() {
            self.clear_declared(step, drill, vms).await?;
        }
        self.deeds.touch_machines();
        Ok(noted("nothing of it is left".to_owned()))
    }

    async fn clear_declared(&self, step: &Step, drill: &DrillName, vms: &[VmName]) -> Result<(), Failure> {
        let spec = self.stand_ins(drill)?.spec(&self.spec, &Hosts::new());
        let site = Site { world: self, spec: &spec, drill: Some(drill) };
        for vm in vms {
            site.provisioner(vm).await?.down(&|line| self.listener.says(step, line)).await?;
        }
        Ok(())
    }

    fn stand_ins(&self, drill: &DrillName) -> Result<StandIns<'_>, Failure> {
        match self.spec.drills.get_key_value(drill).map(|(name, it)| (name, &it.subject)) {
            Some((name, DrillSubject::Recovery(rehearsal))) => {
                StandIns::of(&self.spec, name, rehearsal).map_err(stalled)
            }
            _ => Err(stalled(format!("failed to drill {drill}: the revision declares it no more"))),
        }
    }

    /// What was asked and answered, for those who may read each of the stores that data came from; for nobody where nobody may.
    fn seal_for_readers_of_all(
        &self,
        rehearse: &Rehearse,
        findings: &[Finding],
    ) -> Result<Option<String>, Failure> {
        let mut readers: Option<Vec<Recipient>> = None;
        for restore in rehearse.restores() {
            let of_store = self.spec.recipients_in(&restore.store);
            readers = Some(match readers {
                None => of_store.to_vec(),
                Some(before) => before.into_iter().filter(|reader| of_store.contains(reader)).collect(),
            });
        }
        match readers {
            Some(readers) if !readers.is_empty() => seal(&readers, findings),
            _ => Ok(None),
        }
    }
}

/// Machines that are written down before they are made, and watched.
struct Watched {
    watchdog: Option<Watchdog>,
    held: Held,
    entry: Entry,
    /// What the previews before the first is made are known by.
    mark: PreviewMark,
    has_left_preview: AtomicBool,
}

impl Watched {
    /// Writes down that no preview goes on any more, nor left anything.
    fn previewed(&self) -> Result<(), Failure> {
        self.held.write(&self.entry.clone().previewed_as(None)).map_err(stalled)
    }

    /// Once they were removed, or could not be: then this host remembers them.
    async fn end(self, removed: Result<(), Failure>) -> Result<(), Failure> {
        let cleared = match removed {
            Ok(()) if self.has_left_preview.into_inner() => {
                Err(stalled("what a preview of them had made may be left"))
            }
            Ok(()) => self.held.clear().map_err(stalled),
            Err(failure) => Err(failure),
        };
        if let Some(watchdog) = self.watchdog {
            watchdog.call_off().await;
        }
        cleared
    }
}

/// How a drill ended, before it is written down.
struct Ended {
    outcome: DrillOutcome,
    /// Why it went no further, in full.
    why: Option<String>,
    findings: Vec<Finding>,
    usable_after: Option<Duration>,
}

impl Ended {
    fn could_not_run(why: String) -> Self {
        let (outcome, why) = (DrillOutcome::CouldNotRun(why.clone()), Some(why));
        Self { outcome, why, findings: Vec::new(), usable_after: None }
    }
}

/// A part that did not come to its end.
struct Halted {
    /// In words that tell nothing of the data.
    part: String,
    failure: Failure,
}

/// A drill under way.
struct Trial<'a> {
    world: &'a World,
    step: &'a Step,
    rehearse: &'a Rehearse,
    stand_ins: StandIns<'a>,
    /// Where those are that run.
    hosts: Mutex<Hosts>,
    times: Mutex<Vec<PartTime>>,
    /// Rows as they were once they were restored, before anything else could change them.
    counted: Mutex<BTreeMap<BackupName, Finding>>,
}

impl Trial<'_> {
    async fn through(&self, watched: &Watched) -> Ended {
        if let Err(why) = self.make_ready(watched).await {
            return Ended::could_not_run(why);
        }
        let clock = Instant::now();
        let ran = self.parts().await;
        let took = clock.elapsed();
        match ran {
            Ok(()) => {
                let findings = self.check().await;
                let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
                let outcome = DrillOutcome::of(&verdicts);
                Ended { outcome, why: None, findings, usable_after: Some(took) }
            }
            Err(halted) => halted.ended(),
        }
    }

    /// Removes what an earlier one left, and sees that every machine can be made: what can't is no failure of the recovery.
    async fn make_ready(&self, watched: &Watched) -> Result<(), String> {
        self.remove().await.map_err(|failure| failure.message)?;
        let spec = self.spec();
        let site = self.site(&spec);
        for vm in self.rehearse.machines() {
            let provisioner = site.provisioner(vm).await.map_err(|failure| failure.message)?;
            if let Err(error) = provisioner.preview(&watched.mark).await {
                let said = |line: &str| self.world.listener.says(self.step, line);
                let is_left = provisioner.clear_preview(&watched.mark, &said).await.is_err();
                watched.has_left_preview.store(is_left, Ordering::Relaxed);
                return Err(error.message);
            }
        }
        watched.previewed().map_err(|failure| failure.message)
    }

    /// Does every part as soon as what it waits for is done.
    async fn parts(&self) -> Result<(), Halted> {
        let (mut begun, mut done) = (BTreeSet::new(), BTreeSet::new());
        let mut under_way = FuturesUnordered::new();
        loop {
            let numbered = self.rehearse.parts.iter().enumerate();
            for (number, part) in numbered.filter(|(_, part)| part.after.is_subset(&done)) {
                if begun.insert(number) {
                    under_way.push(async move { (number, self.part(part).await) });
                }
            }
            match under_way.next().await {
                Some((number, Ok(()))) => drop(done.insert(number)),
                // What else is under way ends with this.
                Some((_, Err(halted))) => return Err(halted),
                None if done.len() == self.rehearse.parts.len() => return Ok(()),
                None => return Err(Halted::never("parts that wait for each other")),
            }
        }
    }

    async fn part(&self, part: &RehearsalPart) -> Result<(), Halted> {
        self.world.listener.says(self.step, &part.work.to_string());
        let began = Instant::now();
        let done = self.work(&part.work).await;
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (step, digest) = (part.step, part.digest.clone());
        let time = PartTime { step, digest, part: part.work.part(), milliseconds };
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
        done.map_err(|failure| Halted { part: format!("step {}: {}", part.step, part.work), failure })
    }

    async fn work(&self, work: &Work) -> Result<(), Failure> {
        let (world, spec) = (self.world, self.spec());
        let site = self.site(&spec);
        match work {
            Work::Provision(vm) => {
                let running =
                    site.provisioner(vm).await?.up(&|line| world.listener.says(self.step, line)).await?;
                self.runs(vm, &running);
                Ok(())
            }
            Work::Restore { restore, .. } => {
                self.is_empty_and_apart(&restore.backup, &spec).await?;
                let reader = ArtifactId::new(world.clock.now(), world.chance.draw());
                site.work(self.step, work, Some(reader)).await?;
                self.count(&restore.backup, &spec).await;
                Ok(())
            }
            Work::Wait { until, within } => {
                let until = self.stand_ins.ready(until, &self.hosts());
                let until =
                    until.ok_or_else(|| stalled("failed to wait: nothing tells where a stand-in is"))?;
                site.work(self.step, &Work::Wait { until, within: *within }, None).await.map(drop)
            }
            Work::Run { on: None, .. } | Work::Remove { .. } => {
                Err(stalled(format!("failed to {work}: a drill does nothing on this host")))
            }
            Work::Switch { .. } => Err(stalled(format!("failed to {work}: a drill leads nobody anywhere"))),
            Work::Renew(_) => Err(stalled(format!(
                "failed to {work}: the drill of a recovery has no provider make anything"
            ))),
            Work::Configure(_) | Work::Deploy(_) | Work::Run { .. } => {
                site.work(self.step, work, None).await.map(drop)
            }
        }
    }

    fn site<'s>(&'s self, spec: &'s Spec) -> Site<'s> {
        Site { world: self.world, spec, drill: Some(&self.rehearse.drill) }
    }

    /// Refuses to restore where there is data, where nothing tells whether there is, and where people work.
    async fn is_empty_and_apart(&self, backup: &BackupName, spec: &Spec) -> Result<(), Failure> {
        let undeclared =
            || stalled(format!("failed to restore {backup}: nothing tells where its stand-in is"));
        let (declared, moved) = (self.world.spec.backups.get(backup), spec.backups.get(backup));
        let (declared, moved) = declared.zip(moved).ok_or_else(undeclared)?;
        let work = apart::Work::of(self.world).await;
        for (was, is) in declared.source.places().iter().zip(moved.source.places()) {
            work.refuse(&is, self.stand_ins.is_said(was)).await?;
        }
        match self.world.drivers.source(&moved.source).await?.holds().await? {
            Holds::Nothing => Ok(()),
            Holds::Data(what) => Err(stalled(format!(
                "failed to restore {backup}: there is data already ({what}), which no machine has that was made just now"
            ))),
            Holds::Untold => Err(stalled(format!(
                "failed to restore {backup}: nothing tells whether there is data already"
            ))),
        }
    }

    fn runs(&self, vm: &VmName, running: &Running) {
        if let Some(address) = &running.address {
            let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
            hosts.insert(vm.clone(), address.host.clone());
        }
    }

    fn hosts(&self) -> Hosts {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is declared, with the stand-ins that run by now.
    fn spec(&self) -> Spec {
        self.stand_ins.spec(&self.world.spec, &self.hosts())
    }

    /// Counts what was restored, where the drill asks for that.
    async fn count(&self, backup: &BackupName, spec: &Spec) {
        let asks =
            |it: &&RehearsalCheck| it.check == DrillCheck::Counts && it.backup.as_ref() == Some(backup);
        if let Some(check) = self.rehearse.checks.iter().find(asks) {
            let finding = self.found(check, spec).await;
            self.counted.lock().unwrap_or_else(PoisonError::into_inner).insert(backup.clone(), finding);
        }
    }

    async fn check(&self) -> Vec<Finding> {
        let spec = self.spec();
        let mut findings = Vec::new();
        for check in &self.rehearse.checks {
            findings.push(match self.counted(check) {
                Some(finding) => finding,
                None => self.found(check, &spec).await,
            });
        }
        findings
    }

    fn counted(&self, check: &RehearsalCheck) -> Option<Finding> {
        let backup = check.backup.as_ref().filter(|_| check.check == DrillCheck::Counts)?;
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).get(backup).cloned()
    }

    async fn found(&self, check: &RehearsalCheck, spec: &Spec) -> Finding {
        let RehearsalCheck { backup, check } = check;
        if check.endpoint().is_some() {
            return reach(check, self).await;
        }
        let unmade = |why: String| drill::unmade(check, "an answer".to_owned(), why);
        let Some(declared) = backup.as_ref().and_then(|backup| spec.backups.get(backup)) else {
            return unmade("nothing tells where it is on a machine of the drill".to_owned());
        };
        let source = match self.world.drivers.source(&declared.source).await {
            Ok(source) => source,
            Err(refusal) => return unmade(refusal.to_string()),
        };
        match check {
            DrillCheck::Counts => match self.manifests(&declared.name).await {
                Ok(manifests) => drill::counts(&manifests, source.as_ref(), &self.world.keys).await,
                Err(failure) => unmade(failure.message),
            },
            DrillCheck::Sql { sql: question, database, expect }
            | DrillCheck::Influxql { influxql: question, database, expect } => {
                drill::asked(check, (database.as_deref(), question), expect, source.as_ref()).await
            }
            DrillCheck::Items { .. }
            | DrillCheck::File { .. }
            | DrillCheck::Command(_)
            | DrillCheck::Http(_)
            | DrillCheck::Tcp(_) => unmade("it is not made of data on a machine".to_owned()),
        }
    }

    /// What was restored of a backup, as it was captured: what a log brought is not in it.
    async fn manifests(&self, backup: &BackupName) -> Result<Vec<crate::artifact::Manifest>, Failure> {
        let restore = self.rehearse.restores().find(|restore| restore.backup == *backup);
        let restore = restore.ok_or_else(|| stalled(format!("{backup} was not restored")))?;
        if !restore.logs.is_empty() {
            return Err(stalled(
                "its log was replayed, which changes the rows that were counted; ask in SQL",
            ));
        }
        let folder = self.world.folder(&restore.store, &self.world.spec.moved.folder(backup))?;
        self.world.manifests(&folder, &restore.artifacts).await
    }

    /// Removes all machines of the drill.
    async fn remove(&self) -> Result<(), Failure> {
        let vms: Vec<VmName> = self.rehearse.machines().cloned().collect();
        self.world.clear_declared(self.step, &self.rehearse.drill, &vms).await
    }

    fn restored(&self, restore: &Restore) -> Option<RestoredPoint> {
        let point = self.rehearse.points.iter().find(|point| point.backup == restore.backup)?;
        Some(RestoredPoint {
            backup: self.world.spec.moved.folder(&restore.backup),
            artifact: *restore.artifacts.last()?,
            logs: restore.logs.len(),
            store: restore.store.clone(),
            point: point.point,
        })
    }
}

/// A service is asked on the stand-in alone, and never where people work.
#[async_trait]
impl Addresses for Trial<'_> {
    async fn of(&self, endpoint: &Endpoint) -> Result<SocketAddr, String> {
        let found = self.stand_ins.endpoint(endpoint, &self.hosts());
        let found = found.ok_or("nothing tells that it is on a machine of the drill")?;
        let work = apart::Work::of(self.world).await;
        work.refuse(&found, self.stand_ins.is_said(endpoint)).await.map_err(|failure| failure.message)
    }
}

impl Halted {
    fn never(why: &str) -> Self {
        Self { part: "its plan".to_owned(), failure: stalled(why) }
    }

    fn ended(self) -> Ended {
        let Halted { part, failure } = self;
        let why = Some(format!("{part}: {failure}"));
        Ended { outcome: DrillOutcome::Failed(part), why, findings: Vec::new(), usable_after: None }
    }
}

/// The age of the oldest data, where all of it is the newest that there is.
fn age(rehearse: &Rehearse, began: jiff::Timestamp) -> Option<u64> {
    let all_newest = rehearse.points.iter().all(|point| point.is_newest);
    let oldest = rehearse.points.iter().map(|point| point.point).min().filter(|_| all_newest)?;
    Some(u64::try_from(began.duration_since(oldest).as_secs()).unwrap_or(0))
}

/// A drill that did not pass is a step that was taken: it found something. So is one whose machines are left.
fn told(rehearsed: Rehearsed, ended: Ended, rehearse: &Rehearse, left: Option<Failure>) -> Done {
    let Ended { outcome, why, findings, .. } = ended;
    let left =
        left.map(|left| format!("its machines are not removed yet, and will be in a later pass: {left}"));
    let mut damage: Vec<String> = match &outcome {
        DrillOutcome::Passed => Vec::new(),
        outcome => {
            let why = why.iter().map(|why| format!("{}: {why}", outcome.as_str()));
            why.chain(drill::bad(&findings)).collect()
        }
    };
    damage.extend(left.clone());
    let why = match (why, left) {
        (Some(why), Some(left)) => Some(format!("{why}; {left}")),
        (why, left) => why.or(left),
    };
    let note = format!("{} steps and {} checks hold", rehearse.parts.len(), findings.len());
    let report = RehearsalReport { rehearsed, findings, why, left: rehearse.left_out.clone() };
    Done { damage, rehearsed: Some(Box::new(report)), ..noted(note) }
}
