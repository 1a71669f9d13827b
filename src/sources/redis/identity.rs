//! Which server it is.

use jiff::{SignedDuration, Timestamp};

use super::{Failure, connection::Connection, rdb::Rdb};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The engine and its version.
    pub version: String,
    /// Whether it holds only a part of a cluster's keys.
    pub is_of_a_cluster: bool,
    /// Its clock, seconds of Unix time; from Redis 6.2 on.
    clock: Option<i64>,
}

impl Identity {
    pub(super) async fn ask(connection: &mut Connection) -> Result<Self, Failure> {
        Self::read(&connection.text(&["INFO", "server"]).await?)
            .ok_or_else(|| Failure::Unexpected("the server does not tell its version".to_owned()))
    }

    /// The major number of the version of Redis that it is; of another engine nothing is known.
    pub(super) fn release(&self) -> Option<u32> {
        self.version.strip_prefix("Redis ")?.split('.').next()?.parse().ok()
    }

    fn read(info: &str) -> Option<Self> {
        let value = |key: &str| {
            info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim_end)
        };
        let version = match value("valkey_version") {
            Some(version) => format!("Valkey {version}"),
            None => format!("Redis {}", value("redis_version")?),
        };
        let clock = value("server_time_usec").and_then(|time| time.parse::<i64>().ok());
        Some(Self {
            version,
            is_of_a_cluster: value("redis_mode") == Some("cluster"),
            clock: clock.map(|microseconds| microseconds / 1_000_000),
        })
    }

    /// When the data was as it is in `rdb`, by the clock that said `asked` before this identity was asked for, and `began` when
    /// the server began to send. One that is saving already may send that file: it is older than the question, and must not
    /// count as newer.
    pub(super) fn moment_of(&self, rdb: &Rdb, asked: Timestamp, began: Timestamp) -> Timestamp {
        let age = self.clock.zip(rdb.saved_at()).and_then(|(clock, saved)| clock.checked_sub(saved));
        match age.filter(|age| *age > 0) {
            Some(age) => asked.checked_sub(SignedDuration::from_secs(age)).unwrap_or(asked),
            None => began,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rdb::Checksum, *};

    const INFO: &str =
        "# Server\r\nredis_version:7.0.15\r\nredis_mode:cluster\r\nserver_time_usec:1700000060999999\r\n";

    #[test]
    fn the_version_is_that_of_the_engine_that_runs() {
        assert_eq!(Identity::read(INFO).unwrap().version, "Redis 7.0.15");
        assert!(Identity::read(INFO).unwrap().is_of_a_cluster);
        let valkey = "redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n";
        let valkey = Identity::read(valkey).unwrap();
        assert_eq!((valkey.version.as_str(), valkey.is_of_a_cluster), ("Valkey 8.0.1", false));
        assert_eq!(Identity::read("# Server\r\n"), None);
    }

    #[test]
    fn a_file_that_was_begun_before_the_question_is_as_old_as_it_is() {
        let saved = |ctime: &str| Rdb {
            version: 10,
            facts: [("ctime".to_owned(), ctime.to_owned())].into(),
            checksum: Checksum::Right,
        };
        let server = Identity::read(INFO).unwrap();
        // The controller's clock is not the server's.
        let [asked, began]: [Timestamp; 2] =
            ["2020-01-01T00:01:00Z", "2020-01-01T00:01:07Z"].map(|text| text.parse().unwrap());
        let moment = |ctime| server.moment_of(&saved(ctime), asked, began).to_string();
        assert_eq!(moment("1700000060"), "2020-01-01T00:01:07Z");
        assert_eq!(moment("1700000065"), "2020-01-01T00:01:07Z");
        assert_eq!(moment("1700000000"), "2020-01-01T00:00:00Z");
        assert_eq!(moment("no number"), "2020-01-01T00:01:07Z");
    }
}
