//! Drills of native backups: the provider makes a table or an instance of one under a name and a mark of its own, which is looked at
//! and deleted again.

use std::time::{Duration, Instant};

use super::{drills::could_not_run, drills_elsewhere::is_over, natives::of_kind};
use crate::{
    apply::{drill::Ended, executor::Failure, world::World},
    artifact::{
        ArtifactId, Manifest,
        drill::{DrillOutcome, Finding, Stage, StageTime, Verdict},
        manifest::Content,
    },
    inventory::{CopyLeft, CopyStanding, NativeReference, NativeState, SandboxCopy},
    plan::action::{Drill, SandboxKind},
    sources::Provider,
    spec::DrillCheck,
    stores::Class,
};

impl World {
    /// Has the provider make something new of a native backup, looks at it, and has it deleted.
    pub(super) async fn drill_native(
        &self,
        drill: &Drill,
        reader: ArtifactId,
        manifests: &[Manifest],
    ) -> Result<Ended, Failure> {
        let Some(Content::Native { provider: kind, reference, place }) =
            manifests.last().map(|it| &it.content)
        else {
            return Ok(could_not_run("what was chosen is no native backup; capture one first".to_owned()));
        };
        let native =
            NativeReference { provider: kind.clone(), reference: reference.clone(), place: place.clone() };
        // Of another account it is asked for in vain, and what is made there costs somebody's money.
        let (hosted, _) = match self.asked(&self.spec.moved.folder(&drill.backup), &native).await {
            Ok(asked) => asked,
            Err(Failure { class: Class::Stalled, message }) => return Ok(could_not_run(message)),
            Err(failure) => return Err(failure),
        };
        let provider = of_kind(&hosted, kind)?;
        let copy = SandboxCopy::of(&self.spec.fleet.name, &drill.drill, reader);
        let mut run =
            Run { began: Instant::now(), stages: Vec::new(), findings: Vec::new(), usable_after: None };
        let cleared = run.timed(Stage::Prepare, self.clear_earlier(provider, drill, &copy)).await;
        if let Err(why) = cleared {
            return Ok(run.ended(DrillOutcome::CouldNotRun(why.clone()), Some(why)));
        }
        let outcome = run.through(provider, reference, &copy, &drill.checks).await;
        match provider.delete_copy(&copy).await {
            Ok(()) => Ok(run.ended(outcome.0, outcome.1)),
            Err(error) => {
                let why = format!("{} may be left, and cost money: {error}; delete it", copy.name);
                Ok(run.ended(DrillOutcome::CouldNotRun("what it made may be left".to_owned()), Some(why)))
            }
        }
    }

    /// Deletes what an earlier time of this drill left that was cut off, and nothing else.
    async fn clear_earlier(
        &self,
        provider: &dyn Provider,
        drill: &Drill,
        copy: &SandboxCopy,
    ) -> Result<(), String> {
        let standing = provider.standing(&copy.name).await.map_err(|error| error.to_string())?;
        let mark = match standing {
            CopyStanding::Nothing => return Ok(()),
            CopyStanding::Unmarked => {
                return Err(format!(
                    "{} is there without a mark of this drill; look whose it is, and delete it or give the drill another name",
                    copy.name
                ));
            }
            CopyStanding::Marked(mark) => mark,
        };
        let Some(time) = SandboxCopy::time_of(&self.spec.fleet.name, &drill.drill, &mark) else {
            return Err(format!("{} bears the mark of another drill, {mark}; delete it", copy.name));
        };
        if !self.inventory.interrupted.iter().any(|left| left.artifact == time) {
            let everywhere = self.readers_everywhere(&self.spec.moved.folder(&drill.backup)).await;
            is_over(&everywhere, time).map_err(|why| format!("{} is there: {why}", copy.name))?;
        }
        let earlier = SandboxCopy { mark, ..copy.clone() };
        provider.delete_copy(&earlier).await.map_err(|error| error.to_string())
    }

    /// What a drill is about to have a provider make.
    pub(in crate::apply) fn copy_of(&self, drill: &Drill, reader: ArtifactId) -> Option<CopyLeft> {
        let folder = self.spec.moved.folder(&drill.backup);
        let point = drill.artifacts.last().filter(|_| drill.sandbox == SandboxKind::Provider)?;
        let stored = self.stored(&drill.store, &folder, *point);
        Some(CopyLeft {
            drill: drill.drill.clone(),
            copy: SandboxCopy::of(&self.spec.fleet.name, &drill.drill, reader),
            of: stored.and_then(|stored| stored.native.as_deref().cloned()),
            revision: self.revision.clone(),
            declared_in: self.declared_in.clone(),
        })
    }
}

/// A drill under way.
struct Run {
    began: Instant,
    stages: Vec<StageTime>,
    findings: Vec<Finding>,
    usable_after: Option<Duration>,
}

impl Run {
    /// How it ended, and why in full where the data did not come back.
    async fn through(
        &mut self,
        provider: &dyn Provider,
        reference: &str,
        copy: &SandboxCopy,
        checks: &[DrillCheck],
    ) -> (DrillOutcome, Option<String>) {
        let made = self.timed(Stage::Load, provider.copy_for_drill(reference, copy)).await;
        if let Err(error) = made {
            // Only what the provider itself calls broken is; it may be busy, or the key may not.
            let outcome = match provider.state(reference).await {
                Ok(NativeState::Gone | NativeState::Broken(_)) => {
                    DrillOutcome::Failed("its provider can't restore the backup".to_owned())
                }
                Ok(NativeState::Available | NativeState::Making) | Err(_) => {
                    DrillOutcome::CouldNotRun("its provider made nothing of the backup".to_owned())
                }
            };
            return (outcome, Some(error.to_string()));
        }
        self.usable_after = Some(self.began.elapsed());
        let verifying = Instant::now();
        self.findings.push(Finding {
            check: "its provider".to_owned(),
            expected: "it can be used".to_owned(),
            found: format!("{} can be used", copy.name),
            verdict: Verdict::Passed,
        });
        for check in checks {
            let finding = checked(provider, copy, check).await;
            self.findings.push(finding);
        }
        self.note(Stage::Verify, verifying.elapsed());
        let verdicts: Vec<Verdict> = self.findings.iter().map(|finding| finding.verdict).collect();
        (DrillOutcome::of(&verdicts), None)
    }

    fn ended(self, outcome: DrillOutcome, why: Option<String>) -> Ended {
        let Run { stages, findings, usable_after, .. } = self;
        Ended { outcome, why, stages, findings, usable_after, bytes: 0, isolation: None }
    }

    async fn timed<T>(&mut self, stage: Stage, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.note(stage, began.elapsed());
        done
    }

    fn note(&mut self, stage: Stage, took: Duration) {
        let milliseconds = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.stages.push(StageTime { stage, milliseconds });
    }
}

/// Makes a declared check of what was made.
async fn checked(provider: &dyn Provider, copy: &SandboxCopy, check: &DrillCheck) -> Finding {
    let unmade = |expected: String, found: String| Finding {
        check: check.to_string(),
        expected,
        found,
        verdict: Verdict::CouldNotRun,
    };
    let DrillCheck::Items { expect } = check else {
        return unmade(
            "what is declared".to_owned(),
            "nobody can ask that of what a provider made".to_owned(),
        );
    };
    match provider.items(&copy.name).await {
        Ok(Some(items)) => {
            let found = items.to_string();
            let verdict = if expect.allows(&found) { Verdict::Passed } else { Verdict::Failed };
            Finding { check: check.to_string(), expected: expect.to_string(), found, verdict }
        }
        Ok(None) => unmade(expect.to_string(), "its provider counts nothing".to_owned()),
        Err(error) => unmade(expect.to_string(), error.to_string()),
    }
}
