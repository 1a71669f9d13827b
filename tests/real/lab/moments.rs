//! What shows of which moment a capture is: clocks that are not ours, and a sink that takes its time.

use std::time::Duration;

use async_trait::async_trait;
use backstay::{
    clock::Clock,
    sources::{Run, RunKey, Sink, SinkClosed},
};
use bytes::Bytes;
use jiff::Timestamp;

/// A clock that shows the same moment for ever, long ago.
pub struct OfOld;

impl Clock for OfOld {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(981_173_106).unwrap()
    }
}

/// A clock that is three seconds behind.
pub struct Behind;

impl Clock for Behind {
    fn now(&self) -> Timestamp {
        Timestamp::now() - Duration::from_secs(3)
    }
}

/// A sink that takes its time with every piece, and notes when it got the last.
#[derive(Default)]
pub struct Slow {
    pub last: Timestamp,
}

#[async_trait]
impl Sink for Slow {
    async fn write(&mut self, _: Bytes) -> Result<(), SinkClosed> {
        self.last = Timestamp::now();
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}
