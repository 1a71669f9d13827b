//! Planning at scale: 1,000 backups with 365 artifacts in each of 2 stores; a pass with work everywhere and one with
//! nothing to do. Prints the time of each and the peak of memory.
//!
//! `cargo bench --bench planning`; the aim is under 1 s and 300 MB.

use std::{fs, time::Instant};

use backstay::{
    artifact::Kind,
    inventory::{Inventory, Observed},
    plan::{self, Plan},
    spec::Retention,
};

#[path = "../tests/it/world.rs"]
mod world;

use world::{DAY, HOUR, World, artifact, backup, nightly, steps, t};

const BACKUPS: u64 = 1000;
const ARTIFACTS: u64 = 365;

fn main() {
    let mut world = declared();
    let mut inventory = stored(&mut world);
    println!("{BACKUPS} backups, {ARTIFACTS} artifacts in each of 2 stores: {} MB", peak_mb());
    for store in inventory.stores.values_mut() {
        let Observed::Known(store) = store else { continue };
        store.clock = world.now;
    }
    measure("nothing to do", &world, &inventory);

    // A day later every backup is due, every artifact is to be checked, and some have expired.
    world.now += DAY;
    for store in inventory.stores.values_mut() {
        let Observed::Known(store) = store else { continue };
        store.clock = world.now;
    }
    measure("everything due", &world, &inventory);
}

/// Plans and judges once, and prints how long it took.
fn measure(what: &str, world: &World, inventory: &Inventory) -> Plan {
    let start = Instant::now();
    let plan = plan::plan(&world.spec, inventory, &world.limits, world.now);
    let planned = start.elapsed();
    let plan = plan::check::check(plan, &world.spec, inventory, &world.limits, world.now)
        .expect("the planners' plan is well formed");
    let judged = start.elapsed() - planned;
    let next = plan::next_due(&world.spec, inventory, &world.limits, world.now);
    let looked_ahead = start.elapsed() - planned - judged;
    println!(
        "{what}: {} steps, planned in {planned:.0?}, judged in {judged:.0?}, next moment {next:?} in \
         {looked_ahead:.0?}, peak {} MB",
        plan.steps.len(),
        peak_mb()
    );
    if what == "nothing to do" {
        assert_eq!(steps(&plan), Vec::<String>::new());
    }
    plan
}

fn declared() -> World {
    let mut world = World::new(&["a", "b"]);
    let mut policy = nightly();
    policy.keep = Retention { full: Some(DAY * 366), daily: Some(30), ..Retention::default() };
    policy.verify.data = Some(7 * DAY);
    for n in 0..BACKUPS {
        world = world.declare(&format!("backup-{n}"), policy.clone());
    }
    let declared = world.spec.backups.values();
    world.armed = declared
        .map(|b| backstay::inventory::ArmedSchedule {
            backup: b.name.clone(),
            kind: Kind::Full,
            cadence: b.policy.schedules[&Kind::Full].clone(),
        })
        .collect();
    world
}

fn stored(world: &mut World) -> Inventory {
    let newest = t("2026-11-20T01:00:00Z");
    let checked = world.now - HOUR;
    for at in ["a", "b"] {
        for n in 0..BACKUPS {
            let stored = world.stored(at, &format!("backup-{n}"));
            stored.artifacts.reserve_exact(ARTIFACTS as usize);
            for day in (0..ARTIFACTS).rev() {
                let mut artifact = artifact(Kind::Full, newest - DAY * day as u32, n * ARTIFACTS + day);
                artifact.verified.data = Some(checked);
                stored.artifacts.push(artifact);
            }
        }
    }
    assert!(world.spec.backups.contains_key(&backup("backup-0")));
    let stores = std::mem::take(&mut world.stores);
    Inventory {
        stores: stores.into_iter().map(|(name, store)| (name, Observed::Known(store))).collect(),
        armed: Observed::Known(world.armed.clone().into()),
        infra: None,
        interrupted: Vec::new(),
        made: Default::default(),
        kept_logs: Default::default(),
        provided: Default::default(),
        readers: Default::default(),
        machines: Default::default(),
        stand_ins: Default::default(),
        left_behind: Vec::new(),
        previews_left: Vec::new(),
    }
}

/// The most memory that this process ever held, in MB.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux tells a process of itself");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel keeps the peak");
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number of KiB");
    kib * 1024 / 1_000_000
}
