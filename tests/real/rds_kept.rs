//! What RDS keeps of an instance by itself, held to what a commit declares, as moto plays it. moto's snapshots are whole at once, it
//! runs no database, and an instance that it makes of a moment is a copy of the one that is there.

use aws_sdk_rds::Client;
use backstay::{
    aws::RdsOptions,
    sources::{Source, rds::RdsSource},
};
use serde_json::Value;

use crate::{
    lab::{
        fleet::Fleet,
        moto::{KEY_ID, Moto, REGION, SECRET},
        schedules,
    },
    provider_conformance::{Names, conforms},
};

/// An instance of MySQL, and a fleet that may reach it.
pub struct Instance {
    pub client: Client,
    pub fleet: Fleet,
    keys: String,
}

impl Instance {
    pub async fn make(moto: &Moto) -> Self {
        let client = moto.rds();
        let create = client.create_db_instance().db_instance_identifier("customers").engine("mysql");
        let create = create.db_instance_class("db.m5.large").allocated_storage(20).backup_retention_period(1);
        let create = create.master_username("admin").master_user_password("not-a-secret-either");
        create.send().await.unwrap();
        let mut fleet = Fleet::new();
        let keys =
            format!("access_key_id = {}\nsecret_access_key = {}", fleet.secret(KEY_ID), fleet.secret(SECRET));
        Self { client, fleet, keys }
    }

    pub fn declare(&self, endpoint: &str, more: &str) {
        self.declare_with(endpoint, &short(), more);
    }

    /// The same with another head of the backup.
    pub fn declare_with(&self, endpoint: &str, head: &str, more: &str) {
        let at = format!("region = \"{REGION}\"\ninstance = \"customers\"\nendpoint = \"{endpoint}\"");
        let backup = format!("{head}\n[backup.customers.rds]\n{at}\n{}\n{more}", self.keys);
        self.fleet.declare("customers", &backup);
    }

    /// Days of automated backups, and when in the day they are made.
    async fn automated(&self) -> (i32, String) {
        let found =
            self.client.describe_db_instances().db_instance_identifier("customers").send().await.unwrap();
        let found = &found.db_instances()[0];
        (found.backup_retention_period().unwrap(), found.preferred_backup_window().unwrap().to_owned())
    }

    /// The names of the snapshots that were asked for.
    async fn snapshots(&self) -> Vec<String> {
        let list =
            self.client.describe_db_snapshots().db_instance_identifier("customers").snapshot_type("manual");
        let found = list.send().await.unwrap();
        found.db_snapshots().iter().map(|it| it.db_snapshot_identifier().unwrap().to_owned()).collect()
    }

    pub async fn is_there(&self, name: &str) -> bool {
        let found = self.client.describe_db_instances().db_instance_identifier(name).send().await;
        found.is_ok_and(|found| found.db_instances().len() == 1)
    }
}

/// A policy that keeps what is asked for a second.
fn short() -> String {
    let nightly = schedules::nightly();
    format!(
        "policy = \"short\"\n[policy.short]\nfull = \"{nightly}\"\nkeep = {{ full = \"14d\", manual = \"1s\" }}\n\
                     verify = {{ metadata = \"1d\" }}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn rds_does_what_every_provider_must() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    let source = RdsSource::new(moto.instance("customers")).unwrap();
    let names = Names { taken: "customers", new: ["copy", "then"] };
    conforms(source.provider().unwrap(), &names).await;
    assert!(instance.is_there("copy").await && instance.is_there("then").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_do_what_the_page_says_is_enough_and_no_more_than_that() {
    let moto = Moto::with_rds();
    Instance::make(&moto).await;
    let page = include_str!("../../docs/providers.md");
    let keeps = moto.key_by_page("keeps", page, &[4]).await;
    let restores = moto.key_by_page("restores", page, &[4, 5, 6]).await;
    moto.guard().await;
    let with =
        |credentials| RdsSource::new(RdsOptions { credentials, ..moto.instance("customers") }).unwrap();
    let error = with(keeps).provider().unwrap().rewind(jiff::Timestamp::now(), "then").await.unwrap_err();
    assert!(error.to_string().contains("its policy allows"), "{error}");
    let names = Names { taken: "customers", new: ["copy", "then"] };
    conforms(with(restores).provider().unwrap(), &names).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn automated_backups_are_kept_as_declared() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    let fleet = &instance.fleet;
    instance.declare(&moto.endpoint(), "point_in_time = \"14d\"\nbackup_window = \"03:00-04:00\"");
    let said = fleet.expect(&["plan"], 10);
    let step = "set the provider of customers: point-in-time recovery 14d, daily backup at 03:00-04:00";
    assert!(said.contains(step), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(instance.automated().await, (14, "03:00-04:00".to_owned()));
    let said = fleet.expect(&["status", "customers"], 0);
    assert!(
        said.contains("its provider has point-in-time recovery 14d, daily backup at 03:00-04:00; any second"),
        "{said}"
    );

    let modify = instance.client.modify_db_instance().db_instance_identifier("customers");
    modify.backup_retention_period(3).apply_immediately(true).send().await.unwrap();
    let said = fleet.expect(&["drift", "-o", "json"], 10);
    assert!(said.contains("provider of customers") && said.contains("point-in-time recovery 3d"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(instance.automated().await.0, 14);

    instance.declare(&moto.endpoint(), "point_in_time = \"off\"");
    let said = fleet.expect(&["apply", "--yes"], 5);
    assert!(!said.contains("set the provider"), "{said}");
    assert!(fleet.expect(&["plan"], 5).contains("any second of "));
    assert_eq!(instance.automated().await.0, 14, "a commit alone gives up nothing");
    let plan: Value = serde_json::from_str(&fleet.expect(&["plan", "-o", "json"], 5)).unwrap();
    let plan = plan["withheld"][0]["plan"].as_str().unwrap();
    fleet.expect(&["approve", plan, "--reason", "it is copied"], 0);
    let said = fleet.expect(&["plan"], 10);
    assert!(
        said.contains("this is lost: any second of ") && said.contains("RDS interrupts the instance"),
        "{said}"
    );
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(instance.automated().await, (0, "03:00-04:00".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_artifacts_and_only_those_that_manifests_name_are_ever_deleted() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    let fleet = &instance.fleet;
    let foreign = instance.client.create_db_snapshot().db_instance_identifier("customers");
    foreign.db_snapshot_identifier("before-upgrade").send().await.unwrap();
    instance.declare(&moto.endpoint(), "");
    let said = fleet.expect(&["probe", "customers"], 0);
    assert!(said.contains("on RDS, point-in-time recovery 1d"), "{said}");
    let said = fleet.expect(&["apply", "--yes"], 0);
    assert!(said.contains("rds-snapshot backstay-"), "{said}");
    assert_eq!(instance.snapshots().await.len(), 2);
    fleet.expect(&["verify", "customers"], 0);

    let said = fleet.expect(&["restore", "customers", "--to", "instance:customers-copy"], 0);
    assert!(said.contains("restored to instance customers-copy"), "{said}");
    assert!(instance.is_there("customers-copy").await);
    let said = fleet.expect(&["restore", "customers", "--to", "instance:customers-copy"], 4);
    assert!(said.contains("instance customers-copy exists"), "{said}");
    let said = fleet.expect(&["restore", "customers", "--in-place"], 1);
    assert!(said.contains("--to instance:NAME"), "{said}");

    fleet.expect(&["backup", "customers"], 0);
    fleet.expect(&["backup", "customers"], 0);
    assert_eq!(instance.snapshots().await.len(), 4);
    let mut passes = 0;
    // Whatever is younger than a second is expired by a later pass, and the snapshot goes with the last manifest that names it.
    while instance.snapshots().await.len() == 4 {
        let said = fleet.expect(&["apply", "--yes"], 0);
        passes += 1;
        assert!(passes < 20, "{said}");
    }
    let left = instance.snapshots().await;
    assert!(left.len() == 3 && left.contains(&"before-upgrade".to_owned()), "{left:?}");

    for name in left.iter().filter(|name| name.starts_with("backstay-")) {
        instance.client.delete_db_snapshot().db_snapshot_identifier(name).send().await.unwrap();
    }
    let said = fleet.expect(&["verify", "customers"], 7);
    assert!(said.contains("is gone at its provider"), "{said}");
    assert_eq!(instance.snapshots().await, ["before-upgrade"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_within_the_window_of_rds_comes_back_as_a_new_instance() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    let fleet = &instance.fleet;
    instance.declare(&moto.endpoint(), "point_in_time = \"on\"");
    fleet.expect(&["apply", "--yes"], 0);
    let said = fleet.expect(&["status", "-o", "json"], 0);
    let status: Value = serde_json::from_str(&said).unwrap();
    let settings = &status["backups"]["customers"]["provider"]["settings"]["known"];
    let at = settings["window"]["end"].as_str().unwrap();
    let said = fleet.expect(&["restore", "customers", "--at", at, "--to", "instance:then"], 0);
    assert!(said.contains("restored to instance then"), "{said}");
    assert!(instance.is_there("then").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_does_not_answer_is_left_alone() {
    let moto = Moto::with_rds();
    let instance = Instance::make(&moto).await;
    instance.declare(&moto.endpoint(), "point_in_time = \"14d\"");
    instance
        .client
        .delete_db_instance()
        .db_instance_identifier("customers")
        .skip_final_snapshot(true)
        .send()
        .await
        .unwrap();
    let said = instance.fleet.expect(&["plan"], 10);
    assert!(said.contains("it can't be seen") && said.contains("there is no such instance"), "{said}");
    assert!(!said.contains("set the provider"), "{said}");
}
