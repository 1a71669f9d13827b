//! Calls to one bucket: tried again when they may go through later, and never waited for without end.

use std::time::Duration;

use aws_sdk_s3::Client;
use backon::Retryable;

use super::Failure;
use crate::{
    aws::Fault,
    stores::{ErrorKind, retry::Attempts},
};

/// A bucket within reach.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub client: Client,
    pub bucket: String,
    /// Silence that counts as a failure.
    pub stall: Duration,
}

impl Reach {
    /// The answer to `call`, which is made again while its failure may pass.
    pub(super) async fn again<T, E, F>(&self, mut call: impl FnMut() -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, E>>,
        E: Into<Fault>,
    {
        let attempt = || {
            let answer = call();
            async { self.in_time(answer).await?.map_err(|error| Failure::S3(error.into())) }
        };
        attempt.retry(Attempts::default().pauses()).when(may_pass).await
    }

    /// What `work` gives, unless it is silent for too long.
    pub(super) async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout(self.stall, work).await.map_err(|_| Failure::Silent(self.stall))
    }
}

fn may_pass(failure: &Failure) -> bool {
    matches!(failure, Failure::S3(fault) if fault.kind() == ErrorKind::Transient)
}
