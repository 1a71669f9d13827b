//! What Atlas keeps of a cluster by itself, held to what a commit declares, against an imitation of its Admin API: what Atlas itself does
//! is not proved by it.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use backstay::{
    artifact::ArtifactId,
    inventory::{NativeState, SandboxCopy},
    sources::{
        Provider, Source,
        atlas::{AtlasOptions, AtlasSource},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{
    lab::{
        atlas::{Atlas, CLIENT_ID, CLIENT_SECRET, PROJECT, Trick},
        fleet::Fleet,
        schedules,
    },
    provider_conformance::{Names, keeps_and_brings_back},
};

/// A fleet that may ask about the cluster.
pub struct Asking {
    pub fleet: Fleet,
    keys: String,
}

impl Asking {
    pub fn new() -> Self {
        let mut fleet = Fleet::new();
        let keys = format!(
            "client_id = {}\nclient_secret = {}",
            fleet.secret(CLIENT_ID),
            fleet.secret(CLIENT_SECRET)
        );
        Self { fleet, keys }
    }

    pub fn declare(&self, atlas: &Atlas, more: &str) {
        self.declare_cluster(atlas, "courses", more);
    }

    fn declare_cluster(&self, atlas: &Atlas, cluster: &str, more: &str) {
        let at = format!("project = \"{PROJECT}\"\ncluster = \"{cluster}\"\nurl = \"{}\"", atlas.url());
        let backup = format!("{}\n[backup.courses.atlas]\n{at}\n{}\n{more}", short(), self.keys);
        self.fleet.declare("courses", &backup);
    }

    fn status(&self) -> Value {
        let run = self.fleet.command(&["status", "-o", "json"]).output().unwrap();
        serde_json::from_slice(&run.stdout).unwrap()
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

fn source(atlas: &Atlas) -> AtlasSource {
    AtlasSource::new(atlas.options("courses")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn atlas_does_what_every_provider_must() {
    let atlas = Atlas::start().await;
    let names = Names { taken: "courses", new: ["copy", "then"] };
    let source = source(&atlas);
    let provider = source.provider().unwrap();
    keeps_and_brings_back(provider, &names).await;
    let copy = SandboxCopy::of(
        &"shop".parse().unwrap(),
        &"way-back".parse().unwrap(),
        ArtifactId::new(Timestamp::now(), 4),
    );
    assert!(provider.copy_for_drill("p/courses/x", &copy).await.is_err(), "it makes no clusters");
    assert_eq!(atlas.data("copy"), "before");
    assert!(atlas.data("then").starts_with("as of "), "{}", atlas.data("then"));
    assert_eq!(atlas.data("courses"), "before");
    assert_eq!(atlas.requests("POST token").len(), 1, "a token is used until it expires");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_policy_of_a_cluster_is_kept_as_declared() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let fleet = &asking.fleet;
    let item = atlas.schedule()["policies"][0]["policyItems"][0]["id"].clone();
    let declared = "point_in_time = \"7d\"\nsnapshot_time = \"03:30\"\n\
                    snapshots = [\"every 6h, keep 7d\", \"every day, keep 14d\", \"every month on last, keep 12mo\"]";
    asking.declare(&atlas, declared);
    let said = fleet.expect(&["plan"], 10);
    let step = "set the provider of courses: point-in-time recovery 7d, snapshots `every 6h, keep 7d` and `every day, keep 14d` \
                and `every month on last, keep 12mo`, snapshots at 03:30";
    assert!(said.contains(step) && !said.contains("this is lost"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    let schedule = atlas.schedule();
    assert!(atlas.is_continuous());
    assert_eq!(
        (&schedule["referenceHourOfDay"], &schedule["referenceMinuteOfHour"]),
        (&json!(3), &json!(30))
    );
    assert_eq!(schedule["restoreWindowDays"], 7);
    let items = schedule["policies"][0]["policyItems"].as_array().unwrap();
    assert_eq!(items.len(), 3);
    assert!(items.iter().any(|it| it["id"] == item && it["retentionValue"] == 14), "{items:?}");
    assert!(!fleet.expect(&["plan"], 0).contains("set the provider"));
    let said = fleet.expect(&["status", "courses"], 0);
    assert!(
        said.contains("its provider has point-in-time recovery 7d, snapshots `every 6h, keep 7d`"),
        "{said}"
    );
    // Atlas does not tell from when to when, and what is inferred counts for nothing.
    assert!(said.contains("inferred, and not told by it: any second of "), "{said}");
    let settings = &asking.status()["backups"]["courses"]["provider"]["settings"]["known"];
    let (told, inferred) = (&settings["window"], &settings["inferred"]);
    assert!(told.is_null() && inferred["start"].is_string() && inferred["end"].is_string(), "{settings}");

    // Somebody changes it past Backstay.
    atlas.reschedule(|schedule| schedule["policies"][0]["policyItems"].as_array_mut().unwrap().truncate(1));
    let said = fleet.expect(&["drift"], 10);
    assert!(said.contains("provider of courses"), "{said}");
    let said = fleet.expect(&["status"], 4);
    assert!(said.contains("declared is snapshots `every 6h, keep 7d`"), "{said}");
    fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(atlas.schedule()["policies"][0]["policyItems"].as_array().unwrap().len(), 3);

    // What is not declared is left as it is.
    asking.declare(&atlas, "");
    fleet.expect(&["apply", "--yes"], 0);
    assert!(atlas.is_continuous());
    assert_eq!(atlas.schedule()["policies"][0]["policyItems"].as_array().unwrap().len(), 3);

    asking.declare(&atlas, "point_in_time = \"off\"\nsnapshots = [\"every day, keep 3d\"]");
    // That waits for a person's word.
    let said = fleet.expect(&["plan"], 5);
    assert!(said.contains("any second of ") && said.contains("are withheld"), "{said}");
    assert!(
        said.contains("from then on snapshots are not made or not kept any more as of `every 6h, keep 7d`"),
        "{said}"
    );
    fleet.expect(&["apply", "--yes"], 5);
    assert!(atlas.is_continuous());
    assert_eq!(atlas.schedule()["policies"][0]["policyItems"].as_array().unwrap().len(), 3);
    let plan: Value = serde_json::from_str(&fleet.expect(&["plan", "-o", "json"], 5)).unwrap();
    let [held] = plan["withheld"].as_array().unwrap().as_slice() else { panic!("{}", plan["withheld"]) };
    fleet.expect(&["approve", held["plan"].as_str().unwrap(), "--reason", "it is copied"], 0);
    fleet.expect(&["apply", "--yes"], 0);
    assert!(!atlas.is_continuous());
    let items = atlas.schedule()["policies"][0]["policyItems"].as_array().unwrap().clone();
    assert!(items.len() == 1 && items[0]["retentionValue"] == 3, "{items:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_somebody_changed_since_the_plan_is_left_alone() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "snapshots = [\"every day, keep 30d\"]");
    let plan = asking.fleet.restored().join("plan.json");
    let said = asking.fleet.expect(&["plan", "--out", plan.to_str().unwrap()], 10);
    assert!(said.contains("set the provider of courses") && !said.contains("withheld"), "{said}");
    atlas.reschedule(|schedule| schedule["policies"][0]["policyItems"][0]["retentionValue"] = json!(29));
    let run = asking.fleet.command(&["apply", plan.to_str().unwrap(), "--yes"]).output().unwrap();
    assert_ne!(run.status.code(), Some(0), "{}", String::from_utf8_lossy(&run.stdout));
    assert_eq!(atlas.requests("PATCH schedule"), Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_artifacts_and_only_those_that_manifests_name_are_ever_deleted() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let fleet = &asking.fleet;
    let foreign = atlas.snapshot_by_hand("before the upgrade");
    asking.declare(&atlas, "");
    let said = fleet.expect(&["probe", "courses"], 0);
    assert!(said.contains("MongoDB 8.0.4 on Atlas, point-in-time recovery off"), "{said}");
    let said = fleet.expect(&["apply", "--yes"], 0);
    assert!(said.contains("atlas-snapshot "), "{said}");
    assert_eq!(atlas.on_demand().len(), 2);
    let asked = &atlas.requests("POST snapshots")[0];
    assert!(asked["description"].as_str().unwrap().starts_with("backstay-"), "{asked}");
    assert_eq!(asked["retentionInDays"], 365);
    fleet.expect(&["verify", "courses"], 0);

    atlas.write("after");
    let said = fleet.expect(&["restore", "courses", "--to", "cluster:copy"], 0);
    assert!(said.contains("restored to cluster copy"), "{said}");
    assert_eq!(atlas.data("copy"), "before");
    let said = fleet.expect(&["restore", "courses", "--to", "cluster:copy"], 4);
    assert!(said.contains("cluster copy exists and holds what was restored into it"), "{said}");
    let said = fleet.expect(&["restore", "courses", "--in-place"], 1);
    assert!(said.contains("--to cluster:NAME"), "{said}");

    fleet.expect(&["backup", "courses"], 0);
    fleet.expect(&["backup", "courses"], 0);
    assert_eq!(atlas.on_demand().len(), 4);
    let mut passes = 0;
    // Whatever is younger than a second is expired by a later pass, and the snapshot goes with the last manifest that names it.
    while atlas.on_demand().len() == 4 {
        let said = fleet.expect(&["apply", "--yes"], 0);
        passes += 1;
        assert!(passes < 20, "{said}");
    }
    let left: Vec<String> =
        atlas.on_demand().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    assert!(left.len() == 3 && left.contains(&foreign), "{left:?}");

    for id in left.iter().filter(|id| **id != foreign) {
        atlas.lose(id);
    }
    let said = fleet.expect(&["verify", "courses"], 7);
    assert!(said.contains("is gone at its provider"), "{said}");
    let damaged = &asking.status()["backups"]["courses"]["stores"]["primary"]["damaged"];
    assert_eq!(damaged.as_array().unwrap().len(), 2, "{damaged}");
    assert_eq!(atlas.on_demand().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_a_cluster_that_was_declared_before_are_out_of_reach_and_the_driver_asks_where_they_are()
{
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    asking.fleet.expect(&["apply", "--yes"], 0);
    atlas.add("moved", "of another", &[]);
    asking.declare_cluster(&atlas, "moved", "");
    let said = asking.fleet.expect(&["restore", "courses", "--to", "cluster:copy"], 1);
    assert!(said.contains(&format!("it is of {PROJECT}/courses")), "{said}");
    assert_eq!(atlas.requests("POST restoreJobs"), Vec::<Value>::new());
    // Whatever is asked of the driver itself goes by the cluster of the reference, and not by what is declared.
    let elsewhere = AtlasSource::new(atlas.options("moved")).unwrap();
    let provider = elsewhere.provider().unwrap();
    let id = atlas.on_demand()[0]["id"].as_str().unwrap().to_owned();
    let reference = format!("{PROJECT}/courses/{id}");
    assert_eq!(provider.state(&reference).await.unwrap(), NativeState::Available);
    assert!(provider.restore_native(&reference, "moved").await.is_err(), "what is declared is never erased");
    provider.restore_native(&reference, "copy").await.unwrap();
    assert_eq!(atlas.data("copy"), "before");
    assert_eq!(provider.state(&format!("{PROJECT}/moved/{id}")).await.unwrap(), NativeState::Gone);
    for unknown in [format!("{PROJECT}/nowhere/{id}"), format!("{}/courses/{id}", "0".repeat(24)), id] {
        assert!(provider.state(&unknown).await.is_err(), "{unknown}: nobody can tell that it is gone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_no_second_snapshot() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    atlas.play("POST snapshots", Trick::Lose);
    asking.fleet.expect(&["apply", "--yes"], 0);
    assert_eq!((atlas.on_demand().len(), atlas.requests("POST snapshots").len()), (1, 1));
    assert_eq!(asking.fleet.expect(&["list", "courses"], 0).matches("native").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_is_no_artifact_and_is_not_left_behind() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    atlas.play("POST snapshots", Trick::Fail);
    let said = asking.fleet.expect(&["apply", "--yes"], 0);
    assert_eq!(atlas.requests("POST snapshots").len(), 2, "it is made again under a new name");
    let left = atlas.on_demand();
    assert!(left.len() == 1 && said.contains(left[0]["id"].as_str().unwrap()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_controller_had_atlas_make_is_deleted_and_made_anew() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    atlas.play("POST snapshots", Trick::Hang);
    let mut killed = asking
        .fleet
        .command(&["apply", "--yes"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while atlas.requests("GET snapshot").is_empty() {
        assert!(Instant::now() < deadline, "no snapshot was begun");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let first = atlas.on_demand()[0]["id"].clone();
    assert!(!asking.fleet.expect(&["list", "courses"], 0).contains("native"), "no manifest, no artifact");
    let said = asking.fleet.expect(&["apply", "--yes"], 0);
    assert!(said.contains("its provider deleted what it had made"), "{said}");
    let left = atlas.on_demand();
    assert!(left.len() == 1 && left[0]["id"] != first, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_atlas_does_not_answer_changes_and_deletes_nothing() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let fleet = &asking.fleet;
    asking.declare(&atlas, "");
    fleet.expect(&["apply", "--yes"], 0);
    fleet.expect(&["backup", "courses"], 0);
    fleet.expect(&["backup", "courses"], 0);
    let before = fleet.expect(&["list", "courses"], 0);
    // Nothing is lost by that: were the provider seen, it would be set.
    asking.declare(&atlas, "snapshots = [\"every day, keep 30d\"]");
    // A project that is not found is no proof that there are no snapshots.
    for kind in ["GET snapshot", "GET snapshots", "GET cluster"] {
        for _ in 0..200 {
            atlas.play(kind, Trick::Refuse(404, "GROUP_NOT_FOUND"));
        }
    }
    for _ in 0..3 {
        let run = fleet.command(&["apply", "--yes"]).output().unwrap();
        let said = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
        assert!(!said.contains("✓ delete courses") && !said.contains("✓ set the provider"), "{said}");
    }
    let said = fleet.expect(&["status"], 4);
    assert!(said.contains("what its provider keeps can't be seen"), "{said}");
    for kind in ["GET snapshot", "GET snapshots", "GET cluster"] {
        atlas.stop(kind);
    }
    assert_eq!(fleet.expect(&["list", "courses"], 0), before);
    assert_eq!(atlas.on_demand().len(), 3);
    assert_eq!(atlas.requests("DELETE snapshot"), Vec::<Value>::new());
    assert_eq!(atlas.requests("PATCH schedule"), Vec::<Value>::new());
    let said = fleet.expect(&["plan"], 10);
    assert!(said.contains("set the provider of courses"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_restored_over_the_source_or_over_what_nobody_gave_for_it() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let fleet = &asking.fleet;
    atlas.add("sales", "orders", &[("backstay-restore", "another")]);
    atlas.add("kept", "orders", &[("backstay-restore", "courses")]);
    atlas.alter("kept", "terminationProtectionEnabled", json!(true));
    asking.declare(&atlas, "point_in_time = \"7d\"");
    fleet.expect(&["apply", "--yes"], 0);
    let at =
        asking.status()["backups"]["courses"]["provider"]["settings"]["known"]["inferred"]["end"].clone();
    for (to, why) in [
        ("cluster:courses", "is what the data was taken of"),
        ("cluster:COURSES", "is what the data was taken of"),
        ("cluster:sales", "give it the tag backstay-restore = courses"),
        ("cluster:kept", "is protected from termination"),
        ("cluster:nowhere", "there is no cluster nowhere in the project"),
        ("cluster:../copy", "is not the name of a cluster"),
    ] {
        for at in [None, at.as_str()] {
            let at = at.map(|at| ["--at", at]);
            let args =
                [&["restore", "courses", "--to", to][..], at.as_ref().map_or(&[], |at| &at[..])].concat();
            let said = fleet.expect(&args, 4);
            assert!(said.contains(why), "{args:?}: {said}");
        }
    }
    assert_eq!(atlas.requests("POST restoreJobs"), Vec::<Value>::new());
    let said = fleet.expect(&["restore", "courses", "--at", at.as_str().unwrap(), "--to", "cluster:then"], 0);
    assert!(said.contains("restored to cluster then"), "{said}");
    let second = at.as_str().unwrap().parse::<Timestamp>().unwrap().as_second();
    assert_eq!(atlas.data("then"), format!("as of {second}"));
    assert_eq!((atlas.data("courses"), atlas.data("sales")), ("before".to_owned(), "orders".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_fails_says_so_and_one_whose_answer_is_lost_is_asked_for_once() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    asking.fleet.expect(&["apply", "--yes"], 0);
    atlas.play("POST restoreJobs", Trick::Fail);
    let said = asking.fleet.expect(&["restore", "courses", "--to", "cluster:copy"], 4);
    assert!(
        said.contains("was not done: it failed") && said.contains("in Atlas: copy holds nothing whole"),
        "{said}"
    );
    assert_eq!(
        atlas.requests("POST restoreJobs").len(),
        1,
        "what erases a cluster is not tried again by itself"
    );
    atlas.play("POST restoreJobs", Trick::Lose);
    asking.fleet.expect(&["restore", "courses", "--to", "cluster:copy"], 0);
    assert_eq!((atlas.requests("POST restoreJobs").len(), atlas.data("copy").as_str()), (2, "before"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_downloaded_into_a_file_that_is_whole_or_not_there() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "");
    asking.fleet.expect(&["apply", "--yes"], 0);
    let file = asking.fleet.restored().join("courses.tar.gz");
    let args = ["restore", "courses", "--to", file.to_str().unwrap()];
    atlas.play("GET archive", Trick::Fail);
    let said = asking.fleet.expect(&args, 4);
    assert!(said.contains("is no whole gzip"), "{said}");
    assert_eq!(std::fs::read_dir(asking.fleet.restored()).unwrap().count(), 0, "nothing is left of it");
    let said = asking.fleet.expect(&args, 0);
    assert!(said.contains("courses.tar.gz") && !said.contains("/archives/"), "{said}");
    let mut held = String::new();
    let archive = std::fs::File::open(&file).unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(archive), &mut held).unwrap();
    assert_eq!(held, "before");
    asking.fleet.expect(&args, 4);
    assert_eq!(atlas.data("courses"), "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_atlas_would_delete_before_retention_does_is_kept_for_longer() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    let foreign = atlas.snapshot_by_hand("before the upgrade");
    asking.declare(&atlas, "");
    asking.fleet.expect(&["apply", "--yes"], 0);
    let ours = atlas.on_demand().into_iter().find(|it| it["id"] != *foreign).unwrap();
    let in_days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    atlas.expire(ours["id"].as_str().unwrap(), in_days(3));
    asking.fleet.expect(&["backup", "courses"], 0);
    let expires = |id: &Value| {
        let found = atlas.on_demand().into_iter().find(|it| it["id"] == *id).unwrap();
        found["expiresAt"].as_str().unwrap().parse::<Timestamp>().unwrap()
    };
    assert!(expires(&ours["id"]) > in_days(364));
    assert!(expires(&json!(foreign)) < in_days(3), "what is not ours is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_renewed_and_a_busy_service_is_waited_for() {
    let atlas = Atlas::start().await;
    let source = source(&atlas);
    let provider: &dyn Provider = source.provider().unwrap();
    provider.settings().await.unwrap();
    assert_eq!(atlas.requests("POST token").len(), 1);
    // One that is good no more before its time.
    atlas.expire_tokens(Duration::from_secs(1));
    provider.settings().await.unwrap();
    assert_eq!(atlas.requests("POST token").len(), 2);
    tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(1100)).await;
    provider.settings().await.unwrap();
    assert_eq!(atlas.requests("POST token").len(), 3, "one that is over is not even tried");
    atlas.play("GET schedule", Trick::Busy);
    atlas.play("GET schedule", Trick::Refuse(503, "UNAVAILABLE"));
    let before = atlas.requests("GET schedule").len();
    provider.settings().await.unwrap();
    assert_eq!(atlas.requests("GET schedule").len(), before + 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_revoked_leaves_all_unknown_and_shows_no_secret() {
    let atlas = Atlas::start().await;
    let asking = Asking::new();
    asking.declare(&atlas, "point_in_time = \"7d\"");
    asking.fleet.expect(&["apply", "--yes"], 0);
    atlas.revoke();
    let said = asking.fleet.expect(&["status"], 4);
    assert!(
        said.contains("Atlas answered 401 invalid_client") && said.contains("nor been revoked"),
        "{said}"
    );
    let said = asking.fleet.expect(&["plan"], 4);
    assert!(said.contains("it can't be seen"), "{said}");
    let run = asking.fleet.command(&["-vv", "probe", "courses"]).output().unwrap();
    let all = said + &String::from_utf8_lossy(&[run.stdout, run.stderr].concat());
    assert!(!all.contains(CLIENT_SECRET) && !all.contains("token-"), "{all}");
    let source =
        AtlasSource::new(AtlasOptions { project: "0".repeat(24), ..atlas.options("courses") }).unwrap();
    assert!(!format!("{source:?}").contains(CLIENT_SECRET));
    assert!(source.provider().unwrap().settings().await.is_err());
}
