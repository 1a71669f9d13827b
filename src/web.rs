//! What the controller shows over HTTP: `/healthz`, `/metrics`, `/api/status`, `/runbooks/`; and `/hooks/`, where it is told to look.
//! Reads what the loop pinned to the [`Board`], and never a driver.

pub mod board;
pub mod fleets;
mod metrics;
mod runbooks;
mod server;
pub mod webhooks;

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Json, Router,
    body::{Bytes, HttpBody as _},
    extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use board::Board;
pub use webhooks::Webhooks;

use crate::clock::Clock;

/// The text format of metrics: OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on {address}: {source}; choose another address in http.listen")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

impl ListenError {
    pub(crate) fn new(address: SocketAddr, source: io::Error) -> Self {
        Self { address, source }
    }
}

/// What requests are answered from.
#[derive(Clone)]
pub struct Shown {
    /// What the loop knows.
    pub board: Arc<Board>,
    /// Who may tell it to look.
    pub webhooks: Arc<Webhooks>,
    /// What it goes by.
    pub clock: Arc<dyn Clock>,
}

impl Shown {
    fn health(&self) -> board::Health {
        self.board.health(self.clock.now())
    }
}

/// Listens on `address`; port 0 takes any that is free.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::new(address, source))
}

/// Answers requests until `stop` is cancelled.
pub async fn serve(listener: TcpListener, shown: Shown, stop: CancellationToken) {
    let routes = Router::new()
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/status", get(status))
        .route("/runbooks/", get(runbooks::index))
        .route("/runbooks/{*path}", get(runbooks::paper))
        .route("/hooks/{forge}", post(hook))
        .layer(DefaultBodyLimit::max(webhooks::LARGEST_BODY))
        .with_state(shown);
    server::serve(listener, routes, stop).await;
}

/// 200 while the loop makes passes that come about, else 503; with the reason as JSON.
async fn health(State(shown): State<Shown>) -> Response {
    let health = shown.health();
    let code = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health)).into_response()
}

async fn metrics(State(shown): State<Shown>) -> Response {
    match metrics::text(&shown.board, &shown.webhooks, shown.clock.now()) {
        Ok(text) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// 503 before the first pass.
async fn status(State(shown): State<Shown>) -> Response {
    match shown.board.status() {
        Some(status) => Json(&*status).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// 202 when a look comes, else why not; never more than that.
async fn hook(State(shown): State<Shown>, Path(forge): Path<String>, request: Request) -> StatusCode {
    let headers = request.headers().clone();
    let body = whole_body(request).await;
    shown.webhooks.take(&forge, &headers, body, shown.clock.now())
}

/// A body that is announced to be too large is not waited for.
async fn whole_body(request: Request) -> Result<Bytes, StatusCode> {
    if request.body().size_hint().lower() > webhooks::LARGEST_BODY as u64 {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    Bytes::from_request(request, &()).await.map_err(|rejection| rejection.status())
}
