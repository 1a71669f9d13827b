//! The planning loop against a world in values, under a virtual clock and a seeded random: commits, outages, rot,
//! crashes in the middle of a pass, clocks that jump, a lost state directory. Safety is judged after every pass by what
//! really happened, not by what was planned; once faults stop, everything must converge.
//!
//! A failure prints its seed: `BACKSTAY_SEED=17 cargo test --test it simulation` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};

use backstay::{
    artifact::{ArtifactId, Depth, Kind},
    inventory::{Lease, StoredArtifact, StoredBackup},
    plan::{Action, Plan, StepId},
    spec::{
        Orphan, Retention, Verify,
        names::{BackupName, StoreName},
    },
};

use crate::world::*;

const SEEDS: u64 = 100;
const MOVES: u64 = 40;
const BACKUPS: [&str; 3] = ["agama", "orders", "wiki"];
const STORES: [&str; 3] = ["a", "b", "c"];

#[test]
fn the_loop_is_safe_after_every_move_and_converges_once_faults_stop() {
    for_every_seed(SEEDS, |seed| Simulation::new(seed).run());
}

/// Runs a simulation with every seed below `seeds`, or with those that `$BACKSTAY_SEED` names alone: `17`, or `100..400`;
/// tells which one failed.
pub fn for_every_seed(seeds: u64, run: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number =
        |text: &str| text.parse::<u64>().expect("BACKSTAY_SEED is a number, or two and `..` between them");
    let seeds = match std::env::var("BACKSTAY_SEED").as_deref().map(|text| (text, text.split_once(".."))) {
        Ok((_, Some((first, end)))) => number(first)..number(end),
        Ok((one, None)) => number(one)..number(one) + 1,
        Err(_) => 0..seeds,
    };
    for seed in seeds {
        let ran = std::panic::catch_unwind(|| run(seed));
        assert!(ran.is_ok(), "failed with BACKSTAY_SEED={seed}");
    }
}

/// SplitMix64: the same moves on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// An artifact in a store.
type Place = (StoreName, BackupName, ArtifactId);

struct Simulation {
    random: Random,
    world: World,
    /// Artifacts whose bytes have rotted, whether or not a check has found it.
    rotten: BTreeSet<Place>,
    /// Deletions by the stores' true clock.
    deleted: Vec<(StoreName, BackupName, jiff::Timestamp)>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let stores = 2 + random.below(2) as usize;
        let mut world = World::new(&STORES[..stores]).declare_infra(&["ssh://mirror"]);
        world.now = t("2026-01-01T00:00:00Z");
        for name in &BACKUPS[..1 + random.below(3) as usize] {
            world = world.declare(name, random_policy(&mut random));
        }
        Self { random, world, rotten: BTreeSet::new(), deleted: Vec::new() }
    }

    fn run(mut self) {
        for _ in 0..MOVES {
            self.disturb();
            let crash = self.random.one_in(4);
            self.pass(crash);
        }
        self.calm();
        self.assert_converged();
    }

    /// Something happens, between two passes.
    fn disturb(&mut self) {
        let step = MINUTE * (10 + self.random.below(12 * 60) as u32);
        self.world.advance(step);
        match self.random.below(12) {
            0 => self.commit(),
            1 => self.world.position = format!("position-{}", self.random.next()),
            2 => self.toggle_outage(),
            3 => self.rot(),
            4 => self.jump(),
            5 => self.lose_state(),
            6 => self.hold_or_release(),
            7 => self.lease_of_another(),
            _ => {}
        }
    }

    fn commit(&mut self) {
        let name = self.random.pick(&BACKUPS);
        let spec = &mut self.world.spec;
        match self.random.below(4) {
            0 => drop(spec.backups.remove(name)),
            1 => {
                spec.orphans.insert(backup(name), Orphan { delete_after: DAY });
            }
            2 => {
                let keep = random_keep(&mut self.random);
                let at = store(self.random.pick(&STORES));
                if let Some(declared) = spec.backups.get_mut(name) {
                    declared.keep_in.insert(at, keep);
                }
            }
            _ => {
                spec.orphans.remove(name);
                let policy = random_policy(&mut self.random);
                self.world = self.world.clone().declare(name, policy);
            }
        }
    }

    fn toggle_outage(&mut self) {
        let name = self.some_store();
        if !self.world.down.remove(&name) {
            self.world.down.insert(name);
        }
    }

    fn some_store(&mut self) -> StoreName {
        let names: Vec<&StoreName> = self.world.stores.keys().collect();
        self.random.pick(&names).clone()
    }

    fn some_place(&mut self) -> Option<Place> {
        let places: Vec<Place> = places(&self.world).collect();
        (!places.is_empty()).then(|| places[self.random.below(places.len() as u64) as usize].clone())
    }

    fn rot(&mut self) {
        let place = self.some_place();
        self.rotten.extend(place);
    }

    /// The controller's clock jumps, up to a year either way, or is set right.
    fn jump(&mut self) {
        let world = &mut self.world;
        world.now -= jiff::SignedDuration::from_secs(world.ahead);
        let far = 60 * (1 + self.random.below(365 * 24 * 60)) as i64;
        world.ahead = self.random.pick(&[0, far, -far]);
        world.now += jiff::SignedDuration::from_secs(world.ahead);
    }

    fn lose_state(&mut self) {
        self.world.armed.clear();
        self.world.interrupted.clear();
    }

    fn hold_or_release(&mut self) {
        let Some((at, name, id)) = self.some_place() else { return };
        let held = &mut self.world.artifact_mut(at.as_str(), name.as_str(), id).held;
        *held = match held {
            Some(_) => None,
            None => Some("audit".into()),
        };
    }

    fn lease_of_another(&mut self) {
        let Some((at, name, epoch)) = self.some_place() else { return };
        let clock = self.world.now - jiff::SignedDuration::from_secs(self.world.ahead);
        let (id, until) = (ArtifactId::new(clock, self.random.next()), clock + HOUR);
        let lease = Lease { epoch, until, controller: "another".to_owned() };
        self.world.stored(at.as_str(), name.as_str()).leases.insert(id, lease);
    }

    /// One pass: plan, judge, apply as far as it gets, and see that nothing was lost.
    fn pass(&mut self, crash: bool) {
        let before = self.world.clone();
        let plan = self.world.plan();
        let last =
            if crash { self.random.below(plan.steps.len() as u64 + 1) as usize } else { plan.steps.len() };
        let mut failed: BTreeSet<StepId> = BTreeSet::new();
        for (n, step) in plan.steps.iter().enumerate().take(last) {
            if !step.after.is_disjoint(&failed) || !self.works(&step.action) {
                failed.insert(step.id);
                continue;
            }
            if let (true, Action::Capture(capture)) = (crash && n + 1 == last, &step.action) {
                self.world.begin(capture);
                continue;
            }
            self.act(&step.action);
        }
        self.assert_safe(&before, &plan);
    }

    /// Whether a step goes through: its stores answer, and what it reads is whole.
    fn works(&mut self, action: &Action) -> bool {
        let (Action::Copy { backup, artifact, from, .. } | Action::Repair { backup, artifact, from, .. }) =
            action
        else {
            return true;
        };
        let whole = !self.rotten.contains(&(from.clone(), backup.clone(), *artifact));
        if !whole {
            // Whoever reads it finds it.
            self.world.artifact_mut(from.as_str(), backup.as_str(), *artifact).condition = damaged();
        }
        whole
    }

    fn act(&mut self, action: &Action) {
        let true_clock = self.world.now - jiff::SignedDuration::from_secs(self.world.ahead);
        match action {
            Action::Verify { backup, artifact, store, depth }
                if *depth >= Depth::Data
                    && self.rotten.contains(&(store.clone(), backup.clone(), *artifact)) =>
            {
                self.world.artifact_mut(store.as_str(), backup.as_str(), *artifact).condition = damaged();
            }
            Action::Delete { backup, store, .. } => {
                self.deleted.push((store.clone(), backup.clone(), true_clock));
                self.world.act(action);
            }
            Action::Capture(capture) => {
                self.world.act(action);
                let base = capture.base.map(|base| (capture.store.clone(), capture.backup.clone(), base));
                // What reuses rotten packs is rotten.
                if base.is_some_and(|base| self.rotten.contains(&base)) {
                    let stored = &self.world.stores[&capture.store].backups[capture.backup.as_str()];
                    let new = stored.artifacts.last().map(|a| a.id).unwrap();
                    self.rotten.insert((capture.store.clone(), capture.backup.clone(), new));
                }
            }
            _ => self.world.act(action),
        }
    }

    /// What may never happen, whatever was planned.
    fn assert_safe(&self, before: &World, plan: &Plan) {
        for (at, inventory) in &before.stores {
            for (name, stored) in &inventory.backups {
                let after = &self.world.stores[at].backups[name];
                let gone: Vec<&StoredArtifact> =
                    stored.artifacts.iter().filter(|a| after.artifact(a.id).is_none()).collect();
                if !gone.is_empty() {
                    self.assert_allowed(before, (at, &name.into()), stored, &gone);
                }
                for kept in &after.artifacts {
                    let lost = kept.requires.iter().find(|id| gone.iter().any(|g| g.id == **id));
                    assert_eq!(lost, None, "{} lost what it requires: {plan:#?}", kept.id);
                }
            }
        }
    }

    fn assert_allowed(
        &self,
        before: &World,
        (at, name): (&StoreName, &BackupName),
        stored: &StoredBackup,
        gone: &[&StoredArtifact],
    ) {
        let goes = |id: ArtifactId| gone.iter().any(|g| g.id == id);
        let declared: Option<Vec<&StoreName>> = match name.is_infra() {
            true => Some(before.stores.keys().collect()),
            false => before.spec.backups.get(name).map(|b| b.stores.iter().collect()),
        };
        let let_go = before.spec.orphans.contains_key(name);
        assert!(declared.is_some() || let_go, "{name} went with its declaration");
        assert!(!before.down.contains(at), "{at} is down");
        assert!(before.ahead.abs() <= 600, "the clock is {}s off", before.ahead);
        assert!(gone.iter().all(|a| a.held.is_none()), "a held artifact went");
        if let Some(stores) = declared {
            assert!(stores.iter().all(|s| !before.down.contains(*s)), "a store of {name} is unknown");
            let newest = stored.newest_good(before.now).map(|a| a.id);
            assert!(!newest.is_some_and(goes), "the newest good artifact of {name} in {at} went");
        }
        let day = |clock: &jiff::Timestamp| *clock + DAY > before.now;
        let recent = self.deleted.iter().filter(|(s, b, clock)| s == at && b == name && day(clock)).count();
        let all = stored.artifacts.len() + recent - gone.len();
        assert!(recent <= 1.max(all / 2), "{recent} of {all} artifacts of {name} in {at} went in a day");
    }

    /// Faults stop; days go by.
    fn calm(&mut self) {
        self.world.now -= jiff::SignedDuration::from_secs(self.world.ahead);
        self.world.ahead = 0;
        self.world.down.clear();
        for _ in 0..6 * 4 {
            self.world.advance(6 * HOUR);
            self.pass(false);
        }
        let quiet = (0..20).any(|_| {
            self.pass(false);
            self.world.plan().steps.is_empty()
        });
        assert!(quiet, "still to do: {:#?}", self.world.plan().steps);
    }

    fn assert_converged(&self) {
        let plan = self.world.plan();
        // Only the share of a day may still hold deletions back.
        let rules: BTreeSet<&str> = plan.withheld.iter().map(|w| w.rule.as_str()).collect();
        assert!(rules.is_subset(&BTreeSet::from(["delete-share"])), "{:#?}", plan.withheld);
        assert_eq!(self.world.interrupted.len(), 0);
        for (name, declared) in &self.world.spec.backups {
            let newest: BTreeMap<&StoreName, ArtifactId> = declared
                .stores
                .iter()
                .map(|at| {
                    let stored =
                        self.world.stores[at].backups.get(name.as_str()).expect("every store has the backup");
                    let newest = stored.newest_good(self.world.now).expect("every store has a good artifact");
                    let place = (at.clone(), name.clone(), newest.id);
                    assert!(!self.rotten.contains(&place), "the newest of {name} in {at} is rotten");
                    assert!(newest.newest + DAY + HOUR > self.world.now, "{name} in {at} is stale");
                    (at, newest.content())
                })
                .collect();
            let contents: BTreeSet<&ArtifactId> = newest.values().collect();
            assert_eq!(contents.len(), 1, "stores of {name} differ: {newest:?}");
        }
        for stored in self.world.stores.values().flat_map(|s| s.backups.values()) {
            // A clock that was ahead may have left a lease that lasts until then, or recorded them as of then.
            let leased = stored.leases.values().any(|lease| lease.until > self.world.now);
            let early = stored.candidates.values().any(|since| *since > self.world.now - DAY);
            let swept = stored.unreferenced.is_empty();
            assert!(leased || early || swept, "packs without a manifest are left: {stored:#?}");
        }
    }
}

fn places(world: &World) -> impl Iterator<Item = Place> + '_ {
    world.stores.iter().flat_map(|(at, inventory)| {
        inventory.backups.iter().flat_map(move |(name, stored)| {
            stored.artifacts.iter().map(move |a| (at.clone(), name.into(), a.id))
        })
    })
}

fn random_keep(random: &mut Random) -> Retention {
    let age = |random: &mut Random| Some(DAY * (1 + random.below(6) as u32));
    let mut keep = Retention { full: age(random), incremental: age(random), ..Retention::default() };
    if random.one_in(2) {
        keep.daily = Some(random.below(4) as u32);
        keep.full = None;
    }
    if random.one_in(3) {
        keep.last = Some(1 + random.below(4) as u32);
    }
    keep
}

fn random_policy(random: &mut Random) -> backstay::spec::Policy {
    let mut policy = nightly();
    if random.one_in(2) {
        let every = HOUR * (1 + random.below(8) as u32);
        policy.schedules.insert(Kind::Incremental, backstay::spec::Cadence::Every(every));
    }
    policy.keep = random_keep(random);
    policy.jitter = MINUTE * random.below(20) as u32;
    policy.verify = Verify { metadata: Some(DAY), data: Some(2 * DAY), plaintext: None };
    policy
}
