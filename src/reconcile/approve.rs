//! Approvals: a person's word that what is held may go on, kept as a signed record in the stores.
//!
//! An approval of a rewritten branch is bound to exactly the step from the revision in force to the branch's tip, and
//! expires. The stores' records are all that counts; the state directory only notes that they are to be asked anew.

mod by_commit;
mod plan;

use futures::future::join_all;
use jiff::SignedDuration;

use super::{
    Controller,
    desired::{self, Demands, Desired, NothingInForce, Obstacle},
    memory::told,
    saying::Recorded,
};
use crate::{
    artifact::record::{Event, RewriteApproval},
    git::Lost,
    inventory::Observed,
    spec::{Spec, names::StoreName},
    state::{InForce, StateError},
};

pub use by_commit::ByCommit;
pub use plan::{ApprovePlanError, PlanApprovals};

/// A person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Whose: `user@host`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// How long it counts.
    pub lasts: SignedDuration,
}

/// A rewrite that was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// What was recorded.
    pub approval: RewriteApproval,
    /// The commits that the branch has lost, which stay in bundles and mirrors.
    pub lost: Lost,
    /// The stores that hold the record.
    pub stores: Vec<StoreName>,
    /// Why others do not.
    pub faults: Vec<String>,
}

/// A rewrite that was not approved.
#[derive(Debug, thiserror::Error)]
pub enum ApproveError {
    /// No revision can be looked at.
    #[error(transparent)]
    NothingInForce(#[from] NothingInForce),
    /// Nothing is held for a rewrite.
    #[error("failed to approve revision {0}: no rewrite of the branch is held; see `backstay status`")]
    NotHeld(String),
    /// Another revision is held.
    #[error(
        "failed to approve revision {asked}: the branch's tip that is held is {held}; look at that one, then approve it"
    )]
    Another {
        /// What was asked for.
        asked: String,
        /// The revision that is held.
        held: String,
    },
    /// No store took the record.
    #[error("failed to record the approval in any store{}; approve again when one can be written to", listed(.0))]
    Unrecorded(Vec<String>),
    /// It lasts longer than time.
    #[error("failed to approve for so long: {0}; choose a shorter time")]
    TooLong(jiff::Error),
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
}

fn listed(faults: &[String]) -> String {
    if faults.is_empty() { String::new() } else { format!(": {}", faults.join("; ")) }
}

/// Which revision is in force.
pub(super) struct Answer {
    pub desired: Desired,
    /// Whether it stays so as long as what it rests on does: every store could be asked for approvals that mattered.
    pub is_final: bool,
}

/// A rewrite that is held.
struct Held {
    from: String,
    to: String,
    lost: Lost,
}

impl Held {
    fn of(found: &Result<Desired, NothingInForce>) -> Option<Self> {
        let obstacle = match found {
            Ok(desired) => desired.obstacle.as_ref(),
            Err(NothingInForce::NoneGood(obstacle)) => Some(obstacle),
            Err(NothingInForce::NoRevision(_)) => None,
        };
        match obstacle {
            Some(Obstacle::Rewritten { revision, from, lost }) => {
                Some(Self { from: from.clone(), to: revision.clone(), lost: lost.clone() })
            }
            _ => None,
        }
    }
}

impl Controller {
    /// The revision in force; a rewritten branch counts where a store's records hold an approval of just that.
    pub(super) async fn desired_unless_approved(
        &self,
        demands: &Demands,
        before: Option<InForce>,
    ) -> Result<Answer, NothingInForce> {
        let found = desired::desired(&self.mirror, demands, before.clone()).await;
        let Some(held) = Held::of(&found) else {
            return found.map(|desired| Answer { desired, is_final: true });
        };
        let asked = match self.spec_of_stores(&found, demands).await {
            Some(spec) => self.approval_of(&spec, &held).await,
            None => Observed::Unknown("nothing says where stores are".to_owned()),
        };
        let is_final = asked.known().is_some();
        match asked {
            Observed::Known(Some(approval)) => {
                tracing::info!(
                    by = approval.by,
                    reason = approval.reason,
                    "the rewritten branch was approved"
                );
                let demands = Demands { approved: Some((held.from, held.to)), ..demands.clone() };
                let desired = desired::desired(&self.mirror, &demands, before).await?;
                Ok(Answer { desired, is_final: true })
            }
            Observed::Known(None) | Observed::Unknown(_) => found.map(|desired| Answer { desired, is_final }),
        }
    }

    /// Records that the branch may be rewritten to the tip whose id begins with `revision`, for as long as the `word` counts.
    /// Needs no lock: a record is only added, and a controller that runs takes it up in its next pass.
    pub async fn approve_rewrite(&self, revision: &str, word: Word) -> Result<Approved, ApproveError> {
        // What was fetched before may be what is held, too.
        let _ = self.fetch().await;
        let demands = self.demands();
        let before = match self.state.in_force() {
            Some(known) => Some(known),
            None => self.remembered(&demands).await,
        };
        let found = desired::desired(&self.mirror, &demands, before).await;
        let spec = self.spec_of_stores(&found, &demands).await;
        let Some(held) = Held::of(&found) else {
            found?;
            return Err(ApproveError::NotHeld(revision.to_owned()));
        };
        if !held.to.starts_with(revision) {
            return Err(ApproveError::Another { asked: revision.to_owned(), held: held.to });
        }
        let now = self.now();
        let approval = RewriteApproval {
            from: held.from,
            to: held.to,
            by: word.by,
            reason: word.reason,
            until: now.checked_add(word.lasts).map_err(ApproveError::TooLong)?,
        };
        let spec = spec.ok_or_else(|| ApproveError::Unrecorded(Vec::new()))?;
        let event = Event::RewriteApproved(approval.clone());
        let Recorded { stores, faults } = self.record_where(&spec, |_| true, &[event]).await;
        if stores.is_empty() {
            return Err(ApproveError::Unrecorded(faults));
        }
        self.state.note_approval()?;
        Ok(Approved { approval, lost: held.lost, stores, faults })
    }

    /// The declaration that says where stores are: the one in force, or else the newest that could be.
    async fn spec_of_stores(
        &self,
        found: &Result<Desired, NothingInForce>,
        demands: &Demands,
    ) -> Option<std::sync::Arc<Spec>> {
        match found {
            Ok(desired) => Some(desired.spec.clone()),
            Err(_) => Some(desired::desired(&self.mirror, demands, None).await.ok()?.spec),
        }
    }

    /// The approval of what is held; unknown while a store that could hold one can't be read.
    async fn approval_of(&self, spec: &Spec, held: &Held) -> Observed<Option<RewriteApproval>> {
        let looks = self.looks(spec).await;
        let chains = join_all(looks.values().map(|look| async move {
            match look {
                Ok(look) => told(look).await,
                Err(why) => Observed::Unknown(why.clone()),
            }
        }));
        let (now, mut answer) = (self.now(), Observed::Known(None));
        for told in chains.await {
            match told {
                Observed::Known(chronicle) => {
                    if let Some(approval) = chronicle.rewrite_approved(&held.from, &held.to, now) {
                        return Observed::Known(Some(approval.clone()));
                    }
                }
                Observed::Unknown(why) => answer = Observed::Unknown(why),
            }
        }
        answer
    }
}
