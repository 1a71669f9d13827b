//! Setting up a controller for one command, and stopping it cleanly when the process is asked to end.

use std::{future::Future, path::Path};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use crate::{apply::executor::Halt, process, reconcile::Controller};

/// Threads of a command, on however small a machine.
const LEAST_THREADS: usize = 2;

/// Opens the controller that the configuration describes.
pub(super) fn open(config: &Path) -> anyhow::Result<Controller> {
    Ok(Controller::load(config)?.guarded())
}

/// Runs a command's work on a runtime of its own. Also on one processor what reckons does not hold up what answers.
pub(super) fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let threads = std::thread::available_parallelism().map_or(LEAST_THREADS, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.max(LEAST_THREADS))
        .enable_all()
        .build()
        .context("failed to start the threads that work needs")?;
    let done = runtime.block_on(work);
    // Until here nothing waits for what was interrupted in the middle of its work.
    runtime.block_on(process::saved());
    done
}

/// Asks work to stop cleanly at SIGINT and SIGTERM, and tells which one came.
pub(super) struct Interruption {
    halt: Halt,
    came: tokio::task::JoinHandle<Exit>,
}

impl Interruption {
    /// Listens from now on. Must be called on a runtime.
    pub(super) fn listen() -> anyhow::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let halt = Halt::default();
        let stop = halt.stop.clone();
        let came = tokio::spawn(async move {
            let exit = tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Terminated,
            };
            stop.cancel();
            exit
        });
        Ok(Self { halt, came })
    }

    /// What the work must heed.
    pub(super) fn halt(&self) -> &Halt {
        &self.halt
    }

    /// How the command ends: as `otherwise` says, unless it was asked to stop.
    pub(super) async fn exit_or(self, otherwise: Exit) -> Exit {
        if self.halt.stop.is_cancelled() {
            return self.came.await.unwrap_or(Exit::Terminated);
        }
        self.came.abort();
        otherwise
    }
}
