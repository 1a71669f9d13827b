//! A commit declares a stack of CloudFormation and the drill of its recovery, and the built program tries that on a stack of its own.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backstay::{artifact::manifest::Counting, sources::Source};

use crate::{
    cloudformation::things,
    lab::{
        READY,
        etcd::Etcd,
        fleet::Fleet,
        free_port,
        influxdb2::{Influx2, ORG, TOKEN},
        moto::{GoBetween, KEY_ID, Moto, REGION, SECRET, Trick, elements},
        redis::{PASSWORD, Redis, Sends, USER},
        schedules,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_is_tried_on_a_stack_of_its_own_and_the_one_that_runs_stays() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    let yearly = schedules::yearly();
    let endpoint = moto.endpoint();
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let data = fleet.readable();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("page"), "content").unwrap();
    fleet.declare(
        "pages",
        &format!(
            r#"
            files = {{ paths = ["{}"] }}
            [vm.web]
            template = "cloudformation-vm.yaml.tera"
            vars = {{ image = "ami-12c6146b" }}
            [vm.web.cloudformation]
            region = "{REGION}"
            endpoint = "{endpoint}"
            access_key_id = {id}
            secret_access_key = {secret}
            [recovery.site]
            rto = "1h"
            steps = [{{ rebuild = "web" }}, {{ restore = "pages" }}, {{ run = ["true"], stage = "traffic" }}]
            [drill.site]
            recovery = "site"
            schedule = "{yearly}"
            "#,
            data.display()
        ),
    );
    fleet.expect(&["rebuild", "web"], 0);
    let running = things(&moto).await;
    assert_eq!(running.iter().filter(|thing| thing.starts_with("i-")).count(), 1, "{running:?}");

    // The drill of this year is due.
    let applied = fleet.expect(&["apply", "--yes"], 0);
    assert!(applied.contains("drill site"), "{applied}");
    assert_eq!(things(&moto).await, running);
    let planned = fleet.expect(&["drill", "site", "--dry-run"], 0);
    assert!(planned.contains("1 make machine web") && planned.contains("left out: step 2"), "{planned}");
    let told = fleet.expect(&["drill", "site", "-o", "json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let drill = &told["drills"][0];
    assert_eq!((&drill["outcome"], &drill["left_out"]), (&"passed".into(), &2.into()), "{drill:#}");
    assert_eq!(drill["parts"][0]["part"], "provision", "{drill:#}");
    assert_eq!(things(&moto).await, running, "its own is removed, and the one that runs is not");
    let status = fleet.expect(&["status"], 0);
    assert!(status.contains("recovery site") && status.contains("passed"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_etcd_and_influxdb2_are_restored_into_what_stands_in_for_their_servers() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    let (carts, of_drill) = (Redis::start(Sends::AsMade), Redis::start(Sends::AsMade));
    carts.script(0, "for n = 1, 500 do redis.call('SET', 'cart:' .. n, string.rep(n, 50)) end");
    let rights = ["~*", "+select", "+restore", "+del", "+dbsize", "+flushall", "+function"];
    of_drill.run(&[&["ACL", "SETUSER", USER], rights.as_slice()].concat());
    let (settings, of_settings) = (Etcd::start(), Etcd::start());
    settings.fill("setting", 20, 100);
    let (tele, new) = (Influx2::start(), Influx2::start_new());
    tele.make_bucket("tele");
    tele.write("tele", &(0..100).map(|n| format!("cpu v={n} {}\n", 1_700_000_000 + n)).collect::<String>());
    let points = tele.points("tele");

    let endpoint = moto.endpoint();
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let (password, token) = (fleet.secret(PASSWORD), fleet.secret(TOKEN));
    let at = |url: &str| url.trim_start_matches("http://").to_owned();
    let reach = [
        (format!("127.0.0.1:{}", carts.port()), format!("127.0.0.1:{}", of_drill.port())),
        (at(&settings.url()), at(&of_settings.url())),
        (at(&tele.url()), at(&new.url())),
    ];
    let yearly = schedules::yearly();
    let reach: Vec<String> = reach.iter().map(|(was, is)| format!("\"{was}\" = \"{is}\"")).collect();
    fleet.declare(
        "carts",
        &format!(
            r#"
            policy = "nightly"
            redis = {{ host = "127.0.0.1", port = {}, user = "{USER}", password = {password} }}
            [backup.settings]
            policy = "nightly"
            stores = ["primary"]
            etcd = {{ endpoints = ["{}"] }}
            [backup.tele]
            policy = "nightly"
            stores = ["primary"]
            influxdb2 = {{ url = "{}", org = "{ORG}", token = {token}, buckets = ["tele"] }}
            [vm.web]
            template = "cloudformation-vm.yaml.tera"
            vars = {{ image = "ami-12c6146b" }}
            [vm.web.cloudformation]
            region = "{REGION}"
            endpoint = "{endpoint}"
            access_key_id = {id}
            secret_access_key = {secret}
            [recovery.site]
            rto = "1h"
            steps = [{{ rebuild = "web" }}, {{ restore = "carts" }}, {{ restore = "settings" }}, {{ restore = "tele" }}]
            [drill.site]
            recovery = "site"
            schedule = "{yearly}"
            check = [
              {{ counts = "captured", backup = "settings" }},
              {{ influxql = "select count(v) from cpu", equals = "100", backup = "tele" }},
            ]
            [drill.site.stand_in.web]
            reach = {{ {} }}
            "#,
            carts.port(),
            settings.url(),
            tele.url(),
            reach.join(", ")
        ),
    );
    fleet.expect(&["backup", "carts", "settings", "tele"], 0);
    let told = fleet.expect(&["drill", "site", "-o", "json"], 0);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let drill = &told["drills"][0];
    assert_eq!((&drill["outcome"], &drill["left_out"]), (&"passed".into(), &0.into()), "{drill:#}");
    assert_eq!(drill["restored"].as_array().unwrap().len(), 3, "{drill:#}");
    assert_eq!(of_drill.digest(), carts.digest());
    assert_eq!(
        of_settings.source().count(Counting::Rows).await.unwrap(),
        settings.source().count(Counting::Rows).await.unwrap()
    );
    assert!(new.points("tele") == points);

    // What is there now is none of this drill's: nothing is restored over it.
    let told = fleet.expect(&["drill", "site", "-o", "json"], 7);
    assert!(told.contains("there is data already"), "{told}");
}

/// Waits until what is there beside `running` is as it should be.
async fn until(moto: &Moto, running: &BTreeSet<String>, should: impl Fn(&[&String]) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let now = things(moto).await;
        let new: Vec<&String> = now.difference(running).collect();
        if should(&new) {
            return;
        }
        assert!(Instant::now() < deadline, "{new:?} beside {running:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// An instance, and not only the stack of a preview.
async fn until_the_stand_in_is_there(moto: &Moto, running: &BTreeSet<String>) {
    until(moto, running, |new| new.iter().any(|thing| thing.starts_with("i-"))).await;
}

async fn until_nothing_else_is_there(moto: &Moto, running: &BTreeSet<String>) {
    until(moto, running, |new| new.is_empty()).await;
}

/// The stack of a preview, which holds nothing.
async fn until_a_preview_is_there(moto: &Moto, running: &BTreeSet<String>) {
    until(moto, running, |new| matches!(new, [stack] if stack.contains("-preview-"))).await;
}

/// A drill that was begun by the built program and waits for what never comes, on a stack of its own.
async fn cut_off(moto: &Moto, fleet: &Fleet, running: &BTreeSet<String>) -> std::process::Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
    command.args(["drill", "site", "--config"]).arg(fleet.config_file());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    until_the_stand_in_is_there(moto, running).await;
    child
}

/// The watchdogs of a fleet's drills.
pub fn watchdogs(fleet: &Fleet) -> Vec<i32> {
    let config = fleet.config_file().display().to_string();
    let is_one = |pid: &i32| {
        let said = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        said.contains("watch-stand-ins") && said.contains(&config)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    all.filter(is_one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_of_a_drill_go_when_its_controller_dies_and_when_its_watchdog_dies_too_by_what_is_remembered()
 {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    let (endpoint, nobody) = (moto.endpoint(), free_port());
    let data = fleet.readable();
    std::fs::create_dir_all(&data).unwrap();
    let machines = format!(
        r#"
        files = {{ paths = ["{}"] }}
        [vm.web]
        template = "cloudformation-vm.yaml.tera"
        vars = {{ image = "ami-12c6146b" }}
        [vm.web.cloudformation]
        region = "{REGION}"
        endpoint = "{endpoint}"
        access_key_id = {id}
        secret_access_key = {secret}
        [recovery.site]
        rto = "1h"
        steps = [{{ rebuild = "web" }}, {{ wait = {{ tcp = "web:80" }}, timeout = "1h" }}]
        "#,
        data.display()
    );
    let yearly = schedules::yearly();
    let drill = format!(
        r#"
        [drill.site]
        recovery = "site"
        schedule = "{yearly}"
        [drill.site.stand_in.web]
        reach = {{ "web:80" = "127.0.0.1:{nobody}" }}
        "#
    );
    fleet.declare("pages", &format!("{machines}{drill}"));
    fleet.expect(&["backup", "pages"], 0);
    fleet.expect(&["rebuild", "web"], 0);
    let running = things(&moto).await;

    let mut controller = cut_off(&moto, &fleet, &running).await;
    assert_eq!(watchdogs(&fleet).len(), 1);
    controller.kill().unwrap();
    controller.wait().unwrap();
    until_nothing_else_is_there(&moto, &running).await;
    let left = || {
        std::fs::read_dir(fleet.state().join("stand-ins"))
            .unwrap()
            .flatten()
            .any(|it| it.file_name().to_string_lossy().ends_with(".json"))
    };
    let deadline = Instant::now() + READY;
    while left() || !watchdogs(&fleet).is_empty() {
        assert!(Instant::now() < deadline, "{:?}", watchdogs(&fleet));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let said = std::fs::read_to_string(fleet.state().join("stand-ins/site.log")).unwrap();
    assert!(said.contains("the controller is gone") && !said.contains(SECRET), "{said}");

    // Nobody is left who could remove them: what this host remembers is, whatever is declared by then.
    let mut controller = cut_off(&moto, &fleet, &running).await;
    for pid in watchdogs(&fleet) {
        kill(pid);
    }
    controller.kill().unwrap();
    controller.wait().unwrap();
    fleet.declare("pages", &machines);
    let planned = fleet.expect(&["plan"], 10);
    assert!(planned.contains("remove what drill site left of web"), "{planned}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(things(&moto).await, running);
    assert!(!left());
}

/// A machine `web` of a stack at `endpoint`, and the recovery that makes it.
fn web(fleet: &mut Fleet, endpoint: &str) -> String {
    fleet.allow_machines(&format!("cloudformation:{REGION}"));
    let (id, secret) = (fleet.secret(KEY_ID), fleet.secret(SECRET));
    std::fs::create_dir_all(fleet.readable()).unwrap();
    format!(
        r#"
        files = {{ paths = ["{}"] }}
        [vm.web]
        template = "cloudformation-vm.yaml.tera"
        vars = {{ image = "ami-12c6146b" }}
        [vm.web.cloudformation]
        region = "{REGION}"
        endpoint = "{endpoint}"
        access_key_id = {id}
        secret_access_key = {secret}
        [recovery.site]
        rto = "1h"
        steps = [{{ rebuild = "web" }}]
        "#,
        fleet.readable().display()
    )
}

/// Has the server never tell of a change set, and kills whoever asks for it.
async fn killed_while_it_previews(
    moto: &Moto,
    fleet: &Fleet,
    between: &GoBetween,
    command: &[&str],
) -> String {
    let before = things(moto).await;
    between.play("DescribeChangeSet", Trick::Hold);
    let mut previewing = fleet.command(command);
    let mut previewing = previewing.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_a_preview_is_there(moto, &before).await;
    let deadline = Instant::now() + READY;
    while between.is_to_play("DescribeChangeSet") {
        assert!(Instant::now() < deadline, "nobody asks for the change set");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for pid in watchdogs(fleet) {
        kill(pid);
    }
    previewing.kill().unwrap();
    previewing.wait().unwrap();
    let now = things(moto).await;
    let mut left = now.difference(&before);
    left.next().unwrap().clone()
}

fn remembered(fleet: &Fleet, folder: &str) -> usize {
    let entries = std::fs::read_dir(fleet.state().join(folder)).into_iter().flatten().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "json")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_preview_left_whose_controller_was_killed_is_removed_by_a_later_pass() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    let (between, endpoint) = GoBetween::start(&moto).await;
    let web = web(&mut fleet, &endpoint);
    let drill = "[drill.site]\nrecovery = \"site\"\nschedule = \"0 5 1 1 *\"\n";
    fleet.declare("pages", &format!("{web}{drill}"));
    fleet.expect(&["backup", "pages"], 0);
    let before = things(&moto).await;
    fleet.expect(&["rebuild", "web", "--dry-run"], 0);
    assert_eq!(things(&moto).await, before);
    assert_eq!(std::fs::read_dir(fleet.state().join("previews")).unwrap().count(), 0, "nothing stays of it");

    for (command, folder, planned) in [
        (&["rebuild", "web", "--dry-run"][..], "previews", "remove what a preview left of web"),
        (&["drill", "site"][..], "stand-ins", "remove what drill site left of web"),
    ] {
        let left = killed_while_it_previews(&moto, &fleet, &between, command).await;
        assert!(left.contains("web-preview-"), "{left}");
        assert_eq!(remembered(&fleet, folder), 1);
        let plan = fleet.command(&["plan"]).output().unwrap();
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains(planned), "{plan}");
        let applied = fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[applied.stdout, applied.stderr].concat()).into_owned();
        assert_eq!(things(&moto).await, before, "{said}");
        assert_eq!(remembered(&fleet, folder), 0, "{said}");
    }

    // The watchdog of a drill does it at once.
    between.play("DescribeChangeSet", Trick::Hold);
    let mut controller =
        fleet.command(&["drill", "site"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until_a_preview_is_there(&moto, &before).await;
    controller.kill().unwrap();
    controller.wait().unwrap();
    until_nothing_else_is_there(&moto, &before).await;
    let deadline = Instant::now() + READY;
    while remembered(&fleet, "stand-ins") > 0 {
        assert!(Instant::now() < deadline, "it is still written down");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bears_the_name_of_a_preview_and_is_anything_else_by_now_is_left_alone_and_told() {
    let (moto, mut fleet) = (Moto::with_stacks(), Fleet::new());
    let (between, endpoint) = GoBetween::start(&moto).await;
    let web = web(&mut fleet, &endpoint);
    fleet.declare("pages", &web);
    fleet.expect(&["backup", "pages"], 0);
    let stack = killed_while_it_previews(&moto, &fleet, &between, &["rebuild", "web", "--dry-run"]).await;
    let name = stack.split('/').nth(1).unwrap();
    let query = async |action, of: &[(&str, &str)]| {
        let form = [&[("Action", action)], of].concat();
        moto.query("cloudformation", "2010-05-15", &form).await
    };
    let told = async || {
        let applied = fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[applied.stdout, applied.stderr].concat()).into_owned();
        assert!(things(&moto).await.contains(&stack), "{said}");
        assert!(said.contains(name) && said.contains("look whose it is, and delete it"), "{said}");
        assert_eq!(remembered(&fleet, "previews"), 1);
        said
    };
    // Somebody executes the change set, so that something stands there.
    let listed = query("ListChangeSets", &[("StackName", name)]).await;
    let [change_set] = &elements(&listed, "ChangeSetId")[..] else { panic!("{listed}") };
    query("ExecuteChangeSet", &[("ChangeSetName", change_set)]).await;
    assert!(told().await.contains("CREATE_COMPLETE"));
    // Once he has deleted it nothing is left.
    query("DeleteStack", &[("StackName", name)]).await;
    let applied = fleet.command(&["apply", "--yes"]).output().unwrap();
    assert_eq!(remembered(&fleet, "previews"), 0, "{}", String::from_utf8_lossy(&applied.stderr));
}

pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
