//! Several fleets on one address: each under `/fleets/` and its name, and all together at the root.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{OPEN_METRICS, Shown, board::Health, metrics, server, webhooks};
use crate::{
    render::fleets::{FORMAT, Told},
    status::Status,
};

/// What all fleets of this process show.
#[derive(Debug, Default)]
pub struct Fleets {
    by_name: Mutex<BTreeMap<String, (Place, Standing)>>,
}

/// Where a fleet is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where its configuration says.
    At(SocketAddr),
    /// Its configuration can't be read, so that it is told wherever others are.
    Anywhere,
    /// Its configuration says nowhere.
    Nowhere,
}

/// How a fleet stands.
#[derive(Clone)]
pub enum Standing {
    /// Its loop runs.
    Runs(Shown),
    /// It does not, for this reason.
    Rests(String),
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Standing::Runs(_) => f.write_str("Runs"),
            Standing::Rests(why) => f.debug_tuple("Rests").field(why).finish(),
        }
    }
}

impl Fleets {
    /// Shows how a fleet stands from now on.
    pub fn set(&self, fleet: &str, place: Place, standing: Standing) {
        self.all().insert(fleet.to_owned(), (place, standing));
    }

    /// Shows only those that are still there.
    pub fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.all().retain(|fleet, _| is_there(fleet));
    }

    /// Whether some fleet is to be shown at this address and nowhere else.
    pub fn are_at(&self, listen: SocketAddr) -> bool {
        self.all().values().any(|(place, _)| *place == Place::At(listen))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, (Place, Standing)>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One address, and what is shown there.
#[derive(Clone)]
struct Door {
    fleets: Arc<Fleets>,
    listen: SocketAddr,
}

impl Door {
    fn shown(&self) -> BTreeMap<String, Standing> {
        let all = self.fleets.all();
        let here = |place: &Place| matches!(place, Place::Anywhere) || *place == Place::At(self.listen);
        all.iter()
            .filter(|(_, (place, _))| here(place))
            .map(|(fleet, (_, standing))| (fleet.clone(), standing.clone()))
            .collect()
    }

    /// What `answer` says of the fleet that a path names; 404 where there is none, and 503 while its loop does not run.
    async fn answer<A>(&self, fleet: &str, answer: impl FnOnce(State<Shown>) -> A) -> Response
    where
        A: Future<Output = Response>,
    {
        match self.shown().remove(fleet) {
            Some(Standing::Runs(shown)) => answer(State(shown)).await,
            Some(Standing::Rests(why)) => {
                (StatusCode::SERVICE_UNAVAILABLE, Json(Health::not_ready(why))).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        }
    }
}

/// Answers requests for those of `fleets` that are shown at `listen`, the address that configurations name, until `stop` is
/// cancelled.
pub async fn serve(listener: TcpListener, fleets: Arc<Fleets>, listen: SocketAddr, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(all_metrics))
        .route("/api/status", get(status))
        .route("/fleets/{fleet}/healthz", get(health_of))
        .route("/fleets/{fleet}/metrics", get(metrics_of))
        .route("/fleets/{fleet}/api/status", get(status_of))
        .route("/fleets/{fleet}/runbooks/", get(runbooks_of))
        .route("/fleets/{fleet}/runbooks/{*path}", get(runbook_of))
        .route("/fleets/{fleet}/hooks/{forge}", post(hook_of))
        .layer(DefaultBodyLimit::max(webhooks::LARGEST_BODY))
        .with_state(Door { fleets, listen });
    server::serve(listener, routes, stop).await;
}

/// How all fleets are.
#[derive(Serialize)]
struct Healths {
    ready: bool,
    why: Option<String>,
    fleets: BTreeMap<String, Health>,
}

/// 200 while the loops of all fleets make passes that come about, else 503; with those that don't.
async fn health(State(door): State<Door>) -> Response {
    let health = |standing| match standing {
        Standing::Runs(shown) => shown.health(),
        Standing::Rests(why) => Health::not_ready(why),
    };
    let fleets: BTreeMap<String, Health> =
        door.shown().into_iter().map(|(fleet, standing)| (fleet, health(standing))).collect();
    let faults: Vec<String> = fleets
        .iter()
        .filter(|(_, health)| !health.ready)
        .map(|(fleet, health)| format!("{fleet}: {}", health.why.as_deref().unwrap_or("not ready")))
        .collect();
    let ready = faults.is_empty();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Healths { ready, why: (!ready).then(|| faults.join("; ")), fleets })).into_response()
}

async fn all_metrics(State(door): State<Door>) -> Response {
    let mut texts = metrics::Several::default();
    for (fleet, standing) in door.shown() {
        let added = match standing {
            Standing::Runs(shown) => {
                metrics::text(&shown.board, &shown.webhooks, shown.clock.now()).map(|text| {
                    texts.add(&fleet, &text);
                    texts.tell_ready(&fleet, shown.health().ready);
                })
            }
            Standing::Rests(_) => {
                texts.tell_ready(&fleet, false);
                Ok(())
            }
        };
        if added.is_err() {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    }
    ([(header::CONTENT_TYPE, OPEN_METRICS)], texts.text()).into_response()
}

/// What is told of all fleets.
#[derive(Serialize)]
struct All<'a> {
    format: &'static str,
    fleets: Vec<Told<&'a Status>>,
}

async fn status(State(door): State<Door>) -> Response {
    let known: Vec<(String, Result<Arc<Status>, String>)> = door
        .shown()
        .into_iter()
        .map(|(fleet, standing)| match standing {
            Standing::Runs(shown) => {
                (fleet, shown.board.status().ok_or_else(|| "no pass has come about yet".to_owned()))
            }
            Standing::Rests(why) => (fleet, Err(why)),
        })
        .collect();
    let fleets = known.iter().map(|(fleet, known)| Told {
        fleet: fleet.clone(),
        exit: None,
        told: known.as_deref().ok(),
        error: known.as_ref().err().cloned(),
    });
    Json(All { format: FORMAT, fleets: fleets.collect() }).into_response()
}

async fn health_of(State(door): State<Door>, Path(fleet): Path<String>) -> Response {
    door.answer(&fleet, super::health).await
}

async fn metrics_of(State(door): State<Door>, Path(fleet): Path<String>) -> Response {
    door.answer(&fleet, super::metrics).await
}

async fn status_of(State(door): State<Door>, Path(fleet): Path<String>) -> Response {
    door.answer(&fleet, super::status).await
}

async fn runbooks_of(State(door): State<Door>, Path(fleet): Path<String>) -> Response {
    door.answer(&fleet, super::runbooks::index).await
}

async fn runbook_of(State(door): State<Door>, Path((fleet, path)): Path<(String, String)>) -> Response {
    door.answer(&fleet, |shown| super::runbooks::paper(shown, Path(path))).await
}

/// Why a fleet rests is for its operators, and not for whoever may post here.
async fn hook_of(
    State(door): State<Door>,
    Path((fleet, forge)): Path<(String, String)>,
    request: Request,
) -> StatusCode {
    let take = |shown| async move { super::hook(shown, Path(forge), request).await.into_response() };
    door.answer(&fleet, take).await.status()
}
