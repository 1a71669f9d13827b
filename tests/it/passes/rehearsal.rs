//! Drills of whole recoveries, on machines in memory: what is tried, what is left alone, and what is left behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    apply::executor::{Halt, Listener, Outcome},
    artifact::{
        manifest::{self, Counting, Counts, Details, Moment},
        rehearsed::RehearsalReport,
    },
    drivers::{Drivers, Refusal, Registry},
    git::{Mirror, Tips},
    inventory::{Machine, MachineAddress, PreviewMark, Running},
    plan::{CannotRun, by_hand::MadeByHand, drill},
    provisioners::{ProvisionError, Provisioner, Remote, Said},
    reconcile::{Ask, Controller, Pass, Terms},
    render::{self, Palette},
    schedulers::Scheduler,
    sources::{CaptureRequest, Captured, Holds, Place, Probe, Restored, Run, Sink, Source, SourceError},
    spec::{self, Spec, names::FleetName},
    status::Concern,
    stores::{Class, Store},
    templates::Templates,
};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Deaf, Fleet, RECIPIENT, all_done, apply, steps, undeclared::with_identity};

/// The machines by their names, the rows by the host that has them, and what was run on which machine.
#[derive(Default)]
struct Ground {
    machines: Mutex<BTreeMap<String, Running>>,
    made: Mutex<Vec<spec::Vm>>,
    rows: Mutex<BTreeMap<String, String>>,
    ran: Mutex<Vec<(String, String)>>,
    refuses: Mutex<bool>,
    /// Programs last for ever, and the pass is stopped once one began.
    hangs: Mutex<Option<Halt>>,
    keeps: Mutex<bool>,
    /// What is told of a new machine's address.
    comes_up_at: Mutex<Option<String>>,
}

struct Site {
    inner: Drivers,
    ground: Arc<Ground>,
}

struct InMemory {
    ground: Arc<Ground>,
    vm: spec::Vm,
}

#[async_trait]
impl Provisioner for InMemory {
    async fn observe(&self) -> Result<Machine, ProvisionError> {
        let machines = self.ground.machines.lock().unwrap();
        Ok(machines.get(self.vm.name.as_str()).cloned().map_or(Machine::Gone, Machine::Running))
    }

    async fn preview(&self, _: &PreviewMark) -> Result<Vec<String>, ProvisionError> {
        Ok(Vec::new())
    }

    async fn by_hand(&self, _: &str) -> Result<MadeByHand, ProvisionError> {
        Ok(MadeByHand::default())
    }

    async fn up(&self, _: Said<'_>) -> Result<Running, ProvisionError> {
        let host = self.ground.comes_up_at.lock().unwrap().clone().unwrap_or("192.0.2.77".to_owned());
        let address = Some(MachineAddress { host, port: 22 });
        let running = Running { address, ..Running::default() };
        self.ground.made.lock().unwrap().push(self.vm.clone());
        self.ground.machines.lock().unwrap().insert(self.vm.name.to_string(), running.clone());
        Ok(running)
    }

    async fn down(&self, _: Said<'_>) -> Result<(), ProvisionError> {
        if *self.ground.keeps.lock().unwrap()
            && self.ground.machines.lock().unwrap().contains_key(self.vm.name.as_str())
        {
            return Err(ProvisionError::stalled("failed to remove it: the hypervisor hangs"));
        }
        self.ground.machines.lock().unwrap().remove(self.vm.name.as_str());
        self.ground.rows.lock().unwrap().remove("192.0.2.77");
        Ok(())
    }
}

#[async_trait]
impl Remote for InMemory {
    async fn wait(&self, _: Duration) -> Result<(), ProvisionError> {
        Ok(())
    }

    async fn run(&self, command: &[String], _: Duration) -> Result<String, ProvisionError> {
        if *self.ground.refuses.lock().unwrap() {
            return Err(ProvisionError::stalled("failed to run it: exit status 1"));
        }
        self.ground.ran.lock().unwrap().push((self.vm.name.to_string(), command.join(" ")));
        let hangs = self.ground.hangs.lock().unwrap().clone();
        if let Some(halt) = hangs {
            halt.stop.cancel();
            std::future::pending::<()>().await;
        }
        Ok(String::new())
    }
}

/// A database on a host.
struct Rows {
    ground: Arc<Ground>,
    host: String,
}

impl Rows {
    fn failed(&self) -> SourceError {
        SourceError::new("use", self.host.clone(), Class::Retry, "it fails")
    }

    fn held(&self) -> Option<String> {
        self.ground.rows.lock().unwrap().get(&self.host).cloned()
    }
}

#[async_trait]
impl Source for Rows {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: self.host.clone() })
    }

    fn stream_name(&self) -> String {
        "rows.sql".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let rows = self.held().unwrap_or_default();
        if sink.run(None).await.map_err(|_| self.failed())? == Run::Wanted {
            sink.write(Bytes::from(rows.clone())).await.map_err(|_| self.failed())?;
        }
        let counts = Counts::Captured([("sold".to_owned(), rows.len() as u64)].into());
        let moment = Moment::At { time: request.now(), position: None };
        Ok(Captured { moment, details: Details { counts, ..Details::default() } })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        _: &Place,
    ) -> Result<Restored, SourceError> {
        let mut rows = String::new();
        stream.read_to_string(&mut rows).await.map_err(|_| self.failed())?;
        self.ground.rows.lock().unwrap().insert(self.host.clone(), rows);
        Ok(Restored { place: self.host.clone() })
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        Ok(self.held().map_or(Holds::Nothing, Holds::Data))
    }

    async fn count(&self, _: Counting) -> Result<manifest::Rows, SourceError> {
        let rows = self.held().unwrap_or_default();
        Ok(Counts::Captured([("sold".to_owned(), rows.len() as u64)].into()).into())
    }

    async fn ask(&self, _: Option<&str>, _: &str) -> Result<String, SourceError> {
        Ok(self.held().unwrap_or_default().len().to_string())
    }
}

#[async_trait]
impl Registry for Site {
    fn scheduler(&self, fleet: &spec::Fleet) -> Arc<dyn Scheduler> {
        self.inner.scheduler(fleet)
    }

    async fn store(&self, declared: &spec::Store) -> Result<Arc<dyn Store>, Refusal> {
        self.inner.store(declared).await
    }

    async fn source(&self, declared: &spec::Source) -> Result<Box<dyn Source>, Refusal> {
        match declared {
            spec::Source::Mysql(it) => {
                Ok(Box::new(Rows { ground: self.ground.clone(), host: it.server.host.clone() }))
            }
            _ => self.inner.source(declared).await,
        }
    }

    async fn provisioner(
        &self,
        _: &FleetName,
        vm: &spec::Vm,
        _: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        Ok(Box::new(InMemory { ground: self.ground.clone(), vm: vm.clone() }))
    }

    async fn remote(&self, vm: &spec::Vm, _: &Running) -> Result<Box<dyn Remote>, Refusal> {
        Ok(Box::new(InMemory { ground: self.ground.clone(), vm: vm.clone() }))
    }

    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source> {
        self.inner.infra(mirror, prerequisites)
    }

    fn refused(&self, _: &Spec) -> Vec<CannotRun> {
        Vec::new()
    }
}

/// A machine with a database that was captured, another database elsewhere, and a drill of the recovery of both, whose slot is filled.
async fn captured() -> (Fleet, Controller, Arc<Ground>) {
    let fleet = Fleet::new();
    let (config, recipient) = with_identity(&fleet);
    let declared = fleet.declaration().replace(RECIPIENT, &format!("{RECIPIENT}\", \"{recipient}"));
    let yearly = fleet.yearly();
    fleet.declare(&format!(
        r#"{declared}
        [vm.counter]
        template = "counter.yaml.tera"
        vars = {{ size = 1, zone = "a" }}
        ssh = {{ host = "192.0.2.1", identity = {{ env = "COUNTER" }} }}
        libvirt = {{ image = "/srv/base.qcow2" }}
        [backup.sold]
        policy = "often"
        stores = ["vault", "offsite"]
        mysql = {{ host = "192.0.2.1", user = "b", password = {{ env = "SOLD" }} }}
        [backup.books]
        policy = "often"
        stores = ["vault", "offsite"]
        mysql = {{ host = "192.0.2.9", user = "b", password = {{ env = "SOLD" }} }}
        [drill.site]
        recovery = "site"
        schedule = "{yearly}"
        check = [{{ counts = "captured", backup = "sold" }}, {{ sql = "select count(*) from sold", equals = "4", backup = "sold" }}]
        [drill.site.stand_in.counter]
        network = "drills"
        vars = {{ size = 2 }}
        [recovery.site]
        rto = "1h"
        steps = [
          {{ rebuild = "counter" }},
          {{ restore = "sold" }},
          {{ restore = "books" }},
          {{ wait = {{ source = "sold" }}, timeout = "30s" }},
          {{ run = ["systemctl", "start", "shop"], on = "counter" }},
          {{ run = ["switch-dns"] }},
          {{ switch = "www", to = "standby", stage = "applications" }},
        ]
        [traffic.www]
        record = "www.example.org"
        primary = ["192.0.2.1"]
        standby = ["192.0.2.2"]
        dns = {{ zone = "example.org", server = "192.0.2.53", key = {{ name = "k", secret = {{ env = "TSIG" }} }} }}
        "#
    ));
    let controller = Controller::open(config.clone(), fleet.clock.clone()).unwrap();
    let ground = Arc::new(Ground::default());
    ground.machines.lock().unwrap().insert("counter".to_owned(), Running::default());
    let rows = [("192.0.2.1", "1234"), ("192.0.2.9", "56")];
    *ground.rows.lock().unwrap() = rows.map(|(host, rows)| (host.to_owned(), rows.to_owned())).into();
    let inner = Drivers::new(config, controller.keys().identities().to_vec(), controller.state());
    let controller = controller.on(Arc::new(Site { inner, ground: ground.clone() }));
    let first = apply(&controller, &Ask::Everything).await.unwrap();
    assert!(report(&first).rehearsed.slot.is_some(), "the slot of this year or the last");
    ground.made.lock().unwrap().clear();
    ground.ran.lock().unwrap().clear();
    fleet.later(Duration::from_secs(60));
    (fleet, controller, ground)
}

fn site() -> Ask {
    let drill = "site".parse().unwrap();
    Ask::Drill(vec![drill::Request { drill, point: None, from: None, seed: 1, how: None }])
}

fn report(pass: &Pass) -> &RehearsalReport {
    let mut reports = pass.outcomes.values().filter_map(|outcome| match outcome {
        Outcome::Done(done) => done.rehearsed.as_deref(),
        _ => None,
    });
    reports.next_back().unwrap_or_else(|| panic!("{:?}", pass.outcomes))
}

/// What people work with: the machine, and both databases.
fn is_untouched(ground: &Ground) {
    let rows = ground.rows.lock().unwrap();
    let expect = [("192.0.2.9", "56"), ("192.0.2.1", "1234")];
    assert_eq!(*rows, expect.map(|(host, rows)| (host.to_owned(), rows.to_owned())).into());
    let machines: Vec<String> = ground.machines.lock().unwrap().keys().cloned().collect();
    assert_eq!(machines, ["counter"]);
}

#[tokio::test]
async fn a_recovery_is_tried_on_machines_of_its_own_and_nothing_else_is_touched() {
    let (fleet, controller, ground) = captured().await;
    let planned = controller.plan(&site(), &Default::default()).await.unwrap();
    let text = render::plan::text(&planned.plan, Palette::Plain);
    for part in [
        "1 make machine counter",
        "2 restore sold",
        "left out: step 3",
        "left out: step 6",
        "left out: step 7",
    ] {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    let pass = apply(&controller, &site()).await.unwrap();
    let told = report(&pass);
    assert!(told.rehearsed.outcome.is_passed(), "{told:#?}");
    assert_eq!((told.findings.len(), told.rehearsed.left_out), (2, 3));
    assert!(told.rehearsed.rto_seconds.is_some() && told.rehearsed.rpo_seconds.is_some());
    is_untouched(&ground);
    let ran = ground.ran.lock().unwrap().clone();
    assert_eq!(ran, [("drill-site-counter".to_owned(), "systemctl start shop".to_owned())]);
    let made = ground.made.lock().unwrap().clone();
    let [made] = made.as_slice() else { panic!("{made:?}") };
    assert_eq!((made.vars["size"].as_integer(), made.vars["zone"].as_str()), (Some(2), Some("a")));
    assert_eq!(made.ssh.as_ref().unwrap().host, None);

    // The records tell of it, to any process.
    fleet.later(Duration::from_secs(60));
    let after = controller.plan(&Ask::Everything, &Default::default()).await.unwrap();
    let status = &after.status.drills["site"];
    assert!(status.last.as_ref().unwrap().outcome().is_passed());
    assert!(after.status.recoveries["site"].estimate.is_none(), "the books' restore was never measured");
    let never = after.status.conditions.iter().filter(|it| it.concern == Concern::NeverDrilled).count();
    assert_eq!(never, 0, "{:?}", after.status.conditions);
    let records = render::drills::rehearsal(told, &after.plan.zone, Palette::Plain);
    assert!(records.contains("left out: step 6: it runs on the controller's host"), "{records}");
}

#[tokio::test]
async fn a_step_that_fails_fails_the_drill_and_its_machines_are_removed_all_the_same() {
    let (_fleet, controller, ground) = captured().await;
    *ground.refuses.lock().unwrap() = true;
    let pass = apply(&controller, &site()).await.unwrap();
    assert_eq!(
        report(&pass).rehearsed.outcome.to_string(),
        "failed: step 5: run `systemctl start shop` on counter"
    );
    assert!(report(&pass).why.as_deref().unwrap().contains("exit status 1"));
    is_untouched(&ground);
    let concerns: BTreeSet<&str> = pass.status.conditions.iter().map(|it| it.concern.as_str()).collect();
    assert!(concerns.contains("drill-failed"), "{:?}", pass.status.conditions);
}

#[tokio::test]
async fn a_drill_restores_neither_where_people_work_nor_over_data() {
    let (_fleet, controller, ground) = captured().await;
    // As where a template gives every machine the same address.
    *ground.comes_up_at.lock().unwrap() = Some("192.0.2.1".to_owned());
    let pass = apply(&controller, &site()).await.unwrap();
    assert_eq!(report(&pass).rehearsed.outcome.as_str(), "failed");
    let why = report(&pass).why.clone().unwrap();
    assert!(why.contains("192.0.2.1:3306, where people work"), "{why}");
    is_untouched(&ground);

    *ground.comes_up_at.lock().unwrap() = Some("192.0.2.10".to_owned());
    ground.rows.lock().unwrap().insert("192.0.2.10".to_owned(), "somebody's".to_owned());
    let pass = apply(&controller, &site()).await.unwrap();
    let why = report(&pass).why.clone().unwrap();
    assert!(why.contains("there is data already (somebody's)"), "{why}");
    assert_eq!(ground.rows.lock().unwrap().remove("192.0.2.10").as_deref(), Some("somebody's"));
    is_untouched(&ground);
}

#[tokio::test]
async fn a_drill_that_is_stopped_removes_its_machines_and_counts_for_nothing() {
    let (_fleet, controller, ground) = captured().await;
    let halt = Halt::default();
    *ground.hangs.lock().unwrap() = Some(halt.clone());
    let listener: Arc<dyn Listener> = Arc::new(Deaf);
    let pass = controller.apply(&site(), &Terms::default(), &halt, &listener).await.unwrap();
    assert_eq!(pass.outcomes.values().collect::<Vec<_>>(), [&Outcome::Cancelled]);
    assert_eq!(ground.ran.lock().unwrap().len(), 1, "it had come to the machine");
    is_untouched(&ground);
}

#[tokio::test]
async fn rows_that_differ_from_those_that_were_captured_fail_the_drill() {
    let (fleet, controller, ground) = captured().await;
    ground.rows.lock().unwrap().insert("192.0.2.1".to_owned(), "12345".to_owned());
    fleet.later(Duration::from_secs(2 * 24 * 3600));
    let _ = apply(&controller, &Ask::Everything).await.unwrap();
    let pass = apply(&controller, &site()).await.unwrap();
    let told = report(&pass);
    assert_eq!(told.rehearsed.outcome.to_string(), "failed: 1 of 2 checks failed", "{told:#?}");
    assert_eq!(told.findings[0].found, "5 rows in 1 tables");
    assert_eq!(told.findings[1].found, "5");
}

#[tokio::test]
async fn machines_that_a_drill_could_not_remove_are_removed_by_a_later_pass() {
    let (fleet, controller, ground) = captured().await;
    *ground.keeps.lock().unwrap() = true;
    let pass = apply(&controller, &site()).await.unwrap();
    let why = report(&pass).why.clone().unwrap();
    assert!(why.contains("the hypervisor hangs"), "{why}");
    assert!(ground.machines.lock().unwrap().contains_key("drill-site-counter"));
    *ground.keeps.lock().unwrap() = false;
    fleet.later(Duration::from_secs(60));
    let pass = apply(&controller, &Ask::Everything).await.unwrap();
    assert_eq!(steps(&pass), ["remove what drill site left of counter"]);
    all_done(&pass);
    is_untouched(&ground);
}
