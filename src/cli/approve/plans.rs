//! Approvals of plans.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use serde::Serialize;

use crate::{
    artifact::approval::{PlanApproval, PlanPrefix},
    cli::{Output, controller, exit::Exit, saying::wake, terminal::Terminal},
    plan::Withheld,
    reconcile::{Controller, PlanApprovals, Word},
    render::{self, count},
    spec::{
        approvals::FILE,
        names::{BackupName, StoreName},
    },
};

#[derive(Serialize)]
struct Told<'a> {
    approvals: Vec<ToldApproval<'a>>,
    stores: &'a [StoreName],
    faults: &'a [String],
}

#[derive(Serialize)]
struct ToldApproval<'a> {
    backup: &'a BackupName,
    #[serde(skip_serializing_if = "Option::is_none")]
    store: Option<&'a StoreName>,
    approval: &'a PlanApproval,
}

/// Approves plans on this host.
pub(super) fn approve(
    controller: &Controller,
    plans: &[PlanPrefix],
    word: &Word,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    controller::block_on(async {
        let approved = controller.approve_plans(plans, word).await?;
        for fault in &approved.faults {
            terminal.note(&format!("{} {fault}", terminal.stderr.warn("!")));
        }
        match terminal.output {
            Output::Json => terminal.json("backstay.plan-approval/1", &told(&approved))?,
            Output::Text => terminal.data(&text(&approved))?,
        }
        wake(&controller.state().socket(), terminal).await;
        Ok(if approved.faults.is_empty() { Exit::Done } else { Exit::Partial })
    })
}

/// Prints what a signed commit is to say, and approves nothing.
pub(super) fn print(
    controller: &Controller,
    plans: &[PlanPrefix],
    word: &Word,
    terminal: &Terminal,
) -> anyhow::Result<Exit> {
    let approvals = controller::block_on(async { Ok(controller.plans_to_approve(plans, word).await?) })?;
    match terminal.output {
        Output::Json => terminal.json("backstay.plan-approval/1", &told(&approvals))?,
        Output::Text => terminal.data(&toml(&approvals))?,
    }
    terminal.note(&format!(
        "Nothing is approved yet. Add this to {FILE} in the declaration's folder; it counts when the commit is signed by \
         somebody whom repo.approvers names."
    ));
    Ok(Exit::Done)
}

fn told(approved: &PlanApprovals) -> Told<'_> {
    let approvals = approved.approvals.iter().map(|(withheld, approval)| ToldApproval {
        backup: &withheld.backup,
        store: withheld.store.as_ref(),
        approval,
    });
    Told { approvals: approvals.collect(), stores: &approved.stores, faults: &approved.faults }
}

fn text(approved: &PlanApprovals) -> String {
    let mut out = String::new();
    for (withheld, approval) in &approved.approvals {
        let until = render::moment(approval.until, &TimeZone::UTC);
        let _ = writeln!(out, "Approved until {until}: {}.", deed(withheld));
    }
    out
}

/// What is approved, on one line.
fn deed(withheld: &Withheld) -> String {
    let backup = &withheld.backup;
    match &withheld.store {
        Some(store) => {
            let artifacts = count(withheld.artifacts.len(), "artifact", "artifacts");
            format!("the deletion of {artifacts} of {backup} in {store}")
        }
        None => format!("that the provider of {backup} keeps fewer seconds that can be brought back"),
    }
}

fn toml(approved: &PlanApprovals) -> String {
    let mut out = String::new();
    for (withheld, approval) in &approved.approvals {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let _ = writeln!(out, "# {}", deed(withheld));
        let _ = writeln!(out, "[[approve]]");
        let _ = writeln!(out, "plan = {}", quoted(&approval.warrant.plan.to_string()));
        let _ = writeln!(out, "base = {}", quoted(&approval.revision));
        let _ = writeln!(out, "reason = {}", quoted(&approval.warrant.reason));
        let _ = writeln!(out, "expires = {}\n", quoted(&format!("{:.0}", approval.until)));
    }
    out
}
