//! Approvals on the host: a person's word that deletions which a safety rule holds back may be made all the same.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::Word;
use crate::{
    artifact::{
        approval::{LONGEST, PlanApproval, PlanHash, PlanPrefix, Warrant},
        record::Event,
    },
    plan::{Plan, Withheld, check::may_approve, withheld_deed},
    reconcile::{Controller, PassError, Survey, Terms, saying::Recorded},
    render::count,
    spec::names::StoreName,
    state::StateError,
};

/// Plans that a person may approve now, and the approvals of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanApprovals {
    /// What is approved, with what a safety rule says of it.
    pub approvals: Vec<(Withheld, PlanApproval)>,
    /// The stores that hold the record; none, where nothing was to be recorded.
    pub stores: Vec<StoreName>,
    /// Why others do not.
    pub faults: Vec<String>,
}

/// A plan that was not approved.
#[derive(Debug, thiserror::Error)]
pub enum ApprovePlanError {
    /// There is nothing to approve, for there is no plan.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The state directory is unusable.
    #[error(transparent)]
    State(#[from] StateError),
    /// Nothing that is withheld now has that name.
    #[error(
        "failed to approve {asked}: nothing of this name is withheld now: it was done, or the declaration or the store is \
         not what it was; {now}; look at `backstay plan`, then approve what it shows"
    )]
    NotWithheld {
        /// What was asked for.
        asked: PlanPrefix,
        /// What is withheld, for people.
        now: String,
    },
    /// A rule holds it back that nobody may overrule.
    #[error(
        "failed to approve {plan}: rule `{rule}` holds it back, and no approval makes up for that: {reason}; see to that, \
         then plan again",
        plan = .plan.short()
    )]
    NotApprovable {
        /// The plan.
        plan: PlanHash,
        /// The rule.
        rule: String,
        /// What it says.
        reason: String,
    },
    /// Several plans begin like that.
    #[error("failed to approve {0}: more than one plan begins like that; give more of its digits")]
    Ambiguous(PlanPrefix),
    /// It is approved already.
    #[error("failed to approve {plan}: it is approved until {until:.0}, by {by}; run a pass", plan = .plan.short())]
    Already {
        /// The plan.
        plan: PlanHash,
        /// Until when.
        until: jiff::Timestamp,
        /// By whom, and why.
        by: Box<Warrant>,
    },
    /// An approval is not for so long.
    #[error("failed to approve for so long: an approval counts for {} days at most; give a shorter --expires", LONGEST.as_hours() / 24)]
    TooLong,
    /// No store took the record.
    #[error("failed to record the approval in any store: {}; approve again when one can be written to", .0.join("; "))]
    Unrecorded(Vec<String>),
}

impl Controller {
    /// Records that the plans so named may be carried out, for as long as the `word` counts. Each must be what a safety rule
    /// holds back now. Needs no lock: a record is only added, and the next pass takes it up.
    pub async fn approve_plans(
        &self,
        asked: &[PlanPrefix],
        word: &Word,
    ) -> Result<PlanApprovals, ApprovePlanError> {
        let survey = self.survey(&Terms::default()).await?;
        let approvals = self.approvals(asked, word, &survey)?;
        let events = approvals.iter().map(|(withheld, approval)| Event::PlanApproved {
            backup: withheld.backup.clone(),
            store: withheld.store.clone(),
            approval: approval.clone(),
        });
        let Recorded { stores, faults } =
            self.record_where(&survey.spec, |_| true, &events.collect::<Vec<_>>()).await;
        if stores.is_empty() {
            return Err(ApprovePlanError::Unrecorded(faults));
        }
        // As another process's pass does: whoever has looked before has to look anew.
        self.state.begin_pass(None)?;
        Ok(PlanApprovals { approvals, stores, faults })
    }

    /// The same approvals, recorded nowhere: for a commit to say.
    pub async fn plans_to_approve(
        &self,
        asked: &[PlanPrefix],
        word: &Word,
    ) -> Result<PlanApprovals, ApprovePlanError> {
        let survey = self.survey(&Terms::default()).await?;
        let approvals = self.approvals(asked, word, &survey)?;
        Ok(PlanApprovals { approvals, stores: Vec::new(), faults: Vec::new() })
    }

    fn approvals(
        &self,
        asked: &[PlanPrefix],
        word: &Word,
        survey: &Survey,
    ) -> Result<Vec<(Withheld, PlanApproval)>, ApprovePlanError> {
        let given = self.now();
        if word.lasts > LONGEST || word.lasts < SignedDuration::ZERO {
            return Err(ApprovePlanError::TooLong);
        }
        let until = given.checked_add(word.lasts).map_err(|_| ApprovePlanError::TooLong)?;
        let approval = |plan: PlanHash| PlanApproval {
            warrant: Warrant { plan, by: word.by.clone(), reason: word.reason.clone(), commit: None },
            revision: survey.limits.revision.clone(),
            declaration: survey.limits.declaration.clone(),
            given,
            until,
        };
        let chosen = asked.iter().map(|asked| {
            let (withheld, plan) = choose(&survey.pass.plan, asked)?;
            Ok((withheld.clone(), approval(plan)))
        });
        chosen.collect()
    }
}

/// What is withheld under a name, if a person may approve it.
fn choose<'a>(plan: &'a Plan, asked: &PlanPrefix) -> Result<(&'a Withheld, PlanHash), ApprovePlanError> {
    let named = |withheld: &&Withheld| withheld.plan.is_some_and(|hash| hash.begins_with(asked));
    let found: Vec<(&Withheld, PlanHash)> =
        plan.withheld.iter().filter(named).filter_map(|withheld| Some((withheld, withheld.plan?))).collect();
    let Some((first, hash)) = found.first().copied() else {
        let approved = plan.approved.iter().find(|it| it.warrant.plan.begins_with(asked));
        return Err(match approved {
            Some(it) => ApprovePlanError::Already {
                plan: it.warrant.plan,
                until: it.until,
                by: it.warrant.clone().into(),
            },
            None => ApprovePlanError::NotWithheld { asked: asked.clone(), now: withheld_now(plan) },
        });
    };
    if found.iter().any(|(_, other)| *other != hash) {
        return Err(ApprovePlanError::Ambiguous(asked.clone()));
    }
    match found.iter().find(|(withheld, _)| !may_approve(&withheld.rule)) {
        Some((withheld, _)) => Err(ApprovePlanError::NotApprovable {
            plan: hash,
            rule: withheld.rule.clone(),
            reason: withheld.reason.clone(),
        }),
        None => Ok((first, hash)),
    }
}

/// What is withheld, in a few words.
fn withheld_now(plan: &Plan) -> String {
    let told: BTreeSet<String> = plan
        .withheld
        .iter()
        .map(|withheld| {
            let of = withheld_deed(&withheld.backup, withheld.store.as_ref());
            match withheld.to_approve() {
                Some(hash) => format!("{} ({of})", hash.short()),
                None => format!("{of} (by rule `{}`, which nobody may overrule)", withheld.rule),
            }
        })
        .collect();
    const SHOWN: usize = 5;
    let mut shown: Vec<String> = told.iter().take(SHOWN).cloned().collect();
    if told.len() > SHOWN {
        shown.push(count(told.len() - SHOWN, "more", "more"));
    }
    if shown.is_empty() {
        "nothing is withheld".to_owned()
    } else {
        format!("withheld now: {}", shown.join(", "))
    }
}
