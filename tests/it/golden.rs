//! What people and programs are shown of each valid example: its plan and status, when nothing was ever stored and when
//! a little is.

use backstay::{
    artifact::Kind,
    inventory::{Inventory, Observed, RestorePage, Standing, StoreInventory, StoreRules},
    plan::Plan,
    render::{Palette, artifacts::Listing, explanation, plan, status},
    spec::parse::parse,
    status::{Revisions, Status, explain},
};

use crate::{examples, world::*};

/// The fleet of an example, at noon on 20 November 2026.
fn fleet(example: &str) -> World {
    let mut world = World::new(&[]);
    world.spec = parse(&examples::files(example)).spec.unwrap();
    let (clock, standing, restore_page) = (world.now, Standing::Empty, RestorePage::There);
    let (records, backups) = Default::default();
    let empty = StoreInventory {
        clock,
        standing,
        rules: Observed::Known(StoreRules::default()),
        records,
        restore_page,
        backups,
        bytes: 0,
    };
    world.stores = world.spec.stores.keys().map(|name| (name.clone(), empty.clone())).collect();
    world
}

/// With tonight's full of every backup in all its stores, one of them damaged; one of long ago; and what nothing declares.
fn filled(example: &str) -> World {
    let mut world = fleet(example);
    let tonight = artifact(Kind::Full, t("2026-11-20T01:00:00Z"), 1);
    let old = artifact(Kind::Full, t("2026-07-01T01:00:00Z"), 2);
    for (name, declared) in world.spec.backups.clone() {
        for at in &declared.stores {
            world.put(&[at.as_str()], name.as_str(), &tonight);
        }
        world.put(&[declared.stores[0].as_str()], name.as_str(), &old);
    }
    let (name, declared) = world.spec.backups.first_key_value().unwrap();
    let (name, at) = (name.to_string(), declared.stores.last().unwrap().to_string());
    world.artifact_mut(&at, &name, tonight.id).condition = damaged();
    world.put(&[&at], "retired", &old);
    for store in world.stores.values_mut() {
        store.standing = Standing::Ours;
        store.bytes = store.backups.values().flat_map(|b| &b.artifacts).map(|a| a.bytes).sum();
    }
    world
}

fn status_of(world: &World, inventory: &Inventory, plan: &Plan) -> Status {
    let revision = Some("c0ffee".to_owned());
    let revisions = Revisions { in_force: revision.clone(), newest: revision, ..Revisions::default() };
    Status::of(&world.spec, inventory, &world.limits, plan, revisions, world.now)
}

#[test]
fn plan_and_status_of_every_valid_example() {
    for example in examples::VALID {
        for (how, world) in [("empty", fleet(example)), ("filled", filled(example))] {
            let planned = world.plan();
            let status = status_of(&world, &world.inventory(), &planned);
            let text = format!(
                "{}\n{}",
                plan::text(&planned, Palette::Plain),
                status::text(&status, Palette::Plain)
            );
            insta::assert_snapshot!(format!("{example}-{how}"), text);
            let json = serde_json::json!({ "plan": planned, "status": status });
            let json = serde_json::to_string_pretty(&json).unwrap();
            insta::assert_snapshot!(format!("{example}-{how}-json"), json);
        }
    }
}

#[test]
fn artifacts_and_explanations_of_an_example() {
    let world = filled("demo");
    let inventory = world.inventory();
    let (spec, limits, now) = (&world.spec, &world.limits, world.now);
    let mut text = Listing::of(spec, &inventory, now, |_| true).text(Palette::Plain);
    for name in spec.backups.keys() {
        let explained = explain::backup(spec, &inventory, limits, name, now).unwrap();
        text += &format!("\n{}", explanation::of_backup(&explained, Palette::Plain));
    }
    for at in ["2026-11-20T01:00:00Z", "2026-07-01T01:00:00Z"] {
        let random = if at.starts_with("2026-11") { 1 } else { 2 };
        let id = artifact(Kind::Full, t(at), random).id;
        let explained = explain::artifact(spec, &inventory, limits, id, now).unwrap();
        text += &format!("\n{}", explanation::of_artifact(&explained, Palette::Plain));
    }
    insta::assert_snapshot!("demo-list-and-explain", text);
}
