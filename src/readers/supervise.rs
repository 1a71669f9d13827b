//! One reader: begun, bounded, and begun anew when it ends.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{pace, spool, standing::Standing};
use crate::{
    drivers::Registry,
    inventory::ReaderState,
    plan::readers::Wanted,
    sources::{Read, Reading, SourceError},
};

/// How often it is looked how much is in the spool.
const LOOK: Duration = Duration::from_secs(2);

/// How long a server whose log can't be read as it is written is left alone: it may become another one.
const ASK_AGAIN: Duration = Duration::from_secs(3600);

/// What one reader is.
pub(super) struct Job {
    pub(super) spool: PathBuf,
    pub(super) wanted: Wanted,
    pub(super) drivers: Arc<dyn Registry>,
    /// The most that the spool may hold, bytes.
    pub(super) most: u64,
    pub(super) stop: CancellationToken,
    pub(super) standing: Standing,
}

/// How one run of it ended.
enum End {
    /// It was told to.
    Told,
    /// By itself, and why.
    Failed(String),
    /// There is no more room in the spool.
    Full,
    /// This server's log can't be read as it is written.
    NotReadable(String),
}

impl Job {
    /// Reads until it is told to end.
    pub(super) async fn run(self) {
        // What an earlier controller left says nothing of this reader.
        self.standing.forget();
        let mut ends = 0;
        let mut lock = None;
        while !self.stop.is_cancelled() {
            if lock.is_none() {
                lock = match spool::take(&self.spool) {
                    Ok(lock) => Some(lock),
                    Err(error) => {
                        let why = format!("its spool {} can't be used: {error}", self.spool.display());
                        tracing::error!(backup = %self.wanted.backup, why, "the log is not read");
                        self.rest(&mut ends).await;
                        continue;
                    }
                };
            }
            match self.once().await {
                End::Told => break,
                End::NotReadable(why) => {
                    tracing::info!(backup = %self.wanted.backup, why, "the log is captured at its slots only");
                    self.standing.over();
                    self.wait(ASK_AGAIN).await;
                }
                End::Full => {
                    let most = bytesize::ByteSize(self.most);
                    let why =
                        format!("its spool holds {most}, the most that it may, and no store has that yet");
                    self.standing.ended(ReaderState::Full, why);
                    self.until_there_is_room().await;
                    ends = 0;
                }
                End::Failed(why) => {
                    ends = if self.standing.is_up() { 0 } else { ends };
                    self.standing.ended(ReaderState::Down, why);
                    self.rest(&mut ends).await;
                }
            }
        }
        self.standing.over();
    }

    async fn once(&self) -> End {
        if self.is_full() {
            return End::Full;
        }
        let source = match self.drivers.source(&self.wanted.source).await {
            Ok(source) => source,
            Err(refusal) => return End::Failed(refusal.to_string()),
        };
        let stop = self.stop.child_token();
        let reading = Reading { spool: &self.spool, stop: &stop, witness: &self.standing };
        let mut read = pin!(source.read_log(&reading));
        let ended = |read: Result<Read, SourceError>| match read {
            Ok(Read::Stopped) => End::Told,
            Ok(Read::NotReadable(why)) => End::NotReadable(why),
            Err(error) => End::Failed(error.to_string()),
        };
        loop {
            tokio::select! {
                read = &mut read => return ended(read),
                () = sleep(LOOK) => {}
            }
            if self.is_full() {
                stop.cancel();
                return match read.await {
                    Ok(Read::Stopped) if !self.stop.is_cancelled() => End::Full,
                    read => ended(read),
                };
            }
        }
    }

    fn is_full(&self) -> bool {
        spool::size(&self.spool).is_ok_and(|bytes| bytes >= self.most)
    }

    async fn until_there_is_room(&self) {
        while self.is_full() && !self.stop.is_cancelled() {
            self.wait(LOOK).await;
        }
    }

    async fn rest(&self, ends: &mut u32) {
        *ends = ends.saturating_add(1);
        self.wait(pace::rest(*ends, rand::random())).await;
    }

    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }
}
