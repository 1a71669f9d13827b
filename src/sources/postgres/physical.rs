//! A physical capture: the tar of `pg_basebackup`, with the write-ahead log that it needs and a manifest at its end.

use bytes::Bytes;

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
    sources::{CaptureRequest, Captured, Sink, two_clocks::TwoClocks},
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
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
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
    // The files are those of the end.
    let end = TwoClocks { servers: session.clock("SELECT 1").await?, ours: request.now() };
    let log = LogRange::of(&ending).ok_or_else(|| {
        Failure::Incomplete("the base backup ends without its manifest and closing blocks".to_owned())
    })?;
    let position = format!("{}, begun at {}", wal::position(&mut session, &log.end).await?, log.start);
    let versions = [("server".to_owned(), server.version), ("dump".to_owned(), programs.version.clone())];
    let counts = Counts::NotCaptured("a copy of the cluster's files has no rows to count".to_owned());
    end.settled().await;
    let details = Details { versions: versions.into(), counts, omitted: end.omitted(), ..Details::default() };
    Ok(Captured { moment: Moment::At { time: end.time(), position: Some(position) }, details })
}

fn program(access: &Access, programs: &Programs, request: &CaptureRequest<'_>) -> Program {
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
