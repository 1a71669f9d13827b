//! A pass with nothing to do, from the cache: 1,000 backups with 14 artifacts in each of 2 stores, and 10,000 with 3.
//! `cargo bench --bench pass`.
//!
//! Prints the processor time of reading the declaration, of a look at the stores, of what a pass does with what it sees
//! (plan, judge, status, the next due moment), of both, and of planning for one backup that a commit touched. The
//! daemon looks anew only after `Freshness` has run out; between two looks a pass takes what was seen. The aim is under
//! 100 ms for such a pass.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use backstay::{
    artifact::{
        ArtifactId, Kind,
        layout::{self, PackName},
        manifest::{Content, FORMAT, Manifest, Moment, SIGNATURE_NAMESPACE, Segments, Stored},
    },
    inventory::ArmedSchedule,
    keys::Keys,
    observe::{
        Freshness, Sight,
        cache::{ObjectCache, SqliteCache},
        observe,
        seen::Seen,
        stores::Look,
    },
    plan::{self, part::Part},
    schedulers::{Scheduler, controller::Timetable},
    spec::{Verify, names::FolderName, parse},
    status::{Revisions, Status},
    stores::memory::MemoryStore,
};
use bytes::Bytes;
use jiff::Timestamp;

#[path = "../tests/it/world.rs"]
mod world;

use world::{DAY, World, nightly, steps, t};

const PASSES: u32 = 50;
const STORES: [&str; 2] = ["a", "b"];

/// A fleet: so many backups, with so many artifacts in each store.
#[derive(Clone, Copy)]
struct Size {
    backups: u64,
    artifacts: u32,
}

fn main() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    for size in [Size { backups: 1000, artifacts: 14 }, Size { backups: 10_000, artifacts: 3 }] {
        runtime.block_on(run(size));
    }
}

async fn run(size: Size) {
    let Size { backups, artifacts } = size;
    println!("{backups} backups, {artifacts} artifacts in each of {} stores; processor time", STORES.len());
    let files = files(backups);
    measure("read the declaration", 3, async || {
        let parsed = parse(&files);
        assert!(parsed.spec.is_some(), "{:?}", parsed.diagnostics);
    })
    .await;

    let dir = tempfile::tempdir().expect("a temporary folder is made");
    let world = declared(size);
    let sight = sight(&world, artifacts, dir.path());
    let mut seen = Seen::default();
    measure("first look, every manifest read and verified", 1, async || {
        seen = observe(&sight, Seen::default(), Freshness::Now, world.now).await;
    })
    .await;
    measure("look at a listing, manifests from the cache", 5, async || {
        seen = observe(&sight, Seen::default(), Freshness::Now, world.now).await;
    })
    .await;
    measure("pass on what was seen", PASSES, async || {
        let before = std::mem::take(&mut seen);
        seen = observe(&sight, before, Freshness::Within(DAY), world.now).await;
        conclude(&world, &seen);
    })
    .await;
    let mut touched = world.spec.clone();
    touched.backups.values_mut().next_back().expect("there are backups").description = Some("new".to_owned());
    measure("plan for the one backup that a commit touched", PASSES, async || {
        let part = Part::touched(&world.spec, &touched).expect("only a backup differs");
        let (spec, inventory) = (part.spec(&touched), part.inventory(&seen.inventory, &touched.moved));
        std::hint::black_box(plan::plan(&spec, &inventory, &world.limits, world.now));
    })
    .await;
}

/// What a pass does after its look when there is nothing to do.
fn conclude(world: &World, seen: &Seen) {
    let (spec, inventory, limits, now) = (&world.spec, &seen.inventory, &world.limits, world.now);
    let plan = plan::plan(spec, inventory, limits, now);
    let plan = plan::check::check(plan, spec, inventory, limits, now).expect("the plan is well formed");
    assert_eq!(steps(&plan), Vec::<String>::new());
    let revisions = Revisions::default();
    std::hint::black_box(Status::of(spec, inventory, limits, &plan, revisions, now));
    std::hint::black_box(plan::next_due(spec, inventory, limits, now));
}

/// Does something so many times, and prints the processor time of one.
async fn measure(what: &str, times: u32, mut work: impl AsyncFnMut()) {
    let before = processor();
    for _ in 0..times {
        work().await;
    }
    println!("{what:48} {:8.1} ms", (processor() - before).as_secs_f64() * 1e3 / f64::from(times));
}

/// Processor time of this process (proc_pid_stat(5): utime and stime, in hundredths).
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn declared(size: Size) -> World {
    let mut policy = nightly();
    // The checks of one pass are the next one's records; here there is nothing to do.
    policy.verify = Verify::default();
    policy.keep.full = Some(DAY * (size.artifacts + 1));
    let mut world = World::new(&STORES);
    for number in 0..size.backups {
        world = world.declare(&format!("backup-{number}"), policy.clone());
    }
    world
}

/// Two stores that hold what is declared, by signed manifests; and a cache in a file.
fn sight(world: &World, artifacts: u32, dir: &Path) -> Sight {
    let keys = Arc::new(Keys::load_or_create(&dir.join("keys"), &[], None).expect("the keys are made"));
    let cache = SqliteCache::open(&dir.join("objects.db"), &keys.trusted_keys()).expect("a cache is made");
    let cache: Arc<dyn ObjectCache> = Arc::new(cache);
    let now = world.now;
    let held: Vec<MemoryStore> = STORES.iter().map(|_| MemoryStore::new(Arc::new(move || now))).collect();
    for backup in world.spec.backups.keys() {
        for day in 0..artifacts {
            put(world, &backup.into(), t("2026-11-20T01:00:00Z") - DAY * day, &keys, &held);
        }
    }
    let scheduler = Timetable::open(dir.join("timetable"));
    for backup in world.spec.backups.values() {
        for (kind, cadence) in &backup.policy.schedules {
            let schedule =
                ArmedSchedule { backup: backup.name.clone(), kind: *kind, cadence: cadence.clone() };
            futures::executor::block_on(scheduler.arm(&schedule)).expect("the timetable is written");
        }
    }
    let look = |(name, store): (&&str, MemoryStore)| {
        let look = Look {
            name: world::store(name),
            store: Arc::new(store),
            fleet: world.spec.fleet.name.clone(),
            keys: keys.clone(),
            cache: cache.clone(),
        };
        (look.name.clone(), Ok(look))
    };
    let stores: BTreeMap<_, _> = STORES.iter().zip(held).map(look).collect();
    let scheduled_by = "controller".to_owned();
    let (infra, interrupted, made) = (None, Vec::new(), Default::default());
    Sight {
        stores,
        scheduler: Arc::new(scheduler),
        scheduled_by,
        infra,
        interrupted,
        made,
        logs: BTreeMap::new(),
    }
}

/// Puts one artifact into every store: a pack, an index, and the manifest that names them.
fn put(world: &World, backup: &FolderName, at: Timestamp, keys: &Keys, stores: &[MemoryStore]) {
    let (fleet, id) = (&world.spec.fleet.name, ArtifactId::new(at, rand::random()));
    let content = Bytes::from_static(b"rows");
    let stored = Stored { size: content.len() as u64, sha256: hex::encode([0; 32]) };
    let pack = PackName { artifact: id, number: 0 };
    let manifest = Manifest {
        format: FORMAT.to_owned(),
        fleet: fleet.clone(),
        backup: backup.clone(),
        artifact: id,
        kind: Kind::Full,
        slot: Some(at),
        manual: None,
        base: None,
        epoch: id,
        requires: Vec::new(),
        supersedes: None,
        revision: "bench".to_owned(),
        reason: "scheduled".to_owned(),
        started: at,
        finished: at,
        moment: Moment::At { time: at, position: None },
        recipients: Vec::new(),
        content: Content::Segments(Segments {
            stream: "files.tar".to_owned(),
            count: 1,
            length: stored.size,
            average: 1 << 20,
            index: stored.clone(),
            packs: BTreeMap::from([(pack, stored)]),
        }),
        sealed: None,
    };
    let bytes = Bytes::from(serde_json::to_vec(&manifest).expect("a manifest is JSON"));
    let signature = Bytes::from(keys.sign(SIGNATURE_NAMESPACE, &bytes));
    for store in stores {
        store.overwrite(&layout::pack(fleet, backup, &pack), content.clone());
        store.overwrite(&layout::index(fleet, backup, &id), content.clone());
        store.overwrite(&layout::manifest_signature(fleet, backup, &id), signature.clone());
        store.overwrite(&layout::manifest(fleet, backup, &id), bytes.clone());
    }
}

/// A declaration of as many backups, a hundred a file.
fn files(backups: u64) -> BTreeMap<String, Vec<u8>> {
    let fleet = r#"
[fleet]
name = "pavroto"
recipients = ["age1mz893hld2gl76fjq3qawwlwjvkze8kezax6x0crg04cwcqq63feqtxzxlm"]
[store.a]
local.path = "/srv/a"
[store.b]
local.path = "/srv/b"
[policy.nightly]
rpo = "26h"
full = "0 1 * * *"
jitter = "5m"
keep = { full = "14d" }
"#;
    let of = |n: u64| {
        format!(
            "[backup.backup-{n}]\npolicy = \"nightly\"\nstores = [\"a\", \"b\"]\nfiles.paths = [\"/srv/{n}\"]\n"
        )
    };
    let file = |first: u64| (first..backups.min(first + 100)).map(of).collect::<String>().into_bytes();
    let of_backups = (0..backups).step_by(100).map(|first| (format!("{first}.toml"), file(first)));
    of_backups.chain([("fleet.toml".to_owned(), fleet.as_bytes().to_vec())]).collect()
}
