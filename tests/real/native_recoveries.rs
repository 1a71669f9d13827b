//! Recoveries of what providers keep, as moto and our imitation of Atlas play them: what was begun is taken up again, and what somebody
//! else has is left alone.

use std::{
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use backstay::inventory::RECOVERY_TAG;
use serde_json::{Value, json};

use crate::{
    atlas_kept::Asking,
    dynamodb_kept::Table,
    lab::{
        atlas::{self, Atlas},
        fleet::Fleet,
        moto::{GoBetween, Moto, Trick},
        schedules,
    },
    rds_kept::Instance,
};

/// A policy whose fulls are made once, and a recovery with these steps.
fn recovered(steps: &str) -> String {
    let nightly = schedules::nightly();
    format!(
        "policy = \"short\"\n[policy.short]\nrto = \"1h\"\nfull = \"{nightly}\"\nkeep = {{ full = \"14d\" }}\n\
         verify = {{ metadata = \"1d\" }}\n[recovery.site]\nsteps = [{steps}]"
    )
}

fn begin(fleet: &Fleet, arguments: &[&str]) -> Child {
    let mut command = fleet.command(arguments);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Kills a controller once something is so.
async fn kill_once(mut controller: Child, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}");
        assert!(controller.try_wait().unwrap().is_none(), "it ended before {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    controller.kill().unwrap();
    controller.wait().unwrap();
}

async fn tags(table: &Table, name: &str) -> Vec<(String, String)> {
    let described = table.client.describe_table().table_name(name).send().await.unwrap();
    let arn = described.table.unwrap().table_arn.unwrap();
    let listed = table.client.list_tags_of_resource().resource_arn(arn).send().await.unwrap();
    listed.tags().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect()
}

fn status(fleet: &Fleet) -> Value {
    let run = fleet.command(&["status", "-o", "json"]).output().unwrap();
    serde_json::from_slice(&run.stdout).unwrap()
}

/// What a command says, in one line: tables wrap theirs.
fn said_by(fleet: &Fleet, arguments: &[&str], code: i32) -> String {
    fleet.expect(arguments, code).split_whitespace().collect::<Vec<_>>().join(" ")
}

const REBUILD: [&str; 3] = ["rebuild", "--recovery", "site"];
const RESUME: [&str; 4] = ["rebuild", "--recovery", "site", "--resume"];
const ANEW: [&str; 4] = ["rebuild", "--recovery", "site", "--anew"];

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_comes_back_under_its_own_name_and_is_waited_for() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let fleet = &table.fleet;
    let steps = "{ restore = \"sessions\", to = \"table:sessions\" }, { wait = { source = \"sessions\" } }";
    table.declare(&moto.endpoint(), &recovered(steps), "method = \"native\"");
    fleet.expect(&["apply", "--yes"], 0);
    let said = said_by(fleet, &REBUILD, 4);
    assert!(said.contains("table sessions exists, and nothing tells that this recovery made it"), "{said}");
    assert_eq!(tags(&table, "sessions").await, []);

    table.client.delete_table().table_name("sessions").send().await.unwrap();
    let said = said_by(fleet, &[&ANEW[..], &["--dry-run"]].concat(), 0);
    assert!(said.contains("restore sessions 2") && said.contains("from primary to table sessions"), "{said}");
    let diagram = fleet.expect(&[&ANEW[..], &["--dry-run", "--diagram"]].concat(), 0);
    assert!(diagram.contains("to table sessions\"]") && diagram.contains("s0 --> s1"), "{diagram}");
    let plan = fleet.expect(&[&ANEW[..], &["--dry-run", "-o", "json"]].concat(), 0);
    assert!(plan.contains("\"table:sessions\""), "{plan}");
    let said = said_by(fleet, &ANEW, 0);
    assert!(said.contains("restored to table sessions") && said.contains("within the"), "{said}");
    assert_eq!(table.content("sessions").await, "before");
    let [(key, mark)] = &tags(&table, "sessions").await[..] else { panic!("no tag") };
    assert!(key == RECOVERY_TAG && mark.starts_with("my-fleet/site/"), "{mark}");
    let site = &status(fleet)["recoveries"]["site"];
    assert!(site["last_whole"]["seconds"].is_u64() && site["estimate"]["seconds"].is_u64(), "{site:#}");
    assert!(site["last_whole"]["worked"]["restore"].is_u64(), "{site:#}");

    // What came back is backed up like what was there.
    table.put("after").await;
    fleet.expect(&["backup", "sessions"], 0);
    let said = said_by(fleet, &REBUILD, 4);
    assert!(said.contains("says that another recovery or step made it: my-fleet/site/"), "{said}");
    assert_eq!(table.content("sessions").await, "after", "nothing goes over what is there");
}

/// A recovery to `sessions-2`, with something between the controller and moto, and a first backup.
async fn begun(moto: &Moto) -> (Table, GoBetween) {
    let table = Table::make(moto).await;
    let (between, endpoint) = GoBetween::start(moto).await;
    let steps = "{ restore = \"sessions\", to = \"table:sessions-2\" }";
    table.declare(&endpoint, &recovered(steps), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    (table, between)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_controller_s_table_is_taken_up_again_marked_or_not() {
    fn creating(asked: &Value, answer: &mut Value) {
        if asked["TableName"] == "sessions-2" && answer["Table"].is_object() {
            answer["Table"]["TableStatus"] = json!("CREATING");
        }
    }
    for is_marked in [true, false] {
        let moto = Moto::start();
        let (table, between) = begun(&moto).await;
        for _ in 0..2000 {
            between.play("DescribeTable", Trick::Alter(|_| {}, creating));
            if !is_marked {
                between.play("TagResource", Trick::Refuse("ResourceInUseException"));
            }
        }
        let controller = begin(&table.fleet, &REBUILD);
        kill_once(controller, "nothing was made", async || match is_marked {
            // What was asked for may not be done yet.
            true => {
                !between.requests("TagResource").is_empty() && !tags(&table, "sessions-2").await.is_empty()
            }
            false => between.requests("TagResource").len() > 1,
        })
        .await;
        between.stop("DescribeTable");
        between.stop("TagResource");
        assert_eq!(tags(&table, "sessions-2").await.is_empty(), !is_marked);
        // Something newer is another table's.
        table.put("after").await;
        table.fleet.expect(&["backup", "sessions"], 0);
        table.fleet.expect(&REBUILD, 1);
        let said = said_by(&table.fleet, &RESUME, 0);
        assert!(said.contains("restored to table sessions-2"), "{said}");
        let begun = between.requests("RestoreTableFromBackup");
        assert_eq!(begun.len(), 1, "it was begun once: {begun:?}");
        assert_eq!(table.content("sessions-2").await, "before");
        assert_eq!(tags(&table, "sessions-2").await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_else_restored_is_not_taken_for_the_recovery_s_own() {
    let moto = Moto::start();
    let (table, between) = begun(&moto).await;
    let backups = table.backups().await;
    let restore = table.client.restore_table_from_backup().target_table_name("sessions-2");
    restore.backup_arn(backups[0].backup_arn().unwrap()).send().await.unwrap();
    for arguments in [&REBUILD[..], &ANEW[..]] {
        let said = said_by(&table.fleet, arguments, 4);
        assert!(said.contains("table sessions-2 exists, and nothing tells"), "{said}");
    }
    assert_eq!(tags(&table, "sessions-2").await, []);
    assert!(
        between.requests("RestoreTableFromBackup").is_empty() && between.requests("TagResource").is_empty()
    );
    // The way on that it names.
    table.client.delete_table().table_name("sessions-2").send().await.unwrap();
    between.play("RestoreTableFromBackup", Trick::Lose);
    let said = said_by(&table.fleet, &RESUME, 0);
    assert!(said.contains("restored to table sessions-2"), "a lost answer is looked for: {said}");
    assert_eq!(table.content("sessions-2").await, "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_is_brought_back_by_dynamodb_itself() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    let steps = "{ restore = \"sessions\", to = \"table:sessions-then\" }";
    table.declare(&endpoint, &recovered(steps), "method = \"native\"\npoint_in_time = \"on\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    let settings = &status(&table.fleet)["backups"]["sessions"]["provider"]["settings"]["known"];
    let first = settings["window"]["start"].as_str().unwrap().to_owned();
    let said = said_by(&table.fleet, &[&REBUILD[..], &["--at", &first]].concat(), 0);
    assert!(said.contains("restored to table sessions-then"), "{said}");
    let asked = &between.requests("RestoreTableToPointInTime")[0];
    let expected = first.parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(asked["RestoreDateTime"].as_f64().unwrap() as i64, expected, "{asked}");
    assert!(between.requests("RestoreTableFromBackup").is_empty());
    assert_eq!(table.content("sessions-then").await, "before");
    assert_eq!(tags(&table, "sessions-then").await.len(), 1);
}

async fn mark_of(instance: &Instance, name: &str) -> Option<String> {
    let found = instance.client.describe_db_instances().db_instance_identifier(name).send().await.ok()?;
    let tags = found.db_instances()[0].tag_list().iter();
    let mut marks = tags.filter(|tag| tag.key() == Some(RECOVERY_TAG));
    marks.next().map(|tag| tag.value().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_a_killed_controller_began_is_taken_up_again_and_no_other_is() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    let fleet = &instance.fleet;
    let (between, endpoint) = GoBetween::start(&moto).await;
    let steps = "{ restore = \"customers\", to = \"instance:customers-2\" }";
    instance.declare_with(&endpoint, &recovered(steps), "point_in_time = \"on\"");
    fleet.expect(&["apply", "--yes"], 0);
    between.play("RestoreDBInstanceFromDBSnapshot", Trick::Hold);
    let controller = begin(fleet, &REBUILD);
    kill_once(controller, "nothing was made", async || instance.is_there("customers-2").await).await;
    let said = said_by(fleet, &RESUME, 0);
    assert!(said.contains("restored to instance customers-2"), "{said}");
    assert_eq!(between.requests("RestoreDBInstanceFromDBSnapshot").len(), 1, "it was begun once");
    let mark = mark_of(&instance, "customers-2").await.unwrap();
    assert!(mark.starts_with("my-fleet/site/"), "{mark}");

    let said = said_by(fleet, &REBUILD, 4);
    assert!(said.contains("instance customers-2 exists, and its tag"), "{said}");
    let taken = "{ restore = \"customers\", to = \"instance:customers\" }";
    instance.declare_with(&endpoint, &recovered(taken), "point_in_time = \"on\"");
    let said = said_by(fleet, &ANEW, 4);
    assert!(said.contains("instance customers exists, and nothing tells"), "{said}");
    assert_eq!(mark_of(&instance, "customers").await, None);
    assert_eq!(between.requests("RestoreDBInstanceFromDBSnapshot").len(), 1);

    // Any second.
    let then = "{ restore = \"customers\", to = \"instance:customers-then\" }";
    instance.declare_with(&endpoint, &recovered(then), "point_in_time = \"on\"");
    let settings = &status(fleet)["backups"]["customers"]["provider"]["settings"]["known"];
    let at = settings["window"]["end"].as_str().unwrap().to_owned();
    fleet.expect(&[&ANEW[..], &["--at", &at]].concat(), 0);
    assert_eq!(between.requests("RestoreDBInstanceToPointInTime").len(), 1);
    assert!(mark_of(&instance, "customers-then").await.is_some());
    let out = fleet.restored().join("runbooks");
    fleet.expect(&["runbook", "--out", out.to_str().unwrap()], 0);
    let page = std::fs::read_to_string(out.join("site.md")).unwrap();
    let line =
        "aws rds restore-db-instance-from-db-snapshot --db-snapshot-identifier backstay-my-fleet-customers-";
    assert!(page.contains(line) && page.contains("aws rds wait db-instance-available"), "{page}");
    assert!(page.contains(" --no-publicly-accessible "), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_a_killed_controller_asked_atlas_for_is_followed_to_its_end() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let fleet = &asking.fleet;
    let steps =
        |to: &str| format!("[recovery.site]\nsteps = [{{ restore = \"courses\", to = \"cluster:{to}\" }}]");
    asking.declare(&atlas, &steps("copy"));
    fleet.expect(&["apply", "--yes"], 0);
    atlas.play("POST restoreJobs", atlas::Trick::Hang);
    let controller = begin(fleet, &REBUILD);
    kill_once(controller, "no restore was asked for", async || !atlas.requests("GET restoreJob").is_empty())
        .await;
    assert_eq!(atlas.data("copy"), "", "it is erased, and holds nothing yet");
    atlas.go_on();
    let said = said_by(fleet, &RESUME, 0);
    assert!(said.contains("restored to cluster copy"), "{said}");
    assert_eq!((atlas.requests("POST restoreJobs").len(), atlas.data("copy").as_str()), (1, "before"));

    // Done meanwhile, it is not asked for again.
    asking.declare(&atlas, &steps("then"));
    atlas.play("POST restoreJobs", atlas::Trick::Hang);
    let controller = begin(fleet, &ANEW);
    let looks = atlas.requests("GET restoreJob").len();
    kill_once(controller, "no restore was asked for", async || {
        atlas.requests("GET restoreJob").len() > looks
    })
    .await;
    atlas.go_on();
    fleet.expect(&RESUME, 0);
    assert_eq!((atlas.requests("POST restoreJobs").len(), atlas.data("then").as_str()), (2, "before"));
    let said = said_by(fleet, &REBUILD, 4);
    assert!(said.contains("cluster then exists and holds what was restored into it"), "{said}");

    // Into what nobody gave for it nothing is restored, and what somebody else began is not the recovery's.
    atlas.add("sales", "orders", &[]);
    asking.declare(&atlas, &steps("sales"));
    let said = said_by(fleet, &ANEW, 4);
    assert!(said.contains("give it the tag backstay-restore = courses"), "{said}");
    atlas.add("third", "", &[("backstay-restore", "courses")]);
    asking.declare(&atlas, &steps("third"));
    atlas.restore_by_hand("third");
    let said = said_by(fleet, &ANEW, 4);
    assert!(said.contains("into third is not done yet"), "{said}");
    assert_eq!((atlas.requests("POST restoreJobs").len(), atlas.data("sales").as_str()), (2, "orders"));
}
