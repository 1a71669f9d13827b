//! Traffic: what leads users to one site or another.

pub mod dns;
pub mod load_balancer;
pub mod route53;

use std::collections::BTreeSet;

use async_trait::async_trait;

/// What changes where users are led.
///
/// What drivers must meet:
/// - [`Switch::observe`] changes nothing, and asks whoever decides, never a cache. What can't be told is an error, never nothing.
/// - [`Switch::set`] changes all at once, and only where things are as they were observed: where somebody has changed them since,
///   it is an error and nothing is changed. Where the service has no such condition, it looks again right before.
#[async_trait]
pub trait Switch: Send + Sync {
    /// The values that lead users now; none where there are none.
    async fn observe(&self) -> Result<BTreeSet<String>, SwitchError>;

    /// Whether somebody would serve users that are led by `wanted`, as far as what leads them knows of it; what it can't tell.
    ///
    /// # Errors
    /// Nobody would.
    async fn ready(&self, _wanted: &BTreeSet<String>) -> Result<Option<String>, SwitchError> {
        Ok(None)
    }

    /// Leads users by `wanted` in place of `before`.
    ///
    /// # Errors
    /// Whether the change was taken or not is told apart, where it is known.
    async fn set(&self, before: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Result<(), SetError>;
}

/// Why users are not known to be led elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// It failed on the way: the change may have been taken all the same, and a look tells.
    #[error(transparent)]
    Untold(#[from] SwitchError),
    /// The change was taken, and it is not known to hold everywhere: a look does not tell that.
    #[error("{0}")]
    Unconfirmed(SwitchError),
}

/// Why users could not be led elsewhere, or nobody knows where they are led. Complete: what, why, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SwitchError(pub String);
