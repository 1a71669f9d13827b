//! Snapshots and moments that Atlas restores into another cluster ("Restore One Snapshot of One Cluster").
//!
//! Atlas makes no cluster for that: it **erases** the one that is named. So whoever has the cluster says so there, by a tag, and each
//! cluster is restored into once.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    AtlasSource, Failure, Reference,
    failure::Patience,
    is_cluster_name,
    wire::{Cluster, Job, JobState},
};
use crate::{
    inventory::{NativeState, Renewal},
    sources::{Kept, Restored},
};

/// The tag of a cluster that may be erased by a restore. Its value is the name of the cluster whose data it is for.
const TAG: &str = "backstay-restore";

/// The longest that a restore may take.
const DONE: Duration = Duration::from_secs(48 * 3600);

/// How long a job may take to be listed after the answer to whoever asked for it was lost.
const LISTED: Duration = Duration::from_secs(30);

/// How long a cluster may take to be at rest after a restore into it.
const AT_REST: Duration = Duration::from_secs(3600);

/// Pauses between two looks: the first, and the longest.
const LOOKS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Has a snapshot, or the cluster's data as it was at a moment, restored into the cluster `to`.
pub(super) async fn restored(source: &AtlasSource, kept: &Kept<'_>, to: &str) -> Result<Restored, Failure> {
    let (from, job) = asked_for(source, kept)?;
    begin_and_follow(source, kept, &from, job, to).await
}

/// The same for a recovery; or follows the job that the same recovery asked for before it was cut off. Jobs bear no mark: it is what goes
/// on, or was done since the recovery began, of exactly what is asked for. Nothing is asked for then, and no consent is needed.
pub(super) async fn renewed(
    source: &AtlasSource,
    kept: &Kept<'_>,
    renewal: &Renewal,
) -> Result<Restored, Failure> {
    let ((from, job), to) = (asked_for(source, kept)?, renewal.name.as_str());
    if let Some(begun) = renewal.begun {
        let target = target(source, &from, to).await?;
        let asked = source.api.job_into(job.clone(), to);
        let jobs = source.api.jobs(&from).await?;
        if let Some(ours) = taken_up(&jobs, &asked, &target, to, begun) {
            let restored = followed(source, &from, &ours.id, to).await?;
            return Ok(told_of(ours, restored));
        }
    }
    begin_and_follow(source, kept, &from, job, to).await
}

/// Where the data is, by a job that was taken up. Of one that was done before, Atlas tells no more than that: what was restored of other
/// clusters since is in their lists, and what was written since is in none.
fn told_of(job: &Job, restored: Restored) -> Restored {
    match job.state() {
        JobState::Done(at) => Restored {
            place: format!(
                "{} by restore job {}, which was done at {at:.0}; what came into it since was not looked at",
                restored.place, job.id
            ),
        },
        JobState::Running | JobState::Ended(_) => restored,
    }
}

/// The job that a recovery asked for since it began, where nothing else of the same cluster was restored into it since.
fn taken_up<'j>(
    jobs: &'j [Job],
    asked: &Value,
    target: &Cluster,
    to: &str,
    begun: Timestamp,
) -> Option<&'j Job> {
    let holds = |job: &&Job| match job.state() {
        JobState::Running => true,
        // One of another cluster that was called so is no concern of this one.
        JobState::Done(at) => target.create_date.is_none_or(|created| at >= created),
        JobState::Ended(_) => false,
    };
    let mut into = jobs.iter().filter(|job| job.is_into(to)).filter(holds);
    let is_since = |job: &Job| match job.state() {
        JobState::Done(at) => at >= begun,
        JobState::Running | JobState::Ended(_) => true,
    };
    match (into.next(), into.next()) {
        (Some(one), None) if one.is_as_asked(asked) && is_since(one) => Some(one),
        _ => None,
    }
}

/// The cluster whose data is asked for, and the body of the call but for where it goes. Atlas counts in whole seconds.
fn asked_for(source: &AtlasSource, kept: &Kept<'_>) -> Result<(String, Value), Failure> {
    Ok(match kept {
        Kept::Backup(reference) => {
            let at = source.referred(reference)?;
            (at.cluster, json!({ "deliveryType": "automated", "snapshotId": at.id }))
        }
        Kept::Moment(at) => {
            let job = json!({ "deliveryType": "pointInTime", "pointInTimeUTCSeconds": at.as_second() });
            (source.cluster.clone(), job)
        }
    })
}

/// Where a snapshot is; refuses one that is not whole.
pub(super) async fn can_be_restored(source: &AtlasSource, reference: &str) -> Result<Reference, Failure> {
    let at = source.referred(reference)?;
    match source.snapshot(&at).await?.map(|snapshot| snapshot.state()) {
        Some(NativeState::Available) => Ok(at),
        Some(other) => Err(Failure::Wrong(format!("snapshot {reference} is {other:?}"))),
        None => Err(Failure::Refused(format!("Atlas has no snapshot {reference} any more"))),
    }
}

/// Has what is of the cluster `from` restored into the cluster `to`.
async fn begin_and_follow(
    source: &AtlasSource,
    kept: &Kept<'_>,
    from: &str,
    job: Value,
    to: &str,
) -> Result<Restored, Failure> {
    if let Kept::Backup(reference) = kept {
        can_be_restored(source, reference).await?;
    }
    let target = target(source, from, to).await?;
    let before = source.api.jobs(from).await?;
    may_be_erased(from, to, &target, &before)?;
    let job = source.api.job_into(job, to);
    let id = begun(source, from, job, &before).await.map_err(|failure| match failure {
        lost if lost.is_ambiguous() => {
            let look =
                format!("look in Atlas whether a restore into {to} goes on before you ask for it again");
            Failure::MayGoOn(Box::new(lost), look)
        }
        failure => failure,
    })?;
    followed(source, from, &id, to).await
}

/// Follows a job to its end, and until the cluster is at rest.
async fn followed(source: &AtlasSource, from: &str, id: &str, to: &str) -> Result<Restored, Failure> {
    let told = |failure| {
        let look =
            format!("look at restore job {id} of {from} in Atlas: {to} holds nothing whole until it is done");
        Failure::MayGoOn(Box::new(failure), look)
    };
    wait_until_done(source, from, id).await.map_err(told)?;
    wait_until_at_rest(source, to).await.map_err(told)?;
    Ok(Restored { place: format!("cluster {to}") })
}

async fn target(source: &AtlasSource, from: &str, to: &str) -> Result<Cluster, Failure> {
    if !is_cluster_name(to) {
        return Err(Failure::Refused(format!("`{}` is not the name of a cluster", to.escape_debug())));
    }
    if [from, &source.cluster].iter().any(|taken| to.eq_ignore_ascii_case(taken)) {
        return Err(Failure::Refused(format!(
            "{to} is what the data was taken of, and Atlas would erase it; name another cluster"
        )));
    }
    match source.api.cluster(to).await {
        Err(Failure::Answer(answer)) if answer.status == 404 => Err(Failure::Refused(format!(
            "there is no cluster {to} in the project; make one there, with the tag {TAG} = {from}"
        ))),
        target => target,
    }
}

/// Refuses a cluster that nobody said may be erased, or into which it was restored before: what it holds since may be in use.
fn may_be_erased(from: &str, to: &str, target: &Cluster, jobs: &[Job]) -> Result<(), Failure> {
    let is_meant = target.tags.iter().any(|tag| tag.key == TAG && tag.value == from);
    if !is_meant {
        return Err(Failure::Refused(format!(
            "Atlas would erase cluster {to}, and nobody said that it may; if it holds nothing that is needed, give it the tag {TAG} = \
             {from} in Atlas"
        )));
    }
    if target.termination_protection_enabled {
        return Err(Failure::Refused(format!(
            "cluster {to} is protected from termination, and Atlas would erase it"
        )));
    }
    if let Some(why) = target.changing() {
        return Err(Failure::NotReady(format!("cluster {to} can't be restored into: {why}")));
    }
    let into = jobs.iter().filter(|job| job.is_into(to));
    for job in into {
        match job.state() {
            JobState::Running => {
                return Err(Failure::Refused(format!("restore job {} into {to} is not done yet", job.id)));
            }
            // One of another cluster that was called so is no concern of this one.
            JobState::Done(at) if target.create_date.is_none_or(|created| at >= created) => {
                return Err(Failure::Refused(format!(
                    "cluster {to} exists and holds what was restored into it at {at:.0}; name another one, or make it anew"
                )));
            }
            JobState::Done(_) | JobState::Ended(_) => {}
        }
    }
    Ok(())
}

/// Asks for a job once, and tells its id. Where the answer was lost, it is the only one that came since of which Atlas tells that it is of
/// what was asked for: somebody else's would bring back something else.
pub(super) async fn begun(
    source: &AtlasSource,
    from: &str,
    job: Value,
    before: &[Job],
) -> Result<String, Failure> {
    let lost = match source.api.begin(from, job.clone()).await {
        Ok(job) => return Ok(job.id),
        Err(failure) if failure.is_ambiguous() => failure,
        Err(failure) => return Err(failure),
    };
    let known: BTreeSet<&str> = before.iter().map(|job| job.id.as_str()).collect();
    let (deadline, mut pause) = (Instant::now() + LISTED, LOOKS.0);
    loop {
        let Ok(jobs) = source.api.jobs(from).await else { return Err(lost) };
        let is_ours = |it: &&Job| !known.contains(it.id.as_str()) && it.is_as_asked(&job);
        let ours: Vec<&Job> = jobs.iter().filter(is_ours).collect();
        match ours.as_slice() {
            [] => {}
            [one] => return Ok(one.id.clone()),
            _ => return Err(lost),
        }
        if Instant::now() >= deadline {
            return Err(lost);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn wait_until_done(source: &AtlasSource, from: &str, id: &str) -> Result<(), Failure> {
    let (deadline, mut pause, mut patience) = (Instant::now() + DONE, LOOKS.0, Patience::default());
    loop {
        let look = source.api.job(from, id).await;
        match patience.with(look, Instant::now())?.map(|job| job.state()) {
            Some(JobState::Done(_)) => return Ok(()),
            Some(JobState::Ended(how)) => {
                return Err(Failure::Refused(format!("restore job {id} was not done: {how}")));
            }
            Some(JobState::Running) | None if Instant::now() >= deadline => {
                return Err(Failure::NotReady(format!("restore job {id} is not done after two days")));
            }
            Some(JobState::Running) | None => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

async fn wait_until_at_rest(source: &AtlasSource, to: &str) -> Result<(), Failure> {
    let (deadline, mut pause, mut patience) = (Instant::now() + AT_REST, LOOKS.0, Patience::default());
    loop {
        let look = source.api.cluster(to).await;
        let why = match patience.with(look, Instant::now())?.map(|cluster| cluster.changing()) {
            Some(None) => return Ok(()),
            Some(Some(why)) => why,
            None => "Atlas does not answer".to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(Failure::NotReady(format!("cluster {to} was restored, and is not at rest: {why}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LOOKS.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_restore_that_was_done_before_it_is_told_when_and_that_nobody_looked_into_it_since() {
        let told = |job: &str| {
            let job: Job = serde_json::from_str(job).unwrap();
            told_of(&job, Restored { place: "cluster copy".to_owned() }).place
        };
        assert_eq!(told(r#"{"id":"j1"}"#), "cluster copy");
        assert_eq!(
            told(r#"{"id":"j1","finishedAt":"2026-11-20T01:00:00Z"}"#),
            "cluster copy by restore job j1, which was done at 2026-11-20T01:00:00Z; what came into it since was not looked at"
        );
    }
}
