//! Recoveries end to end, on machines in memory: cut off, gone on with, recorded, and never over data that is there.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use backstay::{
    apply::executor::Outcome,
    artifact::recovered::{RecoverySubject, Terms},
    drivers::{Drivers, Refusal, Registry},
    git::{Mirror, Tips},
    inventory::{Machine, MachineAddress, PreviewMark, Running},
    plan::{
        CannotRun,
        action::SandboxKind,
        by_hand::{Hand, Line, MadeByHand, Prepared},
        drill,
        recovery::{Begin, Request},
    },
    provisioners::{ProvisionError, Provisioner, Remote, Said},
    reconcile::{Ask, Controller, Ending, Pass},
    render::{
        Palette,
        recovery::{Report, report},
        runbook::Format,
    },
    sandboxes::Sandbox,
    schedulers::Scheduler,
    sources::Source,
    spec::{self, Spec, names::FleetName},
    status::{Concern, measured::Measured},
    stores::Store,
    templates::Templates,
};

use super::{Fleet, RECIPIENT, all_done, apply, steps, undeclared::with_identity};

/// The only machine, what was done on it, and whether programs run there.
#[derive(Default)]
struct Ground {
    machine: Mutex<Option<Running>>,
    ran: Mutex<Vec<Vec<String>>>,
    refuses: Mutex<bool>,
}

struct Site {
    inner: Drivers,
    ground: Arc<Ground>,
}

struct InMemory(Arc<Ground>);

#[async_trait]
impl Provisioner for InMemory {
    async fn observe(&self) -> Result<Machine, ProvisionError> {
        Ok(self.0.machine.lock().unwrap().clone().map_or(Machine::Gone, Machine::Running))
    }

    async fn preview(&self, _: &PreviewMark) -> Result<Vec<String>, ProvisionError> {
        Ok(vec!["a machine in memory".to_owned()])
    }

    async fn by_hand(&self, folder: &str) -> Result<MadeByHand, ProvisionError> {
        let file = Prepared { path: format!("{folder}/form"), content: "```\na form".to_owned() };
        let hands = vec![Hand::Type(Line::of(["make-a-machine", &file.path]))];
        Ok(MadeByHand { files: vec![file], hands })
    }

    async fn up(&self, said: Said<'_>) -> Result<Running, ProvisionError> {
        said("it comes");
        let address = Some(MachineAddress { host: "192.0.2.1".to_owned(), port: 22 });
        let running = Running { address, ..Running::default() };
        *self.0.machine.lock().unwrap() = Some(running.clone());
        Ok(running)
    }

    async fn down(&self, _: Said<'_>) -> Result<(), ProvisionError> {
        *self.0.machine.lock().unwrap() = None;
        Ok(())
    }
}

#[async_trait]
impl Remote for InMemory {
    async fn wait(&self, _: Duration) -> Result<(), ProvisionError> {
        Ok(())
    }

    async fn run(&self, command: &[String], _: Duration) -> Result<String, ProvisionError> {
        if *self.0.refuses.lock().unwrap() {
            return Err(ProvisionError::stalled("failed to run it: exit status 1"));
        }
        self.0.ran.lock().unwrap().push(command.to_vec());
        Ok("started\n".to_owned())
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
        self.inner.source(declared).await
    }

    async fn sandbox(&self, kind: SandboxKind, declared: &spec::Source) -> Result<Box<dyn Sandbox>, Refusal> {
        self.inner.sandbox(kind, declared).await
    }

    fn may_run(&self, program: &str) -> Result<(), Refusal> {
        self.inner.may_run(program)
    }

    async fn provisioner(
        &self,
        _: &FleetName,
        _: &spec::Vm,
        _: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        Ok(Box::new(InMemory(self.ground.clone())))
    }

    async fn remote(&self, _: &spec::Vm, _: &Running) -> Result<Box<dyn Remote>, Refusal> {
        Ok(Box::new(InMemory(self.ground.clone())))
    }

    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source> {
        self.inner.infra(mirror, prerequisites)
    }

    fn refused(&self, _: &Spec) -> Vec<CannotRun> {
        Vec::new()
    }
}

/// A machine with a shop, which was captured; and a controller that can read what is stored.
async fn captured() -> (Fleet, Controller, Arc<Ground>) {
    let fleet = Fleet::new();
    let (mut config, recipient) = with_identity(&fleet);
    config.allow.write.push(fleet.path("data"));
    let declared = fleet.declaration().replace(RECIPIENT, &format!("{RECIPIENT}\", \"{recipient}"));
    let yearly = fleet.yearly();
    fleet.declare(&format!(
        r#"{declared}
        [vm.counter]
        template = "counter.yaml.tera"
        ssh = {{ identity = {{ env = "COUNTER" }} }}
        libvirt = {{ image = "/srv/base.qcow2" }}
        [contact.dba]
        name = "Ada <ops>"
        phone = "+372 5550100"
        [drill.shop]
        backup = "shop"
        schedule = "{yearly}"
        how = "by-hand"
        check = [{{ counts = "captured" }}, {{ sql = "select count(*) from sold", equals = "10" }}]
        [recovery.site]
        description = "The counter is lost"
        contact = "dba"
        rto = "1h"
        steps = [
          {{ rebuild = "counter" }},
          {{ restore = "shop" }},
          {{ wait = {{ source = "shop" }}, timeout = "30s", stage = "databases", after = ["shop"] }},
          {{ run = ["systemctl", "start", "shop"], on = "counter" }},
        ]
        "#
    ));
    let controller = Controller::open(config.clone(), fleet.clock.clone()).unwrap();
    let ground = Arc::new(Ground::default());
    *ground.machine.lock().unwrap() = Some(Running::default());
    let inner = Drivers::new(config, controller.keys().identities().to_vec(), controller.state());
    let controller = controller.on(Arc::new(Site { inner, ground: ground.clone() }));
    all_done(&apply(&controller, &Ask::Everything).await.unwrap());
    (fleet, controller, ground)
}

fn site(begin: Begin) -> Ask {
    Ask::Recover(Box::new(Request {
        subject: RecoverySubject::Recovery("site".parse().unwrap()),
        terms: Terms::default(),
        begin,
    }))
}

fn concerns(pass: &Pass) -> Vec<Concern> {
    pass.status.conditions.iter().map(|condition| condition.concern).collect()
}

fn rows(fleet: &Fleet) -> i64 {
    let shop = rusqlite::Connection::open(fleet.path("data/shop.db")).unwrap();
    shop.query_row("select count(*) from sold", (), |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_site_that_is_lost_comes_back_also_where_it_is_cut_off_in_between() {
    let (fleet, controller, ground) = captured().await;
    *ground.machine.lock().unwrap() = None;
    fs::remove_file(fleet.path("data/shop.db")).unwrap();
    let lost = apply(&controller, &Ask::Everything).await.unwrap();
    assert!(concerns(&lost).contains(&Concern::MachineLost), "{:?}", lost.status.conditions);
    assert!(ground.machine.lock().unwrap().is_none(), "nobody asked for a rebuild");

    *ground.refuses.lock().unwrap() = true;
    fleet.later(Duration::from_secs(60));
    let cut_off = apply(&controller, &site(Begin::First)).await.unwrap();
    assert_eq!(cut_off.ending(), Ending::Partial);
    assert!(concerns(&cut_off).contains(&Concern::RecoveryUnfinished), "{:?}", cut_off.status.conditions);
    let told = Report::of(&cut_off.plan, &cut_off.outcomes, None).unwrap();
    let told = report(&told, Palette::Plain);
    assert!(told.contains("--resume") && told.contains("failed: run `systemctl start shop`"), "{told}");
    assert_eq!(rows(&fleet), 10);

    // Another process, which knows of it by the stores alone.
    *ground.refuses.lock().unwrap() = false;
    fs::remove_dir_all(fleet.path("state")).unwrap();
    let controller = Controller::open(controller.config().clone(), fleet.clock.clone()).unwrap();
    let keys = controller.keys().identities().to_vec();
    let inner = Drivers::new(controller.config().clone(), keys, controller.state());
    let controller = controller.on(Arc::new(Site { inner, ground: ground.clone() }));
    fleet.later(Duration::from_secs(60));
    let rest = apply(&controller, &site(Begin::Resume)).await.unwrap();
    assert_eq!(steps(&rest), ["run `systemctl start shop` on counter"]);
    all_done(&rest);
    assert_eq!(*ground.ran.lock().unwrap(), [["systemctl", "start", "shop"].map(str::to_owned).to_vec()]);
    assert_eq!(rows(&fleet), 10);
    let status = &rest.status.recoveries["site"];
    let whole = status.last_whole.as_ref().unwrap();
    assert_eq!((whole.done, whole.parts), (5, 5));
    assert!(whole.seconds.is_some_and(|took| took >= 60), "from its first beginning: {whole:?}");
    assert!(!concerns(&rest).contains(&Concern::RecoveryUnfinished));
}

#[tokio::test]
async fn data_that_is_there_is_not_restored_over_and_the_recovery_says_so() {
    let (fleet, controller, ground) = captured().await;
    fleet.sell(5);
    *ground.machine.lock().unwrap() = None;
    let refused = apply(&controller, &site(Begin::First)).await.unwrap();
    let why = refused.outcomes.values().find_map(|outcome| match outcome {
        Outcome::Failed(failure) => Some(failure.message.clone()),
        _ => None,
    });
    let why = why.unwrap();
    assert!(why.contains("15 rows in sold") && why.contains("--restore shop"), "{why}");
    assert_eq!(rows(&fleet), 15);
    // Neither does going on take it for its own.
    let again = apply(&controller, &site(Begin::Resume)).await.unwrap();
    assert_eq!(again.ending(), Ending::Partial);
    assert_eq!(rows(&fleet), 15);
    let Ask::Recover(request) = site(Begin::Resume) else { unreachable!() };
    let meant = Request {
        terms: Terms { restore: BTreeSet::from(["shop".parse().unwrap()]), ..Terms::default() },
        ..*request
    };
    all_done(&apply(&controller, &Ask::Recover(Box::new(meant))).await.unwrap());
    assert_eq!(rows(&fleet), 10);
}

#[tokio::test]
async fn what_a_recovery_would_make_is_told_before_it_is_made() {
    let (_fleet, controller, ground) = captured().await;
    *ground.machine.lock().unwrap() = None;
    let pass = controller.plan(&site(Begin::First), &Default::default()).await.unwrap();
    let previews = controller.previews(&pass.plan).await.unwrap();
    let told: Vec<_> = previews.into_values().collect();
    assert_eq!(told, [Ok(vec!["a machine in memory".to_owned()])]);
    assert!(ground.machine.lock().unwrap().is_none());
}

fn shop_drill() -> Ask {
    Ask::Drill(vec![drill::Request {
        drill: "shop".parse().unwrap(),
        point: None,
        from: None,
        seed: 1,
        how: None,
    }])
}

#[tokio::test]
async fn the_runbook_prints_every_command_and_the_drill_by_hand_runs_them() {
    let (fleet, controller, _) = captured().await;
    let (runbooks, templates) = controller.runbooks(&[], &Default::default()).await.unwrap();
    let templates = templates.unwrap();
    let [runbook] = runbooks.as_slice() else { panic!("{runbooks:?}") };
    let page = runbook.render(Format::Markdown, &templates).await.unwrap();
    let id = fleet.manifests("vault", "shop")[0].trim_end_matches(".json").to_owned();
    for part in [
        "The counter is lost",
        "+372 5550100",
        "backstay rebuild --recovery site --resume",
        &format!("sh restore.sh -s allowed_signers -i identity.txt STORE pavroto shop {id} out-shop"),
        "cp out-shop/01-shop.db out-shop-restored/shop.db",
        "ssh -F site.ssh_config counter 'systemctl start shop'",
        "\n    make-a-machine site.files/counter/form\n",
        "`site.files/counter/form`:\n\n````text\n```\na form\n````\n",
        "\n    until ssh -F site.ssh_config counter true; do sleep 5; done\n",
        "HostName ADDRESS-OF-counter",
        "data/shop.db; do sleep 5; done",
        "flowchart TD",
        "| shop | 2 days | 1h |",
    ] {
        assert!(page.contains(part), "{part:?} is not in:\n{page}");
    }
    let page = runbook.render(Format::Html, &templates).await.unwrap();
    assert!(page.contains("<svg") && page.contains("Ada &lt;ops&gt;"), "{page}");

    let drilled = apply(&controller, &shop_drill()).await.unwrap();
    let outcome = drilled.outcomes.values().next().unwrap();
    let Outcome::Done(done) = outcome else { panic!("{outcome:?}") };
    let report = done.drilled.as_ref().unwrap();
    assert!(report.drilled.outcome.is_passed(), "{report:?}");
    assert_eq!(report.findings.len(), 4, "the engine's own two and those that are declared: {report:?}");
    // What it measured foresees how long the next restore takes.
    let pass = controller.plan(&Ask::Everything, &Default::default()).await.unwrap();
    assert!(pass.status.drills["shop"].estimate.is_some(), "{:?}", pass.status.drills);
    // And as it is printed, others read it.
    let printed = serde_json::to_vec(&pass.status).unwrap();
    assert_eq!(Measured::read(&printed), Ok(Measured::of(&pass.status)));
}

#[tokio::test]
async fn a_drill_by_hand_of_an_altered_pack_fails() {
    let (fleet, controller, _) = captured().await;
    for store in ["vault", "offsite"] {
        let packs = fleet.path("stores").join(store).join("pavroto/shop/packs");
        let pack = super::objects_below(&packs).into_iter().find(|path| path.ends_with("0")).unwrap();
        let mut content = fs::read(&pack).unwrap();
        let middle = content.len() / 2;
        content[middle] ^= 1;
        let mut permissions = fs::metadata(&pack).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
        fs::set_permissions(&pack, permissions).unwrap();
        fs::write(&pack, content).unwrap();
    }
    let drilled = apply(&controller, &shop_drill()).await.unwrap();
    let Outcome::Done(done) = drilled.outcomes.values().next().unwrap() else { panic!() };
    let report = done.drilled.as_ref().unwrap();
    assert_eq!(report.drilled.outcome.as_str(), "failed", "{report:?}");
    let why = report.why.as_deref().unwrap_or_default();
    assert!(why.contains("restore.sh"), "{why}");
}
