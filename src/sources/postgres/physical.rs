//! A physical capture: the tar of `pg_basebackup`, with the write-ahead log that it needs and a manifest at its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    ANSWER, Failure,
    access::Access,
    programs::Programs,
    session::{Identity, Session},
    wal,
};
use crate::{
    artifact::manifest::{Counts, Details, Moment},
    process::Program,
    sources::{CaptureRequest, Captured, Sink},
};

/// The first version whose base backups have a manifest.
const OLDEST: u32 = 13;

/// How much of the end of the tar is kept: more than what follows the ranges of the log in the manifest, bytes.
const ENDING: usize = 64 * 1024;

/// The blocks that close a tar, bytes.
const TRAILER: usize = 1024;

/// Captures the whole cluster.
pub(super) async fn capture(
    access: &Access,
    request: &CaptureRequest,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let began = Instant::now();
    let mut session = Session::open_for_replication(access, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    must_fit(&mut session, &server).await?;
    let programs = access.installed.for_server(server.major)?;
    let mut backup = program(access, programs, request).start()?;
    backup.close_input();
    let mut ending = Vec::new();
    while let Some(bytes) = backup.read().await? {
        keep(&mut ending, &bytes);
        sink.write(bytes).await?;
    }
    backup.finish().await?;
    let end = End { ours: request.now + began.elapsed(), servers: session.clock("SELECT 1").await? };
    let log = LogRange::of(&ending).ok_or_else(|| {
        Failure::Incomplete("the base backup ends without its manifest and closing blocks".to_owned())
    })?;
    let position = format!("{}, begun at {}", wal::position(&mut session, &log.end).await?, log.start);
    let versions = [("server".to_owned(), server.version), ("dump".to_owned(), programs.version.clone())];
    let counts = Counts::NotCaptured("a copy of the cluster's files has no rows to count".to_owned());
    if end.ahead() > AHEAD {
        tracing::warn!(ahead = ?end.ahead(), "the server's clock is ahead of ours: set both right");
    }
    tokio::time::sleep(end.wait()).await;
    let details = Details { versions: versions.into(), counts, omitted: end.omitted(), ..Details::default() };
    Ok(Captured { moment: Moment::At { time: end.time(), position: Some(position) }, details })
}

/// How far a server's clock may be ahead for its time to be waited for.
const AHEAD: Duration = Duration::from_secs(60);

/// When the copy ended, by two clocks. The files are those of the end: what is earlier can't be reached from them, and what
/// the server's log calls earlier bears the time of the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    ours: Timestamp,
    servers: Timestamp,
}

impl End {
    /// How far the server's clock is ahead.
    fn ahead(self) -> Duration {
        Duration::try_from(self.servers.duration_since(self.ours)).unwrap_or_default()
    }

    /// How long it takes until our clock shows the server's time: no artifact may be of the future.
    fn wait(self) -> Duration {
        if self.ahead() <= AHEAD { self.ahead() } else { Duration::ZERO }
    }

    fn time(self) -> Timestamp {
        if self.ahead() <= AHEAD { self.ours.max(self.servers) } else { self.ours }
    }

    /// What can't be reached though the time of the copy says so.
    fn omitted(self) -> Vec<String> {
        let ahead = self.ahead();
        if ahead <= AHEAD {
            return Vec::new();
        }
        let ahead = humantime::format_duration(Duration::from_secs(ahead.as_secs()));
        vec![format!(
            "the first {ahead} of its log: the server's clock is that far ahead of ours; set both right"
        )]
    }
}

fn program(access: &Access, programs: &Programs, request: &CaptureRequest) -> Program {
    let backup = access.program(programs, "pg_basebackup", request.stall);
    let backup = backup.arguments(["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"]);
    backup.arguments(["--manifest-checksums=SHA256", "--label=backstay"])
}

/// What can't be streamed is refused before anything is.
pub(super) async fn must_fit(session: &mut Session, server: &Identity) -> Result<(), Failure> {
    if server.major < OLDEST {
        let why = format!(
            "the server is PostgreSQL {}; base backups have a manifest from {OLDEST} on",
            server.major
        );
        return Err(Failure::Refused(why));
    }
    let sql = "SELECT spcname FROM pg_catalog.pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1";
    match session.values(sql).await?.as_slice() {
        [] => Ok(()),
        several => Err(Failure::Refused(format!(
            "the cluster has tablespaces of its own ({}), which can't be captured in one stream; \
             move what they hold to pg_default and drop them, or use method = \"logical\"",
            several.join(", ")
        ))),
    }
}

/// Keeps the last bytes of what came.
fn keep(ending: &mut Vec<u8>, bytes: &Bytes) {
    ending.extend_from_slice(&bytes[bytes.len().saturating_sub(ENDING)..]);
    ending.drain(..ending.len().saturating_sub(ENDING));
}

/// Which part of the write-ahead log the copy needs, and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogRange {
    start: String,
    end: String,
}

impl LogRange {
    /// Reads it off the manifest at the end of a whole tar.
    fn of(tar: &[u8]) -> Option<Self> {
        let (content, trailer) = tar.split_at_checked(tar.len().checked_sub(TRAILER)?)?;
        let padding = content.iter().rev().take_while(|byte| **byte == 0).count();
        let manifest = &content[..content.len() - padding];
        if trailer.iter().any(|byte| *byte != 0) || !manifest.ends_with(b"\"}\n") {
            return None;
        }
        let from = manifest.windows(WAL_RANGES.len()).rposition(|window| window == WAL_RANGES)?;
        let text = [b"{", &manifest[from..]].concat();
        let text: serde_json::Value = serde_json::from_slice(&text).ok()?;
        // A copy that went over a change of timeline has several; the last one is where it ends.
        let ranges = text.get("WAL-Ranges")?.as_array()?;
        let (first, last) = (ranges.first()?, ranges.last()?);
        Some(Self {
            start: first.get("Start-LSN")?.as_str()?.to_owned(),
            end: last.get("End-LSN")?.as_str()?.to_owned(),
        })
    }
}

const WAL_RANGES: &[u8] = b"\"WAL-Ranges\"";

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "{ \"Files\": [\n],\n\"WAL-Ranges\": [\n\
        { \"Timeline\": 2, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n],\n\
        \"Manifest-Checksum\": \"07ee\"}\n";

    #[test]
    fn a_copy_is_of_the_later_of_two_clocks_and_never_of_the_future() {
        let end = |servers: &str| End {
            ours: "2026-11-20T10:00:00Z".parse().unwrap(),
            servers: servers.parse().unwrap(),
        };
        let behind = end("2026-11-20T09:00:00Z");
        assert_eq!((behind.time(), behind.wait()), (behind.ours, Duration::ZERO));
        let ahead = end("2026-11-20T10:00:03Z");
        assert_eq!((ahead.time(), ahead.wait()), (ahead.servers, Duration::from_secs(3)));
        let far = end("2026-11-20T11:00:00Z");
        assert_eq!((far.time(), far.wait()), (far.ours, Duration::ZERO));
        assert!(behind.omitted().is_empty() && ahead.omitted().is_empty() && !far.omitted().is_empty());
    }

    #[test]
    fn the_range_of_the_log_is_read_off_a_whole_tar_only() {
        let mut tar = MANIFEST.as_bytes().to_vec();
        tar.resize(512 + TRAILER, 0);
        let range = LogRange::of(&tar).unwrap();
        assert_eq!((range.start.as_str(), range.end.as_str()), ("0/2000028", "0/2000100"));
        for cut in [0, 100, 512, TRAILER, tar.len() - 512] {
            assert_eq!(LogRange::of(&tar[..cut]), None, "{cut}");
        }
    }
}
