//! `backstay demo`: a small fleet on this machine, with no servers, from the first commit to a repaired artifact.
//!
//! It runs Backstay's own commands as a person would, and fails loudly when one is not what it says.

mod fleet;
mod stage;

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::Value;

use self::{fleet::Fleet, stage::Stage};
use super::{exit::Exit, terminal::Terminal};

/// Show everything on this machine, in half a minute: no servers needed
///
/// Makes a small fleet in a new folder: an infra repo, an SQLite database and documents, two local stores. Commits,
/// plans, backs up, loses, restores, repairs. Nothing outside the folder is touched.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay demo --dir /tmp/fleet --serve")]
pub(super) struct Demo {
    /// The folder to make; must not exist, or be empty [default: a new one in the temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the loop running at the end, until Ctrl-C
    #[arg(long)]
    serve: bool,
}

impl Demo {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let dir = match self.dir {
            Some(dir) => dir,
            None => tempfile::Builder::new().prefix("backstay-demo-").tempdir()?.keep(),
        };
        let fleet = Fleet::make(&dir)?;
        let stage = Stage::new(*terminal, fleet.config())?;

        introduce(&stage, &fleet)?;
        declare(&stage, &fleet)?;
        let running = keep_in_step(&stage)?;
        lose_and_restore(&stage, &fleet)?;
        damage_and_repair(&stage, &fleet)?;
        break_the_declaration(&stage, &fleet, &running)?;
        farewell(&stage, &fleet)?;
        if self.serve {
            stage.say("The loop goes on: Ctrl-C ends it.")?;
            running.wait()?;
        }
        Ok(Exit::Done)
    }
}

fn introduce(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    stage.scene("A small fleet")?;
    stage.say(&format!(
        "{}\n\
         \x20 infra.git, infra/     the infra repo, and a clone to work in\n\
         \x20 data/shop.db          an SQLite database: {} orders\n\
         \x20 data/documents/       a folder of files\n\
         \x20 stores/here/          where artifacts go first\n\
         \x20 stores/there/         where copies go\n\
         \x20 backstay.toml         the controller's own configuration",
        fleet.root(),
        fleet.orders()?
    ))
}

fn declare(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    stage.scene("Declare what you want, in Git")?;
    stage.say(fleet.declaration()?.trim_end())?;
    stage.backstay(&["validate", &fleet.work_tree()], Exit::Done)?;
    fleet.commit(stage, "Protect the shop")?;
    stage.backstay(&["plan"], Exit::Pending)?;
    Ok(())
}

fn keep_in_step(stage: &Stage) -> anyhow::Result<stage::Loop> {
    stage.scene("Reality follows")?;
    let running = stage.start_loop()?;
    running.wait_for("a copy of everything in both stores", |_| everything_is_in_both_stores(stage))?;
    stage.backstay(&["list"], Exit::Done)?;
    stage.backstay(&["status"], Exit::Done)?;
    Ok(running)
}

fn everything_is_in_both_stores(stage: &Stage) -> bool {
    let Ok(listing) = stage.ask(&["list"]) else { return false };
    let rows = listing["artifacts"].as_array().map_or(&[][..], Vec::as_slice);
    ["infra", "shop", "documents"].iter().all(|backup| {
        let rows = rows.iter().filter(|row| row["backup"] == *backup);
        let stores: BTreeSet<&String> =
            rows.filter_map(|row| row["stores"].as_object()).flat_map(|s| s.keys()).collect();
        stores.len() == 2
    })
}

fn lose_and_restore(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    stage.scene("Change data, lose it, restore it")?;
    fleet.take_orders(500)?;
    let orders = fleet.orders()?;
    stage.say(&format!("500 more orders came in: {orders} in all. A backup before the migration:"))?;
    stage.backstay(&["backup", "shop", "--reason", "before the migration"], Exit::Done)?;

    fleet.lose_the_shop()?;
    stage.say("The migration went wrong: the orders are gone, and the documents with them.")?;
    stage.backstay(&["restore", "shop", "--in-place"], Exit::Done)?;
    stage.backstay(&["restore", "documents", "--in-place"], Exit::Done)?;
    ensure!(fleet.orders()? == orders, "the restored database has other orders than were backed up");
    fleet.check_documents()?;
    stage.say(&format!("All {orders} orders are back, and every document is what it was."))
}

fn damage_and_repair(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    stage.scene("A disk that lies")?;
    let object = fleet.damage_a_pack()?;
    stage.say(&format!("One byte of {object} was flipped."))?;
    let found = stage.backstay(&["verify", "shop", "--data"], Exit::Damage)?;
    ensure!(found.contains("damage"), "the damage was not named");
    stage.say("With --repair it is written anew from the other copy:")?;
    stage.backstay(&["verify", "shop", "--data", "--repair"], Exit::Done)?;
    stage.say("And checked again:")?;
    stage.backstay(&["verify", "shop", "--data"], Exit::Done)?;
    Ok(())
}

fn break_the_declaration(stage: &Stage, fleet: &Fleet, running: &stage::Loop) -> anyhow::Result<()> {
    stage.scene("A commit that does not make sense")?;
    let good = in_force(stage)?;
    fleet.break_declaration()?;
    stage.backstay(&["validate", &fleet.work_tree()], Exit::Errors)?;
    let bad = fleet.commit(stage, "Oops")?;
    running.wait_for("the new commit", |pass| pass["newest"] == bad.as_str())?;
    stage.backstay(&["status"], Exit::BadRevision)?;
    ensure!(in_force(stage)? == good, "the last good revision did not stay in force");
    stage.say("The last good revision stays in force; the commit itself is backed up all the same.")
}

fn in_force(stage: &Stage) -> anyhow::Result<Value> {
    let status = stage.ask(&["status"])?;
    status["revisions"]["in_force"]
        .as_str()
        .map(Value::from)
        .context("status does not say which revision is in force")
}

fn farewell(stage: &Stage, fleet: &Fleet) -> anyhow::Result<()> {
    stage.scene("Your turn")?;
    stage.say(&format!(
        "Everything is in {root}.\n\
         \x20 export BACKSTAY_CONFIG={root}/backstay.toml\n\
         \x20 backstay status\n\
         \x20 backstay explain shop\n\
         Remove it when you have seen enough: rm -r {root}",
        root = fleet.root()
    ))
}
