//! What service accounts are let in with: fetched once, and used until it expires, for Atlas gives out few in a minute.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::secrets::Secret;

/// A token is renewed when it has no longer than this left.
const MARGIN: Duration = Duration::from_secs(60);

/// The tokens of this host, by account.
#[derive(Clone, Default)]
pub struct Tokens(Arc<Mutex<BTreeMap<[u8; 32], Slot>>>);

/// The token of one account. Whoever fetches it holds the lock: the others wait, and take what was fetched.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// A token.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: Secret,
    good_until: Instant,
}

impl Token {
    /// One that is good for `lifetime` from `now` on.
    pub(super) fn new(text: Secret, lifetime: Duration, now: Instant) -> Self {
        // One that is not good for long is used for most of that.
        let margin = MARGIN.min(lifetime / 10);
        Self { text, good_until: now + (lifetime - margin) }
    }

    pub(super) fn is_good(&self, now: Instant) -> bool {
        now < self.good_until
    }
}

impl Tokens {
    /// Where the token of an account is kept. Another secret is another account.
    pub(super) fn slot(&self, url: &str, client_id: &Secret, client_secret: &Secret) -> Slot {
        let mut account = Sha256::new();
        for part in [url, client_id.expose(), client_secret.expose()] {
            account.update(part.len().to_be_bytes());
            account.update(part);
        }
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(account.finalize().into()).or_default().clone()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(***)")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_until_shortly_before_it_expires() {
        let (now, secs) = (Instant::now(), Duration::from_secs);
        let token = |lifetime| Token::new(Secret::new("t".to_owned()), secs(lifetime), now);
        assert!(token(3600).is_good(now + secs(3500)) && !token(3600).is_good(now + secs(3540)));
        assert!(token(10).is_good(now + secs(8)) && !token(10).is_good(now + secs(9)));
        assert!(!token(0).is_good(now));
    }
}
