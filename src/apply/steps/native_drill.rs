//! Drills of native backups: the provider makes a table or an instance of one under a name and a mark of its own, which is looked at
//! and deleted again.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{
    drills::could_not_run,
    natives::{Hosted, of_kind},
};
use crate::{
    apply::{
        drill::Ended,
        executor::Failure,
        remover::spec_of,
        world::{World, stalled},
    },
    artifact::{
        ArtifactId, Manifest,
        drill::{DrillOutcome, Finding, Stage, StageTime, Verdict},
        manifest::Content,
    },
    inventory::{CopyLeft, CopyStanding, NativeReference, NativeState, SandboxCopy},
    plan::action::{Drill, SandboxKind},
    sources::Provider,
    spec::{
        DrillCheck, Source, Spec,
        names::{BackupName, FolderName},
    },
    stores::Class,
};

/// How long a provider may take to list what it was asked to make.
const LISTS_LATE: SignedDuration = SignedDuration::from_mins(10);

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
        if self.is_read(&drill.backup, time) {
            return Err(format!("{} is there: another controller is at this very drill", copy.name));
        }
        let earlier = SandboxCopy { mark, ..copy.clone() };
        provider.delete_copy(&earlier).await.map_err(|error| error.to_string())
    }

    /// Whether somebody reads under this name, as far as was seen.
    fn is_read(&self, backup: &BackupName, reader: ArtifactId) -> bool {
        let (now, folder) = (self.clock.now(), self.spec.moved.folder(backup));
        let is_ours = self.inventory.interrupted.iter().any(|left| left.artifact == reader);
        let stores = self.inventory.stores.keys().filter_map(|store| self.seen(store, &folder));
        let mut readings = stores.filter_map(|stored| stored.readings.get(&reader));
        !is_ours && readings.any(|reading| reading.until > now)
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

    /// Deletes what a drill that was cut off had its provider make, if it bears its mark, whatever is declared of both now.
    ///
    /// # Errors
    /// What may be left, and why: nothing that does not bear the mark is touched, and what can't be asked for is not taken for gone.
    pub(super) async fn delete_copy_left(&self, backup: &FolderName, left: &CopyLeft) -> Result<(), Failure> {
        let deleted = self.delete_if_marked(backup, left).await;
        deleted.map_err(|failure| Failure {
            message: format!(
                "{}, which drill {} had its provider make of {backup}, may be left, and cost money: {}",
                left.copy.name, left.drill, failure.message
            ),
            ..failure
        })
    }

    async fn delete_if_marked(&self, backup: &FolderName, left: &CopyLeft) -> Result<(), Failure> {
        let source = self.source_of_copy(backup, left).await?;
        let hosted = Hosted::of(self.drivers.source(&source).await?);
        let (provider, copy) = (hosted.provider()?, &left.copy);
        match provider.standing(&copy.name).await? {
            CopyStanding::Marked(mark) if mark == copy.mark => {
                provider.delete_copy(copy).await.map_err(stalled)
            }
            // Another time of the drill has the name, which it took when this one was gone.
            CopyStanding::Marked(_) => Ok(()),
            CopyStanding::Unmarked => Err(stalled(
                "what bears that name has no mark of it, which it may not have taken yet; look whose it is, and delete it",
            )),
            CopyStanding::Nothing => {
                must_be_listed(left, self.clock.now())?;
                is_not_elsewhere(provider, left, &source).await
            }
        }
    }

    /// How the provider is reached: as is declared now, where that is the one, for keys may have changed; or else as it was when the copy
    /// was made.
    async fn source_of_copy(&self, backup: &FolderName, left: &CopyLeft) -> Result<Source, Failure> {
        let of = |spec: &Spec| {
            let declared = spec.backups.get(&spec.moved.backup(backup))?;
            Some(declared.source.clone()).filter(|source| left.is_with(source))
        };
        if let Some(source) = of(&self.spec) {
            return Ok(source);
        }
        let before = spec_of(self.mirror.path(), &left.revision, &left.declared_in).await?;
        of(&before).ok_or_else(|| {
            stalled(format!("revision {} declares no such source; look for it by hand", left.revision))
        })
    }
}

/// Refuses to take what isn't listed for gone, as long as it may still come: a call that was cut off may have been heard.
fn must_be_listed(left: &CopyLeft, now: Timestamp) -> Result<(), Failure> {
    let began = left.copy.mark.rsplit('/').next().and_then(|time| time.parse::<ArtifactId>().ok());
    let listed = began.map(|time| time.time().saturating_add(LISTS_LATE).unwrap_or(Timestamp::MAX));
    match listed.filter(|listed| now < *listed) {
        Some(listed) => {
            let rest = now.duration_until(listed).try_into().unwrap_or_default();
            let message = format!(
                "nothing of that name is listed yet, and may be until {listed:.0}; a later pass looks again"
            );
            Err(Failure { class: Class::Wait(rest), message })
        }
        None => Ok(()),
    }
}

/// Fails where the look was into another account than the copy's: there is nothing of that name, whatever is left in its own.
async fn is_not_elsewhere(provider: &dyn Provider, left: &CopyLeft, source: &Source) -> Result<(), Failure> {
    let Some(of) = left.of.as_ref().filter(|of| of.has_account()) else { return Ok(()) };
    let account = provider.account().await?;
    let Some(why) = of.out_of_reach_of(source, account.as_deref()) else { return Ok(()) };
    let original = source.native_place().map(|(_, place)| place.of);
    // It is the original that tells the account. Once that is gone nobody ever will, and what can be asked for has been asked for.
    let is_gone = match original.as_deref() {
        Some(original) if of.out_of_reach(source, account.as_deref()).is_none() => {
            provider.standing(original).await? == CopyStanding::Nothing
        }
        _ => false,
    };
    if !is_gone {
        return Err(stalled(why));
    }
    let (copy, drill) = (&left.copy.name, &left.drill);
    tracing::warn!(
        %drill, %copy,
        "taken for gone: nothing of that name is there, nor is the original, so that nobody tells the account that was \
         looked into; if the access key is of another one now, look there"
    );
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_at_once_is_not_gone() {
        let (fleet, drill) = ("shop".parse().unwrap(), "way-back".parse().unwrap());
        let reader: ArtifactId = "20261120T010000Z-3k7qz0m4xw".parse().unwrap();
        let copy = SandboxCopy::of(&fleet, &drill, reader);
        let (revision, declared_in) = ("0a".to_owned(), String::new());
        let left = CopyLeft { drill, copy, of: None, revision, declared_in };
        let at = |text: &str| must_be_listed(&left, text.parse().unwrap());
        let early = at("2026-11-20T01:08:00Z").unwrap_err();
        assert_eq!(early.class, Class::Wait(Duration::from_secs(120)));
        assert!(early.message.contains("until 2026-11-20T01:10:00Z"), "{}", early.message);
        assert!(at("2026-11-20T01:10:00Z").is_ok());
    }
}
