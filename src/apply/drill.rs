//! Drills: a restore into a sandbox, and what came of it. Whatever could not be done is told, and never a pass.

mod by_hand;

use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use sha2::{Digest, Sha256};

use super::{
    restore::{self, Logs, RestoreError},
    room,
    stream::{self, StreamError},
};
use crate::{
    artifact::{
        Manifest,
        drill::{DrillOutcome, Finding, Stage, StageTime, Verdict},
        manifest::Counts,
        until::Until,
    },
    committed::BackupFolder,
    keys::Keys,
    progress::Progress,
    sandboxes::{Sandbox, SandboxError},
    sources::Source,
    spec::{DrillCheck, DrillHow, Expected},
    stores::StoreError,
};

/// The most tables that a finding names.
const MOST_NAMED: usize = 5;

/// How much of a file is read at once, bytes.
const CHUNK: usize = 256 * 1024;

/// What is restored, and what must hold afterwards.
pub struct Order<'a> {
    /// The data, with what it requires before it. Never empty.
    pub manifests: &'a [Manifest],
    /// Logs to replay over it.
    pub logs: &'a [Manifest],
    /// What they are replayed up to.
    pub until: Option<&'a Until>,
    /// How it is restored.
    pub how: DrillHow,
    /// What must hold.
    pub checks: &'a [DrillCheck],
}

/// What drills work with.
pub struct Means<'a> {
    /// Where the artifacts are.
    pub folder: &'a BackupFolder,
    /// What they are decrypted with.
    pub keys: &'a Arc<Keys>,
    /// Hears how far it has come.
    pub progress: &'a Arc<dyn Progress>,
}

/// What came of a drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended. Tells nothing of the data itself: it stands in clear in records.
    pub outcome: DrillOutcome,
    /// Why the data did not come back, in full.
    pub why: Option<String>,
    /// How long each stage took that was begun.
    pub stages: Vec<StageTime>,
    /// What every check found.
    pub findings: Vec<Finding>,
    /// From the beginning to data that can be used.
    pub usable_after: Option<Duration>,
    /// How long the streams of data are, without logs.
    pub bytes: u64,
}

/// What ends a drill before its checks.
enum Halted {
    /// The store did not answer: nothing is known, and it is worth another try.
    Store(StoreError),
    CouldNotRun(String),
    /// What happened, in words that tell nothing of the data; and in full.
    Failed(&'static str, String),
}

impl From<SandboxError> for Halted {
    fn from(error: SandboxError) -> Self {
        match error {
            SandboxError::CouldNotRun(why) => Halted::CouldNotRun(why),
            SandboxError::Failed(why) => Halted::Failed("no server could be started on what came back", why),
        }
    }
}

impl Halted {
    fn of(error: RestoreError, doing: &'static str) -> Self {
        match error {
            RestoreError::Stream(StreamError::Store(error)) => Halted::Store(error),
            RestoreError::Stream(why @ (StreamError::Identity { .. } | StreamError::Native { .. })) => {
                Halted::CouldNotRun(why.to_string())
            }
            RestoreError::Aside(why) | RestoreError::Private(why) => Halted::CouldNotRun(why),
            other => Halted::Failed(doing, other.to_string()),
        }
    }
}

/// Restores into `sandbox`, checks what came back, and removes the sandbox.
///
/// # Errors
/// Where the store fails: then nothing is known, and the drill can be tried again.
pub async fn drill(
    order: &Order<'_>,
    mut sandbox: Box<dyn Sandbox>,
    means: &Means<'_>,
) -> Result<Ended, StoreError> {
    let mut run = Run { began: Instant::now(), stages: Vec::new(), findings: Vec::new(), usable_after: None };
    let ran = run.through(order, sandbox.as_mut(), means).await;
    sandbox.tear_down().await;
    let Run { stages, findings, usable_after, .. } = run;
    let verdicts: Vec<Verdict> = findings.iter().map(|finding| finding.verdict).collect();
    let (outcome, why) = match ran {
        Ok(()) => (DrillOutcome::of(&verdicts), None),
        Err(Halted::Store(error)) => return Err(error),
        Err(Halted::CouldNotRun(why)) => (DrillOutcome::CouldNotRun(why.clone()), Some(why)),
        Err(Halted::Failed(what, why)) => (DrillOutcome::Failed(what.to_owned()), Some(why)),
    };
    Ok(Ended { outcome, why, stages, findings, usable_after, bytes: room::length(order.manifests.iter()) })
}

/// A drill under way.
struct Run {
    began: Instant,
    stages: Vec<StageTime>,
    findings: Vec<Finding>,
    usable_after: Option<Duration>,
}

impl Run {
    async fn through(
        &mut self,
        order: &Order<'_>,
        sandbox: &mut dyn Sandbox,
        means: &Means<'_>,
    ) -> Result<(), Halted> {
        // By hand the packs are fetched first, and the streams brought out whole, before anything is loaded.
        let beside = match order.how {
            DrillHow::Backstay => 0,
            DrillHow::ByHand => {
                let all = || order.manifests.iter();
                room::length(all()).saturating_add(room::stored(all()))
            }
        };
        let room = room::must_suffice(order.manifests, order.logs, sandbox, beside);
        room.map_err(Halted::CouldNotRun)?;
        self.timed(Stage::Prepare, sandbox.prepare()).await?;
        let (folder, keys, progress) = (means.folder, means.keys, means.progress);
        let (loader, place) = (sandbox.loader(), sandbox.place());
        match order.how {
            DrillHow::Backstay => {
                let load = restore::restore(
                    order.manifests,
                    Logs::default(),
                    folder,
                    loader,
                    &place,
                    keys,
                    progress,
                );
                let loaded = self.timed(Stage::Load, load).await;
                loaded.map_err(|error| Halted::of(error, "what was captured could not be loaded"))?;
            }
            DrillHow::ByHand => self.timed(Stage::Load, by_hand::load(order, sandbox, means)).await?,
        }
        let checking = Instant::now();
        self.findings.extend(sandbox.examine().await);
        // Counts are of the data as it was captured: what its log brings changes them.
        let counts_before = !order.logs.is_empty() && order.checks.contains(&DrillCheck::Counts);
        let counted = if counts_before {
            Some(counts(order.manifests, sandbox.inspector(), means.keys).await)
        } else {
            None
        };
        let checked = checking.elapsed();
        if !order.logs.is_empty() {
            let logs = Logs { manifests: order.logs, until: order.until };
            let replay =
                restore::replay_logs(order.manifests, logs, folder, sandbox.loader(), &place, keys, progress);
            let replayed = self.timed(Stage::Replay, replay).await;
            replayed.map_err(|error| Halted::of(error, "its log could not be replayed"))?;
        }
        let starting = Instant::now();
        let started = sandbox.start().await;
        self.lengthen_last(starting.elapsed());
        started?;
        self.usable_after = Some(self.began.elapsed().saturating_sub(checked));
        let verifying = Instant::now();
        self.verify(order, sandbox, means, counted).await;
        self.note(Stage::Verify, checked + verifying.elapsed());
        Ok(())
    }

    async fn verify(
        &mut self,
        order: &Order<'_>,
        sandbox: &mut dyn Sandbox,
        means: &Means<'_>,
        mut counted: Option<Finding>,
    ) {
        self.findings.extend(sandbox.check().await);
        for check in order.checks {
            let finding = match check {
                DrillCheck::Counts => match counted.take() {
                    Some(finding) => finding,
                    None => counts(order.manifests, sandbox.inspector(), means.keys).await,
                },
                DrillCheck::Sql { sql, database, expect } => {
                    asked(check, (database.as_deref(), sql), expect, sandbox.inspector()).await
                }
                DrillCheck::File { path, min_bytes, sha256 } => {
                    let (root, path) = (sandbox.files().to_owned(), path.clone());
                    let (check, expected) = (check.clone(), (*min_bytes, sha256.clone()));
                    let (of_whom, of_what) = (check.clone(), described(&expected));
                    let looked = tokio::task::spawn_blocking(move || file(&check, &root, &path, &expected));
                    looked.await.unwrap_or_else(|died| unmade(&of_whom, of_what, died.to_string()))
                }
            };
            self.findings.push(finding);
        }
    }

    async fn timed<T>(&mut self, stage: Stage, work: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let done = work.await;
        self.note(stage, began.elapsed());
        done
    }

    fn note(&mut self, stage: Stage, took: Duration) {
        self.stages.push(StageTime { stage, milliseconds: milliseconds(took) });
    }

    fn lengthen_last(&mut self, by: Duration) {
        if let Some(last) = self.stages.last_mut() {
            last.milliseconds = last.milliseconds.saturating_add(milliseconds(by));
        }
    }
}

fn milliseconds(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

fn found(check: &DrillCheck, expected: String, found: String, holds: bool) -> Finding {
    let verdict = if holds { Verdict::Passed } else { Verdict::Failed };
    Finding { check: check.to_string(), expected, found, verdict }
}

/// What every check found that does not hold, for people.
pub(super) fn bad(findings: &[Finding]) -> impl Iterator<Item = String> {
    let bad = findings.iter().filter(|finding| finding.verdict != Verdict::Passed);
    bad.map(|it| {
        format!("{} {}: expected {}, found {}", it.check, it.verdict.as_str(), it.expected, it.found)
    })
}

pub(super) fn unmade(check: &DrillCheck, expected: String, why: String) -> Finding {
    Finding { check: check.to_string(), expected, found: why, verdict: Verdict::CouldNotRun }
}

/// Asks `inspector` in SQL.
pub(super) async fn asked(
    check: &DrillCheck,
    (database, sql): (Option<&str>, &str),
    expect: &Expected,
    inspector: &dyn Source,
) -> Finding {
    match inspector.ask(database, sql).await {
        Ok(answer) => found(check, expect.to_string(), answer.clone(), expect.allows(&answer)),
        Err(error) => found(check, expect.to_string(), error.to_string(), false),
    }
}

/// Compares the rows that `inspector` counts with those that were counted when the data was captured.
pub(super) async fn counts(manifests: &[Manifest], inspector: &dyn Source, keys: &Arc<Keys>) -> Finding {
    let (check, expected) = (&DrillCheck::Counts, "the rows of the capture".to_owned());
    let sealed = manifests.last().map(|manifest| stream::sealed(manifest, keys));
    let captured = match sealed {
        Some(Ok(Some(sealed))) => match sealed.details.counts {
            Counts::Captured(counts) => counts,
            Counts::NotCaptured(why) => return unmade(check, expected, format!("none were captured: {why}")),
        },
        Some(Ok(None)) | None => return unmade(check, expected, "none were captured".to_owned()),
        Some(Err(error)) => return unmade(check, expected, error.to_string()),
    };
    match inspector.count().await {
        Ok(Counts::Captured(counted)) => compared(&captured, &counted),
        Ok(Counts::NotCaptured(why)) => unmade(check, expected, why),
        Err(error) => unmade(check, expected, error.to_string()),
    }
}

fn compared(captured: &BTreeMap<String, u64>, counted: &BTreeMap<String, u64>) -> Finding {
    let sum = |counts: &BTreeMap<String, u64>| {
        format!("{} rows in {} tables", counts.values().sum::<u64>(), counts.len())
    };
    let rows = |count: Option<&u64>| count.map_or("no table".to_owned(), u64::to_string);
    let names: std::collections::BTreeSet<&String> = captured.keys().chain(counted.keys()).collect();
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| captured.get(*name) != counted.get(*name))
        .map(|name| format!("{name}: {} instead of {}", rows(counted.get(name)), rows(captured.get(name))))
        .collect();
    if differing.is_empty() {
        return found(&DrillCheck::Counts, sum(captured), sum(counted), true);
    }
    let more = match differing.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named = differing.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    found(&DrillCheck::Counts, sum(captured), format!("{named}{more}"), false)
}

type ExpectedFile = (Option<u64>, Option<String>);

fn described((min_bytes, sha256): &ExpectedFile) -> String {
    let bytes = min_bytes.map(|bytes| format!("at least {bytes} bytes"));
    let sum = sha256.as_ref().map(|sum| format!("SHA-256 {sum}"));
    let all: Vec<String> = bytes.into_iter().chain(sum).collect();
    if all.is_empty() { "a file".to_owned() } else { all.join(", ") }
}

/// Looks at a file beneath `root`. No link is followed: what was restored may lead anywhere.
fn file(check: &DrillCheck, root: &Path, path: &str, expected: &ExpectedFile) -> Finding {
    let told = described(expected);
    let looked = || -> std::io::Result<(u64, Option<String>)> {
        let folder = std::fs::File::open(root)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut file = std::fs::File::from(openat2(&folder, path, flags, Mode::empty(), resolve)?);
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(std::io::Error::other("it is no file"));
        }
        let sum = if expected.1.is_some() { Some(sha256(&mut file)?) } else { None };
        Ok((about.len(), sum))
    };
    match looked() {
        Ok((length, sum)) => {
            let is_long = expected.0.is_none_or(|least| length >= least);
            let holds = is_long && sum == expected.1;
            let sum = sum.map(|sum| format!(", SHA-256 {sum}")).unwrap_or_default();
            found(check, told, format!("{length} bytes{sum}"), holds)
        }
        Err(error) => found(check, told, error.to_string(), false),
    }
}

fn sha256(file: &mut std::fs::File) -> std::io::Result<String> {
    let (mut digest, mut piece) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex::encode(digest.finalize())),
            length => digest.update(&piece[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_lacks_rows_or_is_missing_or_new_is_named() {
        let counts = |all: &[(&str, u64)]| all.iter().map(|(name, rows)| (name.to_string(), *rows)).collect();
        let captured: BTreeMap<String, u64> = counts(&[("a", 1), ("b", 2)]);
        assert_eq!(compared(&captured, &captured).verdict, Verdict::Passed);
        for other in
            [counts(&[("a", 1), ("b", 1)]), counts(&[("a", 1)]), counts(&[("a", 1), ("b", 2), ("c", 0)])]
        {
            let finding = compared(&captured, &other);
            assert_eq!(finding.verdict, Verdict::Failed, "{finding:?}");
        }
        assert_eq!(compared(&captured, &counts(&[("a", 1)])).found, "b: no table instead of 2");
    }

    #[test]
    fn a_file_is_looked_at_where_it_is_and_no_link_leads_elsewhere() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        std::fs::write(root.path().join("etc/conf"), "abc").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("out")).unwrap();
        let verdict = |path: &str, min_bytes, sha256: Option<&str>| {
            let sha256 = sha256.map(str::to_owned);
            let check = DrillCheck::File { path: path.to_owned(), min_bytes, sha256: sha256.clone() };
            file(&check, root.path(), path, &(min_bytes, sha256)).verdict
        };
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(verdict("etc/conf", Some(3), Some(sum)), Verdict::Passed);
        assert_eq!(verdict("etc/conf", Some(4), None), Verdict::Failed);
        assert_eq!(verdict("etc/conf", None, Some(&sum.replace('b', "c"))), Verdict::Failed);
        for no_file in ["etc", "out", "../etc/passwd", "nothing"] {
            assert_eq!(verdict(no_file, None, None), Verdict::Failed, "{no_file}");
        }
    }
}
