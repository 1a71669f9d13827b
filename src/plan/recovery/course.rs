//! The steps of a recovery in an order in which they can be taken.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::CannotRecover;
use crate::{
    artifact::recovered::RecoverySubject,
    spec::{RecoveryAction, RecoveryStage, Spec},
};

/// The steps of a recovery.
pub(in crate::plan) struct Course {
    /// As they are declared.
    pub(in crate::plan) steps: Vec<CourseStep>,
    /// Their numbers, each behind those that it waits for.
    pub(in crate::plan) order: Vec<usize>,
}

/// A declared step.
pub(in crate::plan) struct CourseStep {
    pub(in crate::plan) action: RecoveryAction,
    pub(in crate::plan) stage: RecoveryStage,
    /// By which it is known again.
    pub(in crate::plan) digest: String,
    /// The numbers of those that it waits for.
    pub(in crate::plan) waits: BTreeSet<usize>,
}

impl CourseStep {
    fn of(spec: &Spec, action: RecoveryAction, waits: BTreeSet<usize>) -> Self {
        let digest = Sha256::digest(format!("{action:?}"));
        Self { stage: action.stage(spec), digest: hex::encode(&digest[..16]), action, waits }
    }
}

impl Course {
    pub(in crate::plan) fn of(spec: &Spec, subject: &RecoverySubject) -> Result<Self, CannotRecover> {
        let steps = match subject {
            RecoverySubject::Recovery(name) => {
                let declared = spec.recoveries.get(name);
                let declared = declared.ok_or_else(|| CannotRecover::Undeclared(name.clone()))?;
                let waits = declared.waits(spec);
                let steps = declared.steps.iter().zip(waits);
                steps.map(|(step, waits)| CourseStep::of(spec, step.action.clone(), waits)).collect()
            }
            RecoverySubject::Vm(vm) if spec.vms.contains_key(vm) => {
                vec![CourseStep::of(spec, RecoveryAction::Rebuild(vm.clone()), BTreeSet::new())]
            }
            RecoverySubject::Vm(vm) => {
                return Err(CannotRecover::UndeclaredVm { subject: subject.clone(), vm: vm.clone() });
            }
        };
        let order = order(&steps).ok_or_else(|| CannotRecover::Circle(subject.clone()))?;
        Ok(Self { steps, order })
    }

    /// Every step that must be done before this one.
    pub(in crate::plan) fn awaited(&self, number: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::new();
        let mut open: Vec<usize> = self.steps[number].waits.iter().copied().collect();
        while let Some(next) = open.pop() {
            if all.insert(next) {
                open.extend(&self.steps[next].waits);
            }
        }
        all
    }
}

/// By stages, as far as they may; `None` where they wait for each other.
fn order(steps: &[CourseStep]) -> Option<Vec<usize>> {
    let mut order: Vec<usize> = Vec::new();
    let mut left: BTreeSet<(RecoveryStage, usize)> =
        steps.iter().enumerate().map(|(number, step)| (step.stage, number)).collect();
    while !left.is_empty() {
        let is_ready = |(_, number): &&(RecoveryStage, usize)| {
            steps[*number].waits.iter().all(|before| order.contains(before))
        };
        let next = *left.iter().find(is_ready)?;
        left.remove(&next);
        order.push(next.1);
    }
    Some(order)
}
