//! An imitation of Atlas's Admin API, version 2, as its reference tells: as strict about tokens, versions, projects and clusters, and with
//! snapshots and restores that take their time. What Atlas itself does is not proved by it.

mod service;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::Router;
use backstay::{
    secrets::Secret,
    sources::atlas::{AtlasOptions, Tokens},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

pub const PROJECT: &str = "64b31e47c40e886d5ea00001";
pub const CLIENT_ID: &str = "mdb_sa_id_64b31e47c40e886d5ea00002";
pub const CLIENT_SECRET: &str = "mdb_sa_sk_not-for-anybody-s-eyes";

/// How many looks a snapshot, a restore or a change of a cluster takes.
const LOOKS: u32 = 2;

/// What becomes of the next request of a kind.
#[derive(Clone, Copy, Debug)]
pub enum Trick {
    /// It is refused, and not carried out.
    Refuse(u16, &'static str),
    /// It is carried out, and the answer is cut off.
    Lose,
    /// What it begins fails.
    Fail,
    /// Nothing of what it begins is ever done.
    Hang,
    /// Many requests came before.
    Busy,
}

/// The service, of one project.
#[derive(Clone)]
pub struct Atlas {
    url: String,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    clusters: BTreeMap<String, Cluster>,
    ids: u32,
    tokens: HashMap<String, Instant>,
    token_life: Duration,
    secret: String,
    url: String,
    tricks: HashMap<&'static str, VecDeque<Trick>>,
    seen: Vec<(&'static str, Value)>,
}

struct Cluster {
    about: Value,
    schedule: Value,
    snapshots: Vec<(Value, Work, String)>,
    jobs: Vec<(Value, Work, String)>,
    /// Looks until it is at rest.
    busy: u32,
    data: String,
}

/// How long something takes, and how it ends.
#[derive(Clone, Copy)]
enum Work {
    Left(u32),
    Fails,
    Hangs,
}

impl Work {
    fn of(trick: Option<Trick>) -> Self {
        match trick {
            Some(Trick::Fail) => Work::Fails,
            Some(Trick::Hang) => Work::Hangs,
            _ => Work::Left(LOOKS),
        }
    }
}

impl Atlas {
    /// Ends with the test's runtime. Has a cluster `courses`, with a scheduled snapshot and a schedule, and two others that may be
    /// erased, `copy` and `then`.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let held = Held {
            secret: CLIENT_SECRET.to_owned(),
            url: url.clone(),
            token_life: Duration::from_secs(3600),
            ..Held::default()
        };
        let atlas = Self { url, held: Arc::new(Mutex::new(held)) };
        let app = Router::new().fallback(service::answer).with_state(atlas.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        atlas.add("courses", "before", &[]);
        atlas.add("copy", "", &[("backstay-restore", "courses")]);
        atlas.add("then", "", &[("backstay-restore", "courses")]);
        let mut held = atlas.held();
        let id = held.id();
        let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
        let snapshot = json!({
            "id": id, "snapshotType": "scheduled", "status": "completed", "createdAt": hour_ago.to_string(),
            "expiresAt": (hour_ago + SignedDuration::from_hours(48)).to_string(), "mongodVersion": "8.0.4",
        });
        let courses = held.clusters.get_mut("courses").unwrap();
        courses.snapshots.push((snapshot, Work::Left(0), "before".to_owned()));
        drop(held);
        atlas
    }

    /// A cluster that holds something.
    pub fn add(&self, name: &str, data: &str, tags: &[(&str, &str)]) {
        let mut held = self.held();
        let tags: Vec<Value> =
            tags.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
        let about = json!({
            "name": name, "groupId": PROJECT, "clusterType": "REPLICASET", "backupEnabled": true, "pitEnabled": false,
            "mongoDBVersion": "8.0.4", "terminationProtectionEnabled": false, "tags": tags,
            "createDate": (Timestamp::now() - SignedDuration::from_hours(1)).to_string(),
        });
        let (policy, item) = (held.id(), held.id());
        let schedule = json!({
            "clusterName": name, "referenceHourOfDay": 1, "referenceMinuteOfHour": 15,
            "policies": [{ "id": policy, "policyItems": [
                { "id": item, "frequencyType": "daily", "frequencyInterval": 1, "retentionUnit": "days", "retentionValue": 7 },
            ] }],
        });
        let (snapshots, jobs) = (Vec::new(), Vec::new());
        let data = data.to_owned();
        held.clusters.insert(name.to_owned(), Cluster { about, schedule, snapshots, jobs, busy: 0, data });
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn options(&self, cluster: &str) -> AtlasOptions {
        AtlasOptions {
            url: self.url.clone(),
            project: PROJECT.to_owned(),
            cluster: cluster.to_owned(),
            client_id: Secret::new(CLIENT_ID.to_owned()),
            client_secret: Secret::new(CLIENT_SECRET.to_owned()),
            tokens: Tokens::default(),
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap()
    }

    /// Plays a trick with the next request of a kind, such as `POST snapshots`, after those that are to come first.
    pub fn play(&self, kind: &'static str, trick: Trick) {
        self.held().tricks.entry(kind).or_default().push_back(trick);
    }

    pub fn stop(&self, kind: &str) {
        self.held().tricks.remove(kind);
    }

    /// What was asked for by requests of a kind, carried out or not.
    pub fn requests(&self, kind: &str) -> Vec<Value> {
        let held = self.held();
        held.seen.iter().filter(|(seen, _)| *seen == kind).map(|(_, body)| body.clone()).collect()
    }

    /// Tokens from now on are good for so long, and those that are out are good no more.
    pub fn expire_tokens(&self, life: Duration) {
        let mut held = self.held();
        held.tokens.clear();
        held.token_life = life;
    }

    /// Somebody revokes the account's secret.
    pub fn revoke(&self) {
        let mut held = self.held();
        held.tokens.clear();
        held.secret = "another".to_owned();
    }

    /// What a cluster holds.
    pub fn data(&self, cluster: &str) -> String {
        self.held().clusters[cluster].data.clone()
    }

    /// Somebody writes to the cluster.
    pub fn write(&self, data: &str) {
        self.held().clusters.get_mut("courses").unwrap().data = data.to_owned();
    }

    /// What was begun and hangs goes on.
    pub fn go_on(&self) {
        let mut held = self.held();
        let works = held.clusters.values_mut().flat_map(|cluster| &mut cluster.jobs).map(|(_, work, _)| work);
        works.filter(|work| matches!(work, Work::Hangs)).for_each(|work| *work = Work::Left(LOOKS));
    }

    /// Somebody has the newest snapshot of `courses` restored into a cluster.
    pub fn restore_by_hand(&self, to: &str) {
        let mut held = self.held();
        let snapshot = held.clusters["courses"].snapshots.last().unwrap().0["id"].clone();
        let asked = json!({
            "deliveryType": "automated", "snapshotId": snapshot, "targetClusterName": to, "targetGroupId": PROJECT,
        });
        let (status, job) = held.begin_restore("courses", &asked, None);
        assert_eq!(status, 200, "{job}");
    }

    /// Changes what is told of a cluster.
    pub fn alter(&self, cluster: &str, key: &str, value: Value) {
        self.held().clusters.get_mut(cluster).unwrap().about[key] = value;
    }

    /// Changes the schedule of `courses`, past Backstay.
    pub fn reschedule(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.held().clusters.get_mut("courses").unwrap().schedule);
    }

    pub fn schedule(&self) -> Value {
        self.held().clusters["courses"].schedule.clone()
    }

    pub fn is_continuous(&self) -> bool {
        self.held().clusters["courses"].about["pitEnabled"].as_bool().unwrap()
    }

    /// Snapshots of `courses` that somebody asked for.
    pub fn on_demand(&self) -> Vec<Value> {
        let held = self.held();
        let all = held.clusters["courses"].snapshots.iter().map(|(snapshot, _, _)| snapshot);
        all.filter(|snapshot| snapshot["snapshotType"] == "onDemand").cloned().collect()
    }

    /// Somebody deletes a snapshot of `courses`, past Backstay.
    pub fn lose(&self, id: &str) {
        let mut held = self.held();
        held.clusters.get_mut("courses").unwrap().snapshots.retain(|(snapshot, _, _)| snapshot["id"] != *id);
    }

    /// Has a snapshot of `courses` expire at a moment.
    pub fn expire(&self, id: &str, at: Timestamp) {
        let mut held = self.held();
        let all = &mut held.clusters.get_mut("courses").unwrap().snapshots;
        let found = all.iter_mut().find(|(snapshot, _, _)| snapshot["id"] == *id).unwrap();
        found.0["expiresAt"] = json!(at.to_string());
    }

    /// Somebody has a snapshot made on demand.
    pub fn snapshot_by_hand(&self, description: &str) -> String {
        let mut held = self.held();
        let id = held.id();
        let now = Timestamp::now();
        let snapshot = json!({
            "id": id, "snapshotType": "onDemand", "description": description, "status": "completed",
            "createdAt": now.to_string(), "expiresAt": (now + SignedDuration::from_hours(48)).to_string(),
        });
        held.clusters.get_mut("courses").unwrap().snapshots.push((snapshot, Work::Left(0), String::new()));
        id
    }
}
