//! A process group that never outlives its owner.

use std::{io, process::ExitStatus, sync::LazyLock, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, runtime::Handle};
use tokio_util::task::TaskTracker;

/// Groups that were given up, and save what they have before they end.
static SAVING: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until every program has ended that was interrupted when it was given up; each has its grace for that.
pub async fn saved() {
    SAVING.close();
    SAVING.wait().await;
}

/// How a group is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Terminated,
    Interrupted,
}

impl Ending {
    fn signal(self) -> Signal {
        match self {
            Ending::Terminated => Signal::TERM,
            Ending::Interrupted => Signal::INT,
        }
    }
}

/// The leader of a process group, and with it the group.
#[derive(Debug)]
pub(super) struct Group {
    leader: Option<Leader>,
    grace: Duration,
    ending: Ending,
}

/// Kills its group when it is dropped.
#[derive(Debug)]
struct Leader {
    child: Child,
    group: Option<Pid>,
}

impl Leader {
    /// A group that is gone already is what was wanted.
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }

    async fn end(mut self, grace: Duration, ending: Ending) {
        self.signal(ending.signal());
        let _ = tokio::time::timeout(grace, self.child.wait()).await;
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Group {
    /// Takes over `child`, which was started as the leader of its own group.
    pub(super) fn new(child: Child, grace: Duration, ending: Ending) -> Self {
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        Self { leader: Some(Leader { child, group }), grace, ending }
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.leader.as_ref().and_then(|leader| leader.child.id())
    }

    /// Waits for the leader's end, then kills what it left behind.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let leader = self.leader.as_mut().ok_or(io::ErrorKind::NotFound)?;
        let status = leader.child.wait().await?;
        leader.signal(Signal::KILL);
        leader.group = None;
        Ok(status)
    }

    /// Asks the group to end, and kills it after the grace.
    pub(super) async fn stop(&mut self) {
        if let Some(leader) = self.leader.take() {
            leader.end(self.grace, self.ending).await;
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(leader) = self.leader.take() else { return };
        if leader.group.is_none() {
            return;
        }
        // Without a runtime, or when the runtime goes before the grace has passed, dropping the leader kills at once.
        let Ok(runtime) = Handle::try_current() else { return };
        let end = leader.end(self.grace, self.ending);
        match self.ending {
            Ending::Terminated => drop(runtime.spawn(end)),
            // What is interrupted has something to save.
            Ending::Interrupted => drop(SAVING.spawn_on(end, &runtime)),
        }
    }
}
