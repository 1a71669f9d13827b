//! What the service answers.

use std::{collections::VecDeque, time::Instant};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Atlas, CLIENT_ID, Cluster, Held, LOOKS, PROJECT, Trick, Work};

type Answer = (u16, Value);

fn refusal(status: u16, code: &str) -> Answer {
    (
        status,
        json!({ "error": status, "errorCode": code, "detail": format!("because of {code}"), "reason": "no" }),
    )
}

/// The kind of a request, its cluster and its id.
fn kind_of(method: &Method, path: &str) -> (&'static str, String, String) {
    let words: Vec<&str> = path.split('/').filter(|word| !word.is_empty()).collect();
    let name = |at: usize| words.get(at).map(|word| (*word).to_owned()).unwrap_or_default();
    let kind = match (method.as_str(), words.get(7..).unwrap_or_default()) {
        ("POST", _) if path == "/api/oauth/token" => "POST token",
        ("GET", []) if words.len() == 7 => "GET cluster",
        ("PATCH", []) if words.len() == 7 => "PATCH cluster",
        ("GET", ["backup", "schedule"]) => "GET schedule",
        ("PATCH", ["backup", "schedule"]) => "PATCH schedule",
        ("GET", ["backup", "snapshots"]) => "GET snapshots",
        ("POST", ["backup", "snapshots"]) => "POST snapshots",
        ("GET", ["backup", "snapshots", _]) => "GET snapshot",
        ("PATCH", ["backup", "snapshots", _]) => "PATCH snapshot",
        ("DELETE", ["backup", "snapshots", _]) => "DELETE snapshot",
        ("GET", ["backup", "restoreJobs"]) => "GET restoreJobs",
        ("POST", ["backup", "restoreJobs"]) => "POST restoreJobs",
        ("GET", ["backup", "restoreJobs", _]) => "GET restoreJob",
        _ => "unknown",
    };
    (kind, name(6), name(9))
}

/// The media type of each resource, with the version that the newest reference has of it.
fn version_of(kind: &str) -> &'static str {
    match kind {
        "GET cluster" => "application/vnd.atlas.2024-08-05+json",
        "PATCH cluster" => "application/vnd.atlas.2024-10-23+json",
        "GET schedule" | "PATCH schedule" => "application/vnd.atlas.2024-08-05+json",
        _ => "application/vnd.atlas.2023-01-01+json",
    }
}

pub(super) async fn answer(
    State(atlas): State<Atlas>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let (kind, cluster, id) = kind_of(&method, uri.path());
    if let Some(id) = uri.path().strip_prefix("/archives/") {
        assert!(!headers.contains_key("authorization"), "the token is nobody's business there");
        return atlas.held().archive(id);
    }
    let mut held = atlas.held();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    held.seen.push((kind, asked.clone()));
    let trick = held.tricks.get_mut(kind).and_then(VecDeque::pop_front);
    let (status, said) = match trick {
        Some(Trick::Refuse(status, code)) => refusal(status, code),
        Some(Trick::Busy) => refusal(429, "RATE_LIMITED"),
        trick if kind == "POST token" => held.token(&headers, &body, trick),
        trick => match held.admit(kind, uri.path(), &headers) {
            Ok(()) => held.answer(kind, (&cluster, &id), uri.query().unwrap_or_default(), &asked, trick),
            Err(refused) => refused,
        },
    };
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    if matches!(trick, Some(Trick::Busy)) {
        response = response.header("retry-after", "1");
    }
    let text = said.to_string();
    let whole = if matches!(trick, Some(Trick::Lose)) {
        // The connection ends in the midst of the answer.
        let cut = futures::stream::iter([
            Ok(text[..text.len() / 2].to_owned()),
            Err(std::io::Error::other("the line is cut")),
        ]);
        Body::from_stream(cut)
    } else {
        Body::from(text)
    };
    response.body(whole).unwrap()
}

impl Held {
    pub(super) fn id(&mut self) -> String {
        self.ids += 1;
        format!("{:024x}", u128::from(self.ids) + 0x64b3_1e47_c40e_886d_5ea1_0000)
    }

    fn token(&mut self, headers: &HeaderMap, body: &[u8], _trick: Option<Trick>) -> Answer {
        use base64::Engine;
        let expected =
            base64::engine::general_purpose::STANDARD.encode(format!("{CLIENT_ID}:{}", self.secret));
        let is_right = headers.get("authorization").is_some_and(|it| it == &format!("Basic {expected}"))
            && headers.get("content-type").is_some_and(|it| it == "application/x-www-form-urlencoded")
            && body == b"grant_type=client_credentials";
        if !is_right {
            return (401, json!({ "error": "invalid_client", "error_description": "no such client" }));
        }
        let token = format!("token-{}", self.id());
        self.tokens.insert(token.clone(), Instant::now() + self.token_life);
        (
            200,
            json!({ "access_token": token, "expires_in": self.token_life.as_secs(), "token_type": "Bearer" }),
        )
    }

    fn admit(&self, kind: &str, path: &str, headers: &HeaderMap) -> Result<(), Answer> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let token = header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if self.tokens.get(token).is_none_or(|until| *until <= Instant::now()) {
            return Err(refusal(401, "UNAUTHORIZED"));
        }
        if kind == "unknown" {
            return Err(refusal(404, "RESOURCE_NOT_FOUND"));
        }
        if !path.starts_with(&format!("/api/atlas/v2/groups/{PROJECT}/")) {
            return Err(refusal(404, "GROUP_NOT_FOUND"));
        }
        let version = version_of(kind);
        if header("accept") != version {
            return Err(refusal(406, "INVALID_VERSION_DATE"));
        }
        let has_body = kind.starts_with("POST") || kind.starts_with("PATCH");
        if has_body && header("content-type") != version {
            return Err(refusal(415, "UNSUPPORTED_MEDIA_TYPE"));
        }
        Ok(())
    }

    fn answer(
        &mut self,
        kind: &str,
        (cluster, id): (&str, &str),
        query: &str,
        asked: &Value,
        trick: Option<Trick>,
    ) -> Answer {
        if kind == "POST restoreJobs" {
            return self.begin_restore(cluster, asked, trick);
        }
        if kind == "GET restoreJob" {
            return self.look_at_restore(cluster, id, &self.url.clone());
        }
        let new_id = self.id();
        let Some(held) = self.clusters.get_mut(cluster) else { return refusal(404, "CLUSTER_NOT_FOUND") };
        match kind {
            "GET cluster" => (200, held.look()),
            "PATCH cluster" => {
                held.about["pitEnabled"] = asked["pitEnabled"].clone();
                held.busy = LOOKS;
                (200, held.look())
            }
            "GET schedule" => (200, held.schedule.clone()),
            "PATCH schedule" => held.reschedule(asked, &new_id),
            "GET snapshots" => page(held.snapshots.iter().map(|(snapshot, _, _)| snapshot), query),
            "GET restoreJobs" => page(held.jobs.iter().map(|(job, _, _)| job), query),
            "POST snapshots" => held.begin_snapshot(asked, new_id, trick),
            "GET snapshot" => held.look_at_snapshot(id),
            "PATCH snapshot" | "DELETE snapshot" => {
                let Some(at) = held.snapshots.iter().position(|(it, _, _)| it["id"] == *id) else {
                    return refusal(404, "SNAPSHOT_NOT_FOUND");
                };
                if kind == "DELETE snapshot" {
                    held.snapshots.remove(at);
                    return (200, json!({}));
                }
                assert_eq!(asked["retentionUnit"], "days");
                let snapshot = &mut held.snapshots[at].0;
                let made: Timestamp = snapshot["createdAt"].as_str().unwrap().parse().unwrap();
                let days = asked["retentionValue"].as_i64().unwrap();
                snapshot["expiresAt"] = json!((made + SignedDuration::from_hours(24 * days)).to_string());
                (200, snapshot.clone())
            }
            _ => refusal(404, "RESOURCE_NOT_FOUND"),
        }
    }

    pub(super) fn begin_restore(&mut self, cluster: &str, asked: &Value, trick: Option<Trick>) -> Answer {
        let (id, now) = (self.id(), Timestamp::now());
        let Some(source) = self.clusters.get(cluster) else { return refusal(404, "CLUSTER_NOT_FOUND") };
        let data = match asked["deliveryType"].as_str() {
            Some("automated" | "download") => {
                let found = source.snapshots.iter().find(|(it, _, _)| it["id"] == asked["snapshotId"]);
                found.filter(|(it, _, _)| it["status"] == "completed").map(|(_, _, data)| data.clone())
            }
            Some("pointInTime") if source.about["pitEnabled"] == true => {
                let days = source.schedule["restoreWindowDays"].as_i64().unwrap();
                let at = asked["pointInTimeUTCSeconds"].as_i64().unwrap();
                let window = now.as_second() - 24 * 3600 * days..=now.as_second();
                window.contains(&at).then(|| format!("as of {at}"))
            }
            _ => None,
        };
        let Some(data) = data else { return refusal(400, "INVALID_RESTORE") };
        if asked["deliveryType"] == "download" {
            let job = json!({ "id": id, "deliveryType": "download", "snapshotId": asked["snapshotId"] });
            self.clusters.get_mut(cluster).unwrap().jobs.push((job.clone(), Work::of(trick), data));
            return (200, job);
        }
        assert_eq!(asked["targetGroupId"], PROJECT);
        let target = asked["targetClusterName"].as_str().unwrap();
        let Some(erased) = self.clusters.get_mut(target) else { return refusal(404, "CLUSTER_NOT_FOUND") };
        erased.data = String::new();
        let job = json!({
            "id": id, "deliveryType": asked["deliveryType"], "snapshotId": asked["snapshotId"], "targetClusterName": target,
            "targetGroupId": PROJECT, "pointInTimeUTCSeconds": asked["pointInTimeUTCSeconds"],
            "cancelled": false, "expired": false, "failed": false,
        });
        self.clusters.get_mut(cluster).unwrap().jobs.push((job.clone(), Work::of(trick), data));
        (200, job)
    }

    /// What a job hands out, compressed.
    fn archive(&mut self, id: &str) -> Response<Body> {
        let jobs = self.clusters.values().flat_map(|cluster| &cluster.jobs);
        let (_, _, data) = jobs.into_iter().find(|(job, _, _)| job["id"] == *id).unwrap();
        let mut archive = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut archive, data.as_bytes()).unwrap();
        let mut archive = archive.finish().unwrap();
        // Short of its last byte, in an answer that looks whole.
        if let Some(Trick::Fail) = self.tricks.get_mut("GET archive").and_then(VecDeque::pop_front) {
            archive.pop();
        }
        Response::new(Body::from(archive))
    }

    fn look_at_restore(&mut self, cluster: &str, id: &str, url: &str) -> Answer {
        let Some(source) = self.clusters.get_mut(cluster) else { return refusal(404, "CLUSTER_NOT_FOUND") };
        let Some((job, work, data)) = source.jobs.iter_mut().find(|(it, _, _)| it["id"] == *id) else {
            return refusal(404, "RESTORE_JOB_NOT_FOUND");
        };
        let mut done = None;
        match work {
            Work::Left(0) if job["finishedAt"].is_null() => {
                job["finishedAt"] = json!(Timestamp::now().to_string());
                if job["deliveryType"] == "download" {
                    job["deliveryUrl"] = json!([format!("{url}/archives/{id}")]);
                    return (200, job.clone());
                }
                done = Some((job["targetClusterName"].as_str().unwrap().to_owned(), data.clone()));
            }
            Work::Left(0) | Work::Hangs => {}
            Work::Left(left) => *left -= 1,
            Work::Fails => job["failed"] = json!(true),
        }
        let job = job.clone();
        if let Some((target, data)) = done {
            self.clusters.get_mut(&target).unwrap().data = data;
        }
        (200, job)
    }
}

impl Cluster {
    fn look(&mut self) -> Value {
        let mut about = self.about.clone();
        about["stateName"] = json!(if self.busy > 0 { "UPDATING" } else { "IDLE" });
        self.busy = self.busy.saturating_sub(1);
        about
    }

    fn reschedule(&mut self, asked: &Value, new_id: &str) -> Answer {
        // Nobody may ask for either: both take away snapshots that are there.
        assert_eq!((&asked["deleteSnapshots"], &asked["updateSnapshots"]), (&json!(false), &json!(false)));
        let mut policies = asked["policies"].clone();
        if policies[0]["id"] != self.schedule["policies"][0]["id"] || policies.as_array().unwrap().len() != 1
        {
            return refusal(400, "INVALID_POLICY_ID");
        }
        if !asked["restoreWindowDays"].is_null() && self.about["pitEnabled"] != true {
            return refusal(400, "PIT_NOT_ENABLED");
        }
        let known: Vec<Value> = self.schedule["policies"][0]["policyItems"].as_array().unwrap().clone();
        for (number, item) in policies[0]["policyItems"].as_array_mut().unwrap().iter_mut().enumerate() {
            match item["id"].as_str() {
                Some(id) if !known.iter().any(|it| it["id"] == *id) => {
                    return refusal(400, "INVALID_POLICY_ITEM");
                }
                Some(_) => {}
                None => item["id"] = json!(format!("{}{number:04x}", &new_id[..20])),
            }
        }
        self.schedule["policies"] = policies;
        for key in ["referenceHourOfDay", "referenceMinuteOfHour", "restoreWindowDays"] {
            if !asked[key].is_null() {
                self.schedule[key] = asked[key].clone();
            }
        }
        (200, self.schedule.clone())
    }

    fn begin_snapshot(&mut self, asked: &Value, id: String, trick: Option<Trick>) -> Answer {
        let is_busy =
            |(it, _, _): &(Value, Work, String)| it["status"] == "queued" || it["status"] == "inProgress";
        if self.snapshots.iter().any(is_busy) {
            return refusal(409, "SNAPSHOT_IN_PROGRESS");
        }
        let (now, days) = (Timestamp::now(), asked["retentionInDays"].as_i64().unwrap());
        let snapshot = json!({
            "id": id, "snapshotType": "onDemand", "description": asked["description"], "status": "queued",
            "createdAt": now.to_string(), "expiresAt": (now + SignedDuration::from_hours(24 * days)).to_string(),
            "mongodVersion": "8.0.4",
        });
        self.snapshots.push((snapshot.clone(), Work::of(trick), self.data.clone()));
        (200, snapshot)
    }

    fn look_at_snapshot(&mut self, id: &str) -> Answer {
        let Some((snapshot, work, _)) = self.snapshots.iter_mut().find(|(it, _, _)| it["id"] == *id) else {
            return refusal(404, "SNAPSHOT_NOT_FOUND");
        };
        match work {
            Work::Left(0) => snapshot["status"] = json!("completed"),
            Work::Left(left) => {
                *left -= 1;
                snapshot["status"] = json!("inProgress");
            }
            Work::Fails => snapshot["status"] = json!("failed"),
            Work::Hangs => {}
        }
        (200, snapshot.clone())
    }
}

fn page<'a>(all: impl Iterator<Item = &'a Value>, query: &str) -> Answer {
    let number = |key: &str| -> usize {
        let found = query.split('&').find_map(|part| part.strip_prefix(&format!("{key}=")));
        found.unwrap().parse().unwrap()
    };
    let (page, size) = (number("pageNum"), number("itemsPerPage"));
    assert!(page >= 1 && (1..=500).contains(&size));
    let all: Vec<Value> = all.cloned().collect();
    let results: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
    (200, json!({ "results": results, "totalCount": all.len() }))
}
