//! Calls to the server that are never waited for without end. The client makes a call again whose failure may pass.

use std::time::Duration;

use aws_sdk_dynamodb::Client;

use super::Failure;
use crate::aws::Fault;

/// A server within reach.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub client: Client,
    /// Silence that counts as a failure.
    pub stall: Duration,
}

impl Reach {
    /// The answer to a call.
    pub(super) async fn answer<T, E: Into<Fault>>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let answer = tokio::time::timeout(self.stall, call).await;
        answer.map_err(|_| Failure::Silent(self.stall))?.map_err(|error| Failure::Aws(error.into()))
    }

    /// The answer to a call that not every server knows; `None` where it does not.
    pub(super) async fn answer_if_known<T, E: Into<Fault>>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<Option<T>, Failure> {
        match self.answer(call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Failure::Aws(Fault::Service { code, .. })) if code == "UnknownOperationException" => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}
