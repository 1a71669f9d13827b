//! Webhooks: somebody who proves to know a secret says "look now". Nothing in the body decides anything, and so nothing
//! in it is ever parsed: what there is to see, the look itself finds out.

mod proof;
mod replays;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use jiff::Timestamp;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use tokio::sync::Notify;

use self::{proof::Delivery, replays::Replays};
use crate::{
    config::{Forge, HostSecret},
    secrets::SecretError,
};

/// The largest body, bytes: a push of many commits is some 100 KiB.
pub(super) const LARGEST_BODY: usize = 1 << 20;
/// A shorter secret can be guessed, bytes.
const SHORTEST_SECRET: usize = 16;

/// A webhook that can't be taken as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Its secret can't be read.
    #[error("failed to take webhooks of {forge}: {source}")]
    Secret {
        /// The forge.
        forge: Forge,
        /// Why.
        source: SecretError,
    },
    /// Its secret is too short to be one.
    #[error(
        "failed to take webhooks of {0}: its secret is shorter than {SHORTEST_SECRET} bytes; make one with \
         `openssl rand -hex 32`, here and at {0}"
    )]
    Short(Forge),
}

/// What takes webhooks.
#[derive(Debug)]
pub struct Webhooks {
    secrets: BTreeMap<Forge, HostSecret>,
    heard: Arc<Notify>,
    replays: Mutex<Replays>,
    answers: Family<Labels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Labels {
    forge: &'static str,
    answer: &'static str,
}

/// What a delivery is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// A look comes.
    Looks,
    /// It only asked if anybody is there.
    Pong,
    /// It came before.
    Replayed,
    /// It does not prove to know the secret.
    Unproven,
    /// Its body is too large, or broke off.
    Unreadable(StatusCode),
    /// The secret can't be read just now.
    Unable,
}

impl Answer {
    fn status(self) -> StatusCode {
        match self {
            Answer::Looks => StatusCode::ACCEPTED,
            Answer::Pong => StatusCode::OK,
            Answer::Replayed => StatusCode::CONFLICT,
            Answer::Unproven => StatusCode::UNAUTHORIZED,
            Answer::Unreadable(status) => status,
            Answer::Unable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Answer::Looks => "looks",
            Answer::Pong => "pong",
            Answer::Replayed => "replayed",
            Answer::Unproven => "unproven",
            Answer::Unreadable(_) => "unreadable",
            Answer::Unable => "unable",
        }
    }
}

impl Webhooks {
    /// Takes webhooks of those who know one of `secrets`, and tells `heard` of each.
    ///
    /// # Errors
    /// When a secret can't be read, or is too short to be one. Later on each is read anew for every delivery, so that it
    /// may be exchanged at any time.
    pub fn open(secrets: BTreeMap<Forge, HostSecret>, heard: Arc<Notify>) -> Result<Self, WebhookError> {
        for (forge, secret) in &secrets {
            let read = secret.read().map_err(|source| WebhookError::Secret { forge: *forge, source })?;
            if read.expose().len() < SHORTEST_SECRET {
                return Err(WebhookError::Short(*forge));
            }
        }
        Ok(Self { secrets, heard, replays: Mutex::default(), answers: Family::default() })
    }

    /// Takes one delivery that came for the forge of this name; `body` is how far it could be read. Says what it is
    /// answered with.
    pub fn take(
        &self,
        forge: &str,
        headers: &HeaderMap,
        body: Result<Bytes, StatusCode>,
        now: Timestamp,
    ) -> StatusCode {
        let known = Forge::of(forge).and_then(|forge| Some((forge, self.secrets.get(&forge)?)));
        let Some((forge, secret)) = known else { return StatusCode::NOT_FOUND };
        let answer = match body {
            Ok(body) => self.judge(Delivery { forge, headers, body: &body }, secret, now),
            Err(status) => Answer::Unreadable(status),
        };
        let labels = Labels { forge: forge.as_str(), answer: answer.as_str() };
        self.answers.get_or_create(&labels).inc();
        if answer == Answer::Looks {
            self.heard.notify_one();
        }
        answer.status()
    }

    fn judge(&self, delivery: Delivery<'_>, secret: &HostSecret, now: Timestamp) -> Answer {
        let secret = match secret.read() {
            Ok(secret) => secret,
            Err(error) => {
                tracing::error!(forge = %delivery.forge, %error, "a webhook could not be taken");
                return Answer::Unable;
            }
        };
        let Some(marks) = delivery.proven(&secret, now) else { return Answer::Unproven };
        if !self.replays.lock().unwrap_or_else(PoisonError::into_inner).admits(&marks, now) {
            return Answer::Replayed;
        }
        if delivery.is_ping() { Answer::Pong } else { Answer::Looks }
    }

    /// How many deliveries were answered how.
    pub(super) fn answers(&self) -> Family<Labels, Counter> {
        self.answers.clone()
    }
}
