//! The moment of a reading, by two clocks: the controller's, which dates artifacts, and the server's, which dates what its log
//! tells.

use std::time::Duration;

use jiff::Timestamp;

/// How far a server's clock may be ahead for its time to be waited for.
const AHEAD: Duration = Duration::from_secs(60);

/// When data was read that a log goes on from. What is earlier can't be reached from that data, and what the server's log calls
/// earlier bears the time of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TwoClocks {
    /// By the controller's clock.
    pub ours: Timestamp,
    /// By the server's.
    pub servers: Timestamp,
}

impl TwoClocks {
    /// Returns once our clock shows the time: no artifact may be of the future.
    pub(super) async fn settled(self) {
        if self.ahead() > AHEAD {
            tracing::warn!(ahead = ?self.ahead(), "the server's clock is ahead of ours: set both right");
        }
        tokio::time::sleep(self.wait()).await;
    }

    /// The first moment that can be reached.
    pub(super) fn time(self) -> Timestamp {
        if self.ahead() <= AHEAD { self.ours.max(self.servers) } else { self.ours }
    }

    /// Up to which moment the log is whole if it ends now: what is committed bears the time of the server's clock. Where that is
    /// behind, its log does not reach up to ours.
    pub(super) fn log_end(self) -> Timestamp {
        self.ours.min(self.servers)
    }

    /// What can't be reached though [`TwoClocks::time`] says so.
    pub(super) fn omitted(self) -> Vec<String> {
        let ahead = self.ahead();
        if ahead <= AHEAD {
            return Vec::new();
        }
        let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
        vec![format!(
            "the first {ahead} of its log: the server's clock is that far ahead of ours; set both right"
        )]
    }

    fn ahead(self) -> Duration {
        Duration::try_from(self.servers.duration_since(self.ours)).unwrap_or_default()
    }

    fn wait(self) -> Duration {
        if self.ahead() <= AHEAD { self.ahead() } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_of_the_later_of_two_clocks_and_never_of_the_future() {
        let read = |servers: &str| TwoClocks {
            ours: "2026-11-20T10:00:00Z".parse().unwrap(),
            servers: servers.parse().unwrap(),
        };
        let behind = read("2026-11-20T09:00:00Z");
        assert_eq!((behind.time(), behind.wait()), (behind.ours, Duration::ZERO));
        let ahead = read("2026-11-20T10:00:03Z");
        assert_eq!((ahead.time(), ahead.wait()), (ahead.servers, Duration::from_secs(3)));
        let far = read("2026-11-20T11:00:00Z");
        assert_eq!((far.time(), far.wait()), (far.ours, Duration::ZERO));
        assert!(behind.omitted().is_empty() && ahead.omitted().is_empty() && !far.omitted().is_empty());
        assert_eq!((behind.log_end(), ahead.log_end()), (behind.servers, ahead.ours));
    }
}
