//! What is due of one fleet takes no place of another.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use backstay::{
    apply::executor::{Failure, Listener, Outcome},
    daemon::{Audience, fleets::Audiences},
    plan::{Action, Step},
    reconcile::{Pass, PassError},
    spec::names::FleetName,
};

use super::{Host, terminate};
use crate::{
    daemon::{ALONE, Diary},
    passes::Fleet,
};

const MANY: usize = 40;
const FEW: usize = 3;
/// Of five places, which are a half of ten, long steps leave two free.
const PART: usize = 3;

/// Counts the captures of databases, and lets none go on once the part of its fleet is used up, until it is released.
#[derive(Default)]
struct Counter {
    diary: Arc<Diary>,
    captures: Mutex<Captures>,
    released: Condvar,
}

#[derive(Default)]
struct Captures {
    begun: usize,
    under_way: BTreeSet<String>,
    most: usize,
    is_released: bool,
}

impl Counter {
    fn release(&self) {
        self.captures.lock().unwrap().is_released = true;
        self.released.notify_all();
    }
}

fn is_of_database(step: &Step) -> bool {
    matches!(&step.action, Action::Capture(capture) if !capture.backup.is_infra())
}

impl Listener for Counter {
    fn started(&self, step: &Step) {
        if !is_of_database(step) {
            return;
        }
        let mut captures = self.captures.lock().unwrap();
        captures.begun += 1;
        captures.under_way.insert(step.action.to_string());
        captures.most = captures.most.max(captures.under_way.len());
        if captures.under_way.len() >= PART && !captures.is_released {
            self.diary.news.notify_one();
            // The thread that plans and begins steps stands still: that of this fleet alone.
            let limit = Duration::from_secs(60);
            let waited = self.released.wait_timeout_while(captures, limit, |captures| !captures.is_released);
            assert!(!waited.unwrap().1.timed_out(), "the other fleet never came to its end");
        }
    }
    fn pauses(&self, _: &Step, _: &Failure, _: Duration) {}
    fn ended(&self, step: &Step, outcome: &Outcome) {
        if is_of_database(step) {
            self.captures.lock().unwrap().under_way.remove(&step.action.to_string());
        }
        self.diary.ended(step, outcome);
    }
}

impl Audience for Counter {
    fn listens(&self, address: Option<SocketAddr>) {
        self.diary.listens(address);
    }
    fn passed(&self, result: &Result<Pass, PassError>) {
        self.diary.passed(result);
    }
}

struct Counted {
    shop: Arc<Counter>,
    site: Arc<Counter>,
}

impl Audiences for Counted {
    fn of(&self, fleet: &FleetName) -> Arc<dyn Audience> {
        if fleet.as_str() == "shop" { self.shop.clone() } else { self.site.clone() }
    }
    fn fault(&self, fault: &str) {
        panic!("{fault}");
    }
}

fn with_databases(number: usize) -> Fleet {
    let fleet = Fleet::new();
    let database = fleet.path("data/shop.db");
    let branches = (0..number).map(|number| {
        let store = ["vault", "offsite"][number % 2];
        format!(
            "[backup.branch-{number}]\npolicy = \"often\"\nstores = [\"{store}\"]\nsqlite = {{ path = \"{}\" }}\n",
            database.display()
        )
    });
    fleet.declare(&format!("{}\n{}", fleet.declaration(), branches.collect::<String>()));
    fleet
}

#[tokio::test]
async fn many_due_backups_of_one_fleet_take_its_part_and_another_fleets_backup_is_made_meanwhile() {
    let _alone = ALONE.lock().await;
    let (host, shop, site) = (Host::new(), with_databases(MANY), with_databases(FEW));
    host.add("shop", &shop, "");
    host.add("site", &site, "[bounds]\nsteps = 1");
    let (counter, other) = (Arc::new(Counter::default()), Arc::new(Counter::default()));
    other.release();
    let running = host.run(Arc::new(Counted { shop: counter.clone(), site: other.clone() }));
    let stands_still = || counter.captures.lock().unwrap().under_way.len() == PART;
    counter.diary.wait(stands_still, "captures up to its part").await;

    // Whatever the other fleet does from here on, it does beside that.
    other.diary.until(1, "copy shop").await;
    other.diary.until(FEW, "capture full of branch").await;
    site.repo.commit("README", "a change");
    other.diary.wait(|| site.manifests("vault", "infra").len() == 2, "the commit's bundle").await;
    assert_eq!(other.captures.lock().unwrap().most, 1, "it is bound to one step at a time");
    assert_eq!(counter.captures.lock().unwrap().begun, PART, "the rest still waits");

    counter.release();
    counter.diary.wait(|| counter.captures.lock().unwrap().begun > MANY, "all").await;
    counter.diary.until(MANY + 1, "capture full of ").await;
    assert_eq!(counter.captures.lock().unwrap().most, PART);
    terminate(running).await;
}
