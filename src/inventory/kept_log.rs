//! What a server keeps of its log until that is captured.

use jiff::Timestamp;
use serde::Serialize;

use super::Observed;

/// What was seen of the log that a server keeps for a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSeen {
    /// When, by the controller's clock.
    pub at: Timestamp,
    /// What; `None` where the server keeps nothing for it.
    pub found: Observed<Option<KeptLog>>,
}

/// The log that a server keeps for a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeptLog {
    /// The replication slot that keeps it.
    pub slot: String,
    /// How much of it there is, bytes.
    pub bytes: u64,
    /// The most that the server keeps, bytes; `None` where nothing limits it.
    pub limit: Option<u64>,
    /// Whether it is safe.
    pub status: WalStatus,
}

/// Whether what a slot keeps is safe (PostgreSQL's documentation, "pg_replication_slots", `wal_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WalStatus {
    /// Within what the server keeps anyway.
    Reserved,
    /// More than that, and still kept.
    Extended,
    /// More than the limit: it goes with the server's next checkpoint.
    Unreserved,
    /// Some of it is gone.
    Lost,
}

/// Why a log that is kept needs somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRisk {
    /// Some of it is gone.
    Lost,
    /// It goes at any moment.
    Leaving,
    /// Nothing keeps it from filling the server's disk.
    Unlimited,
    /// Over half of what may be kept is in use.
    HalfUsed,
}

impl KeptLog {
    /// Why it needs somebody; the gravest reason.
    pub fn risk(&self) -> Option<LogRisk> {
        match (self.status, self.limit) {
            (WalStatus::Lost, _) => Some(LogRisk::Lost),
            (WalStatus::Unreserved, _) => Some(LogRisk::Leaving),
            (_, None) => Some(LogRisk::Unlimited),
            (_, Some(limit)) => (self.bytes > limit / 2).then_some(LogRisk::HalfUsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_needs_somebody_before_any_of_it_is_gone() {
        let risk = |status, bytes, limit| {
            KeptLog { slot: "backstay_orders".to_owned(), bytes, limit, status }.risk()
        };
        assert_eq!(risk(WalStatus::Reserved, 50, Some(100)), None);
        assert_eq!(risk(WalStatus::Extended, 51, Some(100)), Some(LogRisk::HalfUsed));
        assert_eq!(risk(WalStatus::Unreserved, 120, Some(100)), Some(LogRisk::Leaving));
        assert_eq!(risk(WalStatus::Lost, 0, None), Some(LogRisk::Lost));
        assert_eq!(risk(WalStatus::Reserved, 1, None), Some(LogRisk::Unlimited));
    }
}
