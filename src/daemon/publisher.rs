//! Runbooks on their branch, beside the passes: a Git server may take its time.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::reconcile::{Controller, Runbooks};

/// What is to be on the branch, and who brings it there.
type Wanted = Option<(Arc<Controller>, Runbooks)>;

/// Brings runbooks to their branch, one lot after the other: of those that wait, only the newest. Ends when it is dropped.
pub(super) struct Publisher {
    wanted: watch::Sender<Wanted>,
    ended: mpsc::UnboundedReceiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Publisher {
    /// Must be called within a Tokio runtime.
    pub(super) fn start() -> Self {
        let (wanted, mut wants) = watch::channel(None);
        let (tell, ended) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while wants.changed().await.is_ok() {
                let next: Wanted = wants.borrow_and_update().clone();
                let Some((controller, runbooks)) = next else { continue };
                let published = AssertUnwindSafe(controller.publish(&runbooks)).catch_unwind().await;
                let died =
                    || Some("a fault of the program kept them from it; report it with the log".to_owned());
                // Nobody listens any more: the loop has ended.
                if tell.send(published.unwrap_or_else(|_| died())).is_err() {
                    return;
                }
            }
        });
        Self { wanted, ended, task }
    }

    /// Has the branch hold `runbooks`, as soon as what is under way has ended.
    pub(super) fn put(&self, controller: Arc<Controller>, runbooks: Runbooks) {
        self.wanted.send_replace(Some((controller, runbooks)));
    }

    /// Waits until a lot is on the branch, or why it could not be brought there. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<String> {
        match self.ended.recv().await {
            Some(unpublished) => unpublished,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}
