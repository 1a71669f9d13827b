//! A process group that never outlives its owner.

use std::{io, process::ExitStatus, sync::LazyLock, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{process::Child, runtime::Handle, task::JoinHandle};
use tokio_util::task::TaskTracker;

/// Groups that were given up, and save what they have before they end.
static SAVING: LazyLock<TaskTracker> = LazyLock::new(TaskTracker::new);

/// Waits until every program has ended that was interrupted when it was given up; each has its grace for that.
pub async fn saved() {
    SAVING.close();
    SAVING.wait().await;
}

/// Has [`saved`] wait for `work` as well, which goes on after whoever began it gave it up.
pub fn saving<T: Send + 'static>(work: JoinHandle<T>) {
    // Without a runtime nothing goes on.
    let Ok(runtime) = Handle::try_current() else { return };
    let ended = async move {
        let _ = work.await;
    };
    drop(SAVING.spawn_on(ended, &runtime));
}

/// How a group is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Terminated,
    Interrupted,
    /// Somebody has asked it already: it is given its grace.
    Awaited,
}

impl Ending {
    fn signal(self) -> Option<Signal> {
        match self {
            Ending::Terminated => Some(Signal::TERM),
            Ending::Interrupted => Some(Signal::INT),
            Ending::Awaited => None,
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

    fn ask(&self, ending: Ending) {
        if let Some(signal) = ending.signal() {
            self.signal(signal);
        }
    }

    /// How it ended by itself; `None` where it had to be killed.
    async fn ended(&mut self, grace: Duration) -> Option<ExitStatus> {
        let ended = tokio::time::timeout(grace, self.child.wait()).await;
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
        ended.ok()?.ok()
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

    /// Somebody has asked it to end: from now on it is only waited for.
    pub(super) fn was_asked(&mut self) {
        self.ending = Ending::Awaited;
    }

    /// Whether the leader has ended.
    pub(super) fn has_ended(&mut self) -> io::Result<bool> {
        match &mut self.leader {
            Some(leader) => Ok(leader.child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Asks the group to end, and kills it after the grace; how the leader ended, where it did by itself. Given up half-way, it leaves
    /// the group as one that is to end.
    pub(super) async fn stop(&mut self) -> Option<ExitStatus> {
        let leader = self.leader.as_mut()?;
        leader.ask(self.ending);
        if self.ending == Ending::Interrupted {
            // What saves something is not asked again: many programs end at once then.
            self.ending = Ending::Awaited;
        }
        let ended = leader.ended(self.grace).await;
        self.leader = None;
        ended
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(mut leader) = self.leader.take() else { return };
        if leader.group.is_none() {
            return;
        }
        // Without a runtime, or when the runtime goes before the grace has passed, dropping the leader kills at once.
        let Ok(runtime) = Handle::try_current() else { return };
        let (grace, ending) = (self.grace, self.ending);
        let end = async move {
            leader.ask(ending);
            let _ = leader.ended(grace).await;
        };
        match self.ending {
            Ending::Terminated => drop(runtime.spawn(end)),
            // What is interrupted has something to save.
            Ending::Interrupted | Ending::Awaited => drop(SAVING.spawn_on(end, &runtime)),
        }
    }
}
