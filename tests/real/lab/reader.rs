//! A reader of a log, as the daemon has one.

use std::{path::Path, time::Duration};

use backstay::sources::{Progress, Read, Reading, Source, SourceError, Witness};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long whatever is waited for may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Reader {
    stop: CancellationToken,
    task: JoinHandle<Result<Read, SourceError>>,
    told: mpsc::UnboundedReceiver<Progress>,
}

struct Told(mpsc::UnboundedSender<Progress>);

impl Witness for Told {
    fn saw(&self, progress: Progress) {
        let _ = self.0.send(progress);
    }
}

impl Reader {
    /// Starts one, and waits until it has all that the server has.
    pub async fn start(source: impl Source + 'static, spool: &Path) -> Self {
        let (spool, stop, (tell, told)) =
            (spool.to_owned(), CancellationToken::new(), mpsc::unbounded_channel());
        let stops = stop.clone();
        let task = tokio::spawn(async move {
            let reading = Reading { spool: &spool, stop: &stops, witness: &Told(tell) };
            source.read_log(&reading).await
        });
        let mut reader = Self { stop, task, told };
        while timeout(PATIENCE, reader.told.recv()).await.expect("it reads") != Some(Progress::Complete) {
            if reader.task.is_finished() {
                panic!("it has ended: {:?}", reader.task.await);
            }
        }
        reader
    }

    /// What ended it.
    pub async fn ended(self) -> SourceError {
        let ended = timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic");
        ended.expect_err("nobody told it to end")
    }

    /// Tells it to end.
    pub async fn stop(self) -> Result<Read, SourceError> {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("it ends").expect("it does not panic")
    }
}
