//! What DynamoDB keeps of a table by itself, held to what a commit declares, as moto plays it. moto's backups are whole at once,
//! and its point-in-time recovery copies the table as it is now, whatever the moment.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use aws_sdk_dynamodb::{
    Client,
    types::{
        AttributeDefinition, AttributeValue, BackupSummary, BillingMode, KeySchemaElement, KeyType,
        PointInTimeRecoverySpecification, ScalarAttributeType,
    },
};
use backstay::{
    aws::DynamodbOptions,
    sources::{Source, dynamodb::DynamodbSource},
};
use serde_json::{Value, json};

use crate::{
    lab::{
        fleet::Fleet,
        moto::{GoBetween, KEY_ID, Moto, REGION, SECRET, Trick},
        schedules,
    },
    provider_conformance::{Names, conforms},
};

/// Makes the table, empty.
async fn create(client: &Client) {
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let kind = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let create = client.create_table().table_name("sessions").key_schema(key);
    let create = create.attribute_definitions(kind.build().unwrap()).billing_mode(BillingMode::PayPerRequest);
    create.send().await.unwrap();
}

/// A table with one item, and a fleet that may reach it.
pub struct Table {
    pub client: Client,
    pub fleet: Fleet,
    keys: String,
}

impl Table {
    pub async fn make(moto: &Moto) -> Self {
        let client = moto.client();
        create(&client).await;
        let mut fleet = Fleet::new();
        let keys =
            format!("access_key_id = {}\nsecret_access_key = {}", fleet.secret(KEY_ID), fleet.secret(SECRET));
        let table = Self { client, fleet, keys };
        table.put("before").await;
        table
    }

    pub async fn put(&self, content: &str) {
        let put = self.client.put_item().table_name("sessions").item("id", AttributeValue::S("1".to_owned()));
        put.item("content", AttributeValue::S(content.to_owned())).send().await.unwrap();
    }

    pub async fn content(&self, table: &str) -> String {
        let get = self.client.get_item().table_name(table).key("id", AttributeValue::S("1".to_owned()));
        get.send().await.unwrap().item.unwrap()["content"].as_s().unwrap().clone()
    }

    pub fn declare(&self, endpoint: &str, head: &str, more: &str) {
        self.declare_at(REGION, endpoint, head, more);
    }

    fn declare_at(&self, region: &str, endpoint: &str, head: &str, more: &str) {
        let at = format!("region = \"{region}\"\ntable = \"sessions\"\nendpoint = \"{endpoint}\"");
        self.fleet
            .declare("sessions", &format!("{head}\n[backup.sessions.dynamodb]\n{at}\n{}\n{more}", self.keys));
    }

    /// Whether point-in-time recovery is on, and of how many days.
    async fn recovery(&self) -> Option<i32> {
        let told = self.client.describe_continuous_backups().table_name("sessions").send().await.unwrap();
        let told = told.continuous_backups_description.unwrap().point_in_time_recovery_description.unwrap();
        let is_on = told.point_in_time_recovery_status().unwrap().as_str() == "ENABLED";
        is_on.then(|| told.recovery_period_in_days().unwrap())
    }

    /// Somebody sets it, past Backstay.
    async fn set_recovery(&self, on: bool) {
        let wanted = PointInTimeRecoverySpecification::builder().point_in_time_recovery_enabled(on);
        let set = self.client.update_continuous_backups().table_name("sessions");
        set.point_in_time_recovery_specification(wanted.build().unwrap()).send().await.unwrap();
    }

    pub async fn backups(&self) -> Vec<BackupSummary> {
        self.client.list_backups().table_name("sessions").send().await.unwrap().backup_summaries.unwrap()
    }

    fn status(&self) -> Value {
        let said = self.fleet.expect(&["status", "-o", "json"], 4);
        serde_json::from_str(&said).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dynamodb_does_what_every_provider_must() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let source = DynamodbSource::new(moto.options("sessions")).unwrap();
    let names = Names { taken: "sessions", new: ["copy", "then"] };
    conforms(source.provider().unwrap(), &names).await;
    assert_eq!(table.content("copy").await, "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_do_what_the_page_says_is_enough_and_no_more_than_that() {
    let moto = Moto::start();
    Table::make(&moto).await;
    let page = include_str!("../../docs/providers.md");
    let keeps = moto.key_by_page("keeps", page, &[0]).await;
    let restores = moto.key_by_page("restores", page, &[0, 1, 2, 3]).await;
    moto.guard().await;
    let with = |credentials| {
        DynamodbSource::new(DynamodbOptions { credentials, ..moto.options("sessions") }).unwrap()
    };
    let error = with(keeps).provider().unwrap().rewind(jiff::Timestamp::now(), "then").await.unwrap_err();
    assert!(error.to_string().contains("its policy allows"), "{error}");
    let names = Names { taken: "sessions", new: ["copy", "then"] };
    conforms(with(restores).provider().unwrap(), &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn point_in_time_recovery_is_kept_as_declared_and_switched_off_only_when_that_is_declared() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let fleet = &table.fleet;
    table.declare(&moto.endpoint(), "", "point_in_time = \"35d\"");
    let said = fleet.expect(&["plan"], 10);
    assert!(said.contains("set the provider of sessions: point-in-time recovery 35d"), "{said}");
    assert!(said.contains("declared, and point-in-time recovery is off"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(table.recovery().await, Some(35));
    assert!(!fleet.expect(&["plan"], 0).contains("set the provider"));
    let said = fleet.expect(&["status", "sessions"], 0);
    assert!(said.contains("its provider has point-in-time recovery 35d; any second of "), "{said}");

    table.set_recovery(false).await;
    let said = fleet.expect(&["drift"], 10);
    assert!(said.contains("provider of sessions") && said.contains("point-in-time recovery off"), "{said}");
    let said = fleet.expect(&["status"], 4);
    assert!(said.contains("declared is point-in-time recovery 35d, and its provider has"), "{said}");
    let said = fleet.expect(&["plan"], 10);
    assert!(said.contains("somebody set it otherwise"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(table.recovery().await, Some(35));

    // What is not declared is left as it is.
    table.declare(&moto.endpoint(), "", "");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(table.recovery().await, Some(35));

    // Declared alone it is not done.
    table.declare(&moto.endpoint(), "", "point_in_time = \"off\"");
    let said = fleet.expect(&["plan"], 5);
    assert!(said.contains("changes of what the provider of sessions keeps are withheld"), "{said}");
    assert!(said.contains("any second of ") && said.contains("to have exactly this done"), "{said}");
    let said = fleet.expect(&["apply", "--yes"], 5);
    assert!(!said.contains("set the provider"), "{said}");
    assert_eq!(table.recovery().await, Some(35));
    let said = fleet.expect(&["status"], 5);
    assert!(said.contains("held back by rule `recoverable-seconds`"), "{said}");
    let plan = fleet.expect(&["plan", "-o", "json"], 5);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let plan = plan["withheld"][0]["plan"].as_str().unwrap();
    let printed = fleet.expect(&["approve", plan, "--reason", "it is copied", "--toml"], 0);
    assert!(printed.contains("# that the provider of sessions keeps fewer seconds"), "{printed}");
    let said = fleet.expect(&["approve", plan, "--reason", "it is copied"], 0);
    assert!(said.contains("that the provider of sessions keeps fewer seconds"), "{said}");
    let said = fleet.expect(&["plan"], 10);
    assert!(said.contains("this is lost: any second of ") && said.contains("are approved until"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(table.recovery().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_does_not_answer_changes_nothing() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, "", "point_in_time = \"on\"");
    for _ in 0..20 {
        between.play("DescribeContinuousBackups", Trick::Refuse("AccessDeniedException"));
    }
    let said = table.fleet.expect(&["plan"], 10);
    assert!(said.contains("the provider of sessions") && said.contains("it can't be seen"), "{said}");
    assert!(!said.contains("set the provider"), "{said}");
    let said = table.fleet.expect(&["status"], 4);
    assert!(said.contains("what its provider keeps can't be seen"), "{said}");
    let args = ["restore", "sessions", "--at", "2026-01-01T00:00:00Z", "--to", "table:then"];
    let said = table.fleet.expect(&args, 1);
    assert!(said.contains("its provider, which may keep that second, can't be seen"), "{said}");
    assert_eq!(between.requests("UpdateContinuousBackups"), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_within_the_providers_window_comes_back_as_a_new_table() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, "", "point_in_time = \"on\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    let said = table.fleet.expect(&["status", "-o", "json"], 0);
    let status: Value = serde_json::from_str(&said).unwrap();
    let window = &status["backups"]["sessions"]["provider"]["settings"]["known"]["window"];
    let (first, last) = (window["start"].as_str().unwrap(), window["end"].as_str().unwrap());
    let args = ["restore", "sessions", "--at", first, "--to", "table:then"];
    let said = table.fleet.expect(&[&args[..], &["--dry-run"]].concat(), 0);
    assert!(said.contains("have the provider of sessions make then of"), "{said}");
    let said = table.fleet.expect(&args, 0);
    assert!(said.contains("restored to table then"), "{said}");
    assert_eq!(table.content("then").await, "before");
    let asked = &between.requests("RestoreTableToPointInTime")[0];
    let expected = first.parse::<jiff::Timestamp>().unwrap().as_second();
    assert_eq!(asked["RestoreDateTime"].as_f64().unwrap() as i64, expected, "{asked}");

    let said = table.fleet.expect(&args, 4);
    assert!(said.contains("table then exists"), "{said}");
    let later = last.parse::<jiff::Timestamp>().unwrap() + jiff::SignedDuration::from_millis(1);
    let said =
        table.fleet.expect(&["restore", "sessions", "--at", &later.to_string(), "--to", "table:late"], 1);
    assert!(said.contains("its provider can bring back any second up to"), "{said}");
}

fn unfinished(_: &Value, answer: &mut Value) {
    answer["BackupDescription"]["BackupDetails"]["BackupStatus"] = json!("CREATING");
}

/// A policy that keeps what is asked for a second.
fn short() -> String {
    let nightly = schedules::nightly();
    format!(
        "policy = \"short\"\n[policy.short]\nfull = \"{nightly}\"\nkeep = {{ full = \"14d\", manual = \"1s\" }}\n\
                     verify = {{ metadata = \"1d\", data = \"7d\" }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn native_backups_are_artifacts_from_their_making_to_their_deletion() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let fleet = &table.fleet;
    table.declare(&moto.endpoint(), &short(), "method = \"native\"");
    let said = fleet.expect(&["apply", "--yes"], 0);
    assert!(said.contains("dynamodb-backup arn:aws:dynamodb:"), "{said}");
    let made = table.backups().await;
    assert_eq!(made.len(), 1);
    assert!(made[0].backup_name().unwrap().starts_with("backstay-"), "{made:?}");
    let said = fleet.expect(&["list", "sessions"], 0);
    assert_eq!(said.matches("native").count(), 2, "both stores have the manifest: {said}");
    let said = fleet.expect(&["verify", "sessions", "--data"], 0);
    assert!(
        said.contains("verify metadata of sessions") && !said.contains("verify data"),
        "no deeper one: {said}"
    );

    table.put("after").await;
    let said = fleet.expect(&["restore", "sessions", "--to", "table:copy"], 0);
    assert!(said.contains("restored to table copy"), "{said}");
    assert_eq!(table.content("copy").await, "before");
    let said = fleet.expect(&["restore", "sessions", "--in-place"], 1);
    assert!(said.contains("its provider makes something new") && said.contains("--to table:NAME"), "{said}");

    // Manual ones expire after a second; the newest good one never does.
    fleet.expect(&["backup", "sessions"], 0);
    fleet.expect(&["backup", "sessions"], 0);
    assert_eq!(table.backups().await.len(), 3);
    let deleted = loop {
        // Whatever is younger than a second is expired by the next pass.
        let said = fleet.expect(&["apply", "--yes"], 0);
        if said.contains("delete sessions") {
            break said;
        }
    };
    assert!(deleted.contains("its provider deleted it"), "{deleted}");
    assert_eq!(table.backups().await.len(), 2, "{deleted}");
    fleet.expect(&["verify", "sessions"], 0);

    for backup in table.backups().await {
        table.client.delete_backup().backup_arn(backup.backup_arn().unwrap()).send().await.unwrap();
    }
    let said = fleet.expect(&["verify", "sessions"], 7);
    assert!(said.contains("is gone at its provider"), "{said}");
    assert_eq!(
        table.status()["backups"]["sessions"]["stores"]["primary"]["damaged"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_backup_that_never_becomes_available_is_no_artifact_and_is_not_left_behind() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &short(), "method = \"native\"");
    fn broken(_: &Value, answer: &mut Value) {
        answer["BackupDescription"]["BackupDetails"]["BackupStatus"] = json!("FAILED");
    }
    between.play("DescribeBackup", Trick::Alter(|_| {}, broken));
    between.play("DescribeBackup", Trick::Alter(|_| {}, |_, _| {}));
    between.play("DescribeBackup", Trick::Alter(|_| {}, unfinished));
    let said = table.fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(between.requests("CreateBackup").len(), 2, "it is made again under a new name");
    assert_eq!(between.requests("DeleteBackup").len(), 1, "what failed is deleted");
    let left = table.backups().await;
    let arn = left[0].backup_arn().unwrap();
    assert!(left.len() == 1 && said.contains(arn), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_while_the_provider_does_not_answer() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &short(), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    let before = table.fleet.expect(&["list", "sessions"], 0);
    for _ in 0..40 {
        between.play("DescribeBackup", Trick::Refuse("AccessDeniedException"));
    }
    let said = loop {
        let run = table.fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        if said.contains("delete sessions") {
            break said;
        }
    };
    assert!(said.contains("failed to ask for a backup of"), "{said}");
    assert_eq!(table.fleet.expect(&["list", "sessions"], 0), before);
    assert_eq!(table.backups().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_controller_had_the_provider_make_is_deleted_and_made_anew() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &short(), "method = \"native\"");
    for _ in 0..1000 {
        between.play("DescribeBackup", Trick::Alter(|_| {}, unfinished));
    }
    let mut killed =
        table.fleet.command(&["apply", "--yes"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while between.requests("DescribeBackup").is_empty() {
        assert!(Instant::now() < deadline, "no backup was begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    between.stop("DescribeBackup");
    let first = table.backups().await[0].backup_arn().unwrap().to_owned();
    assert!(!table.fleet.expect(&["list", "sessions"], 0).contains("native"), "no manifest, no artifact");
    let said = table.fleet.expect(&["apply", "--yes"], 0);
    assert!(
        said.contains("clean up after sessions") && said.contains("its provider deleted what it had made"),
        "{said}"
    );
    let left = table.backups().await;
    assert!(left.len() == 1 && left[0].backup_arn() != Some(first.as_str()), "{left:?}");
    assert_eq!(table.fleet.expect(&["list", "sessions"], 0).matches("native").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_native_backup_whose_answer_is_lost_is_made_once() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &short(), "method = \"native\"");
    between.play("CreateBackup", Trick::Lose);
    let said = table.fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(between.requests("CreateBackup").len(), 1);
    let made = table.backups().await;
    assert!(made.len() == 1 && said.contains(made[0].backup_arn().unwrap()), "{made:?}\n{said}");

    // What is held back is asked for again, and is nobody's meanwhile.
    between.play("CreateBackup", Trick::Refuse("LimitExceededException"));
    table.fleet.expect(&["backup", "sessions"], 0);
    assert_eq!((between.requests("CreateBackup").len(), table.backups().await.len()), (3, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_in_another_region_or_account_is_unknown_and_never_gone() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    create(&moto.client_in("eu-west-1")).await;
    let (between, endpoint) = GoBetween::start(&moto).await;
    table.declare(&endpoint, &short(), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    assert_eq!(table.backups().await.len(), 2);

    table.declare_at("eu-west-1", &endpoint, &short(), "method = \"native\"");
    let said = table.fleet.expect(&["apply", "--yes"], 4);
    assert!(
        !said.contains("delete sessions") && said.contains("dynamodb-backup arn:aws:dynamodb:eu-west-1"),
        "{said}"
    );
    let said = table.fleet.expect(&["plan"], 4);
    assert!(
        said.contains("retention of 2 native artifacts of sessions waits: it lies with region eu-north-1"),
        "{said}"
    );
    let said = table.fleet.expect(&["verify", "sessions"], 4);
    assert!(said.contains("eu-west-1 is declared now; declare the source as it was"), "{said}");
    assert!(!said.contains("damaged") && !said.contains("is gone"), "{said}");
    let status = table.status();
    for store in ["primary", "second"] {
        let held = &status["backups"]["sessions"]["stores"][store];
        assert_eq!(held["damaged"], json!([]));
        assert_eq!(held["out_of_reach"].as_object().unwrap().len(), 2, "{held}");
    }
    assert_eq!(table.fleet.expect(&["list", "sessions"], 0).matches("unknown").count(), 4);
    assert_eq!(table.backups().await.len(), 2, "nothing went");

    // As it was before: what is in the other region is out of reach in its turn.
    table.declare(&endpoint, &short(), "method = \"native\"");
    let said = table.fleet.expect(&["plan"], 10);
    assert!(
        said.contains("retention of 1 native artifact of sessions waits: it lies with region eu-west-1"),
        "{said}"
    );
    assert_eq!(table.fleet.expect(&["list", "sessions"], 0).matches("native").count(), 4);

    fn other(_: &Value, answer: &mut Value) {
        let arn = answer["Table"]["TableArn"].as_str().unwrap().replace("123456789012", "210987654321");
        answer["Table"]["TableArn"] = json!(arn);
    }
    for _ in 0..100 {
        between.play("DescribeTable", Trick::Alter(|_| {}, other));
    }
    let said = table.fleet.expect(&["plan"], 10);
    assert!(
        said.contains("it lies in account 123456789012, and the declared access key is of 210987654321"),
        "{said}"
    );
    between.stop("DescribeTable");
    assert!(!table.fleet.expect(&["plan"], 10).contains("210987654321"));
}

/// Runs passes until one deletes something: whatever is manual and older than a second may go.
fn deleted_by(table: &Table) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let run = table.fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        if said.contains("delete sessions") {
            return said;
        }
        assert!(Instant::now() < deadline, "nothing is deleted: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn natives_of_a_table_that_is_captured_by_itself_now_are_let_go_by_the_policy() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    table.declare(&moto.endpoint(), &short(), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    assert_eq!(table.backups().await.len(), 2);
    table.declare(&moto.endpoint(), &short(), "method = \"logical\"");
    table.fleet.expect(&["backup", "sessions"], 0);
    let deleted = deleted_by(&table);
    assert!(deleted.contains("its provider deleted it"), "{deleted}");
    assert_eq!(table.backups().await.len(), 1, "the scheduled one is younger than its rule: {deleted}");
    for backup in table.backups().await {
        table.client.delete_backup().backup_arn(backup.backup_arn().unwrap()).send().await.unwrap();
    }
    let said = table.fleet.expect(&["verify", "sessions"], 7);
    assert!(said.contains("is gone at its provider"), "what is still asked for is still missed: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_declared_no_more_may_name_what_its_provider_keeps() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    table.declare(&moto.endpoint(), &short(), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    table.fleet.expect(&["verify", "sessions"], 0);
    table.fleet.give_up_store("second");
    table.fleet.expect(&["backup", "sessions"], 0);
    table.fleet.expect(&["backup", "sessions"], 0);
    let deleted = deleted_by(&table);
    let kept = "its provider keeps it: store second was in use when it was made and is declared no more";
    assert!(deleted.contains(kept), "{deleted}");
    let artifacts = table.fleet.expect(&["list", "sessions"], 0).matches("native").count();
    assert!(
        table.backups().await.len() > artifacts,
        "the manifest went, and the backup is still there: {deleted}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_lost_comes_back_from_what_its_provider_keeps() {
    let moto = Moto::start();
    let table = Table::make(&moto).await;
    table.declare(&moto.endpoint(), &short(), "method = \"native\"");
    table.fleet.expect(&["apply", "--yes"], 0);
    table.client.delete_table().table_name("sessions").send().await.unwrap();
    let run = table.fleet.command(&["verify", "sessions"]).output().unwrap();
    let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    assert!(said.contains("✓ verify metadata of sessions") && !said.contains("is gone"), "{said}");
    let said = table.fleet.expect(&["restore", "sessions", "--to", "table:sessions"], 0);
    assert!(said.contains("restored to table sessions"), "{said}");
    assert_eq!(table.content("sessions").await, "before");
}
