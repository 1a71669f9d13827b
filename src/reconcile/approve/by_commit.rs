//! Approvals by signed commits: which of those in `approve.toml` of the revision in force count on this host.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    artifact::approval::{PlanApproval, PlanHash, Warrant},
    git::{
        Revision,
        verify::{Approvers, Vouched},
    },
    reconcile::{Controller, desired::Desired},
    spec::{
        approvals::{Approval, FILE},
        declared,
    },
};

/// Whose commits may approve.
#[derive(Clone, Debug)]
pub(in crate::reconcile) enum Approving {
    /// Nobody's: the host names nobody.
    Nobody,
    /// Those of whom the host names.
    By(Arc<Approvers>),
    /// Nobody knows, for the host's file can't be used.
    Unusable(String),
}

impl Approving {
    /// What it rests on: which approvals count is another answer where this is.
    pub(in crate::reconcile) fn digest(&self) -> &str {
        match self {
            Approving::Nobody => "",
            Approving::By(approvers) => approvers.digest(),
            Approving::Unusable(why) => why,
        }
    }
}

/// What is approved by signed commits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByCommit {
    /// What a commit says that is signed by an approver; each may still have expired.
    pub approvals: Vec<PlanApproval>,
    /// What does not count on this host, and why.
    pub void: BTreeMap<PlanHash, String>,
}

impl Controller {
    /// Whose commits may approve now. The file is small, and read for every pass: a change of it counts at once.
    pub(in crate::reconcile) fn approving(&self) -> Approving {
        match self.config.repo.approvers.as_deref().map(Approvers::read) {
            None => Approving::Nobody,
            Some(Ok(approvers)) => Approving::By(Arc::new(approvers)),
            Some(Err(error)) => Approving::Unusable(error.to_string()),
        }
    }

    /// What the revision in force approves.
    pub(in crate::reconcile) async fn by_commit(&self, desired: &Desired, approving: &Approving) -> ByCommit {
        if desired.approvals.is_empty() {
            return ByCommit::default();
        }
        let vouched = match self.vouched(&desired.revision, approving).await {
            Ok(vouched) => vouched,
            Err(why) => {
                let void = desired.approvals.iter().map(|approval| (approval.plan, why.clone()));
                return ByCommit { void: void.collect(), ..ByCommit::default() };
            }
        };
        let mut bases: BTreeMap<&str, Result<String, String>> = BTreeMap::new();
        let mut by_commit = ByCommit::default();
        for approval in &desired.approvals {
            if !bases.contains_key(approval.base.as_str()) {
                bases.insert(&approval.base, self.declaration_of(&approval.base, desired).await);
            }
            match &bases[approval.base.as_str()] {
                Ok(declaration) => by_commit.approvals.push(said(approval, declaration, &vouched)),
                Err(why) => drop(by_commit.void.insert(approval.plan, why.clone())),
            }
        }
        by_commit
    }

    /// Who vouches for what the revision in force approves.
    async fn vouched(&self, in_force: &Revision, approving: &Approving) -> Result<Vouched, String> {
        let approvers = match approving {
            Approving::Nobody => {
                return Err("this host's configuration names nobody in `repo.approvers`".to_owned());
            }
            Approving::Unusable(why) => return Err(why.clone()),
            Approving::By(approvers) => approvers,
        };
        let path = format!("{}/{FILE}", self.config.repo.path);
        approvers.vouch(&self.mirror, &in_force.id, path.trim_start_matches('/')).await
    }

    /// The digest of what a revision declares that led to the one in force.
    async fn declaration_of(&self, base: &str, desired: &Desired) -> Result<String, String> {
        if !self.mirror.leads_to(base, &desired.revision.id).await {
            let short = base.get(..10).unwrap_or(base);
            return Err(format!(
                "revision {short}, for which it was given, did not lead to the one in force"
            ));
        }
        let read = self.mirror.declaration(base, &self.config.repo.path).await;
        read.map(|declaration| declared(&declaration.files)).map_err(|error| error.to_string())
    }
}

/// An approval as the commit says it.
fn said(approval: &Approval, declaration: &str, vouched: &Vouched) -> PlanApproval {
    let Vouched { commit, at, signer } = vouched;
    PlanApproval {
        warrant: Warrant {
            plan: approval.plan,
            by: format!("{} with {}", signer.principal, signer.fingerprint),
            reason: approval.reason.clone(),
            commit: Some(commit.clone()),
        },
        revision: approval.base.clone(),
        declaration: declaration.to_owned(),
        given: *at,
        until: approval.expires,
    }
}
