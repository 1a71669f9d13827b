//! Whose log it is: the cluster, the history of its timeline, and how it cuts what it writes.

use super::segment::{self, Segments};
use crate::{
    artifact::position::{History, Lsn, WalPosition},
    sources::postgres::{
        Failure,
        session::{Identity, Session, literal},
    },
};

/// The first version that limits what a slot keeps.
const OLDEST: u32 = 13;

/// The origin of a log: a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub server: Identity,
    pub log: Log,
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Log {
    /// The cluster's identifier.
    pub system: String,
    pub history: History,
    pub segments: Segments,
}

impl Origin {
    /// Asks a server whose log can be captured.
    pub(super) async fn ask(session: &mut Session) -> Result<Self, Failure> {
        let server = Identity::ask(session).await?;
        if server.major < OLDEST {
            return Err(Failure::Refused(format!(
                "the server is PostgreSQL {}; its log can be captured from {OLDEST} on, where a limit keeps it from filling its disk",
                server.major
            )));
        }
        let sql = "SELECT pg_catalog.pg_is_in_recovery(), setting FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size'";
        let [is_standby, size] = session.row(sql).await?;
        if is_standby == "t" {
            let why = "the server is a standby, which can't be told to end a segment of the log; declare the primary, or a name \
                       that follows it";
            return Err(Failure::Refused(why.to_owned()));
        }
        let segments = Segments::of_size(&size)?;
        let (system, history) = identify(session).await?;
        Ok(Self { server, log: Log { system, history, segments } })
    }
}

impl Log {
    /// A place in this log.
    pub(super) fn place(&self, lsn: Lsn) -> WalPosition<'_> {
        WalPosition { lsn, system: Some(&self.system), history: self.history.at(lsn) }
    }

    /// A place in this log, as manifests bear it.
    pub(super) fn position(&self, lsn: Lsn) -> String {
        self.place(lsn).to_string()
    }
}

/// Where a server says that its log stands, as manifests bear it.
pub(in crate::sources::postgres) async fn position(
    session: &mut Session,
    lsn: &str,
) -> Result<String, Failure> {
    let (system, history) = identify(session).await?;
    let lsn = segment::lsn(lsn)?;
    Ok(WalPosition { lsn, system: Some(&system), history: history.at(lsn) }.to_string())
}

/// The cluster, and the history of its timeline (PostgreSQL's documentation, "Streaming Replication Protocol").
async fn identify(session: &mut Session) -> Result<(String, History), Failure> {
    let [system, timeline, _, _] = session.row("IDENTIFY_SYSTEM").await?;
    let unreadable = || Failure::Answer(format!("the server's timeline is no number: {timeline}"));
    let timeline: u32 = timeline.parse().map_err(|_| unreadable())?;
    let ancestors = match timeline {
        ..=1 => Vec::new(),
        _ => {
            let [_, content] = session.row(&format!("TIMELINE_HISTORY {timeline}")).await?;
            ancestors(&content)?
        }
    };
    Ok((system, History { timeline, ancestors }))
}

/// The lines of a history: a timeline, where it was left, and why (`timeline.c`, "readTimeLineHistory").
pub(super) fn ancestors(content: &str) -> Result<Vec<(u32, Lsn)>, Failure> {
    let unreadable =
        |line: &str| Failure::Answer(format!("the history of the timeline can't be read: {line:?}"));
    let lines = content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let ancestor = |line: &str| {
        let mut fields = line.split_whitespace();
        let timeline = fields.next().and_then(|field| field.parse().ok());
        let until = fields.next().and_then(Lsn::parse);
        timeline.zip(until).ok_or_else(|| unreadable(line))
    };
    lines.map(ancestor).collect()
}

/// The statement that lets a role end a segment.
pub(super) fn grant(role: &str) -> String {
    format!("in database postgres: GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO {role};")
}

/// Whether the role may end a segment.
pub(super) async fn must_be_able_to_switch(session: &mut Session, role: &str) -> Result<(), Failure> {
    let function = literal("pg_catalog.pg_switch_wal()");
    let [may] =
        session.row(&format!("SELECT pg_catalog.has_function_privilege({function}, 'EXECUTE')")).await?;
    match may.as_str() {
        "t" => Ok(()),
        _ => Err(Failure::Privilege {
            lacks: format!("role {role} may not end a segment of the log"),
            grant: grant(role),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_is_read_line_by_line() {
        let content =
            "1\t0/3000110\tno recovery target specified\n\n2\t0/5000000\tbefore 2026-11-20 10:35:50+00\n";
        assert_eq!(ancestors(content).unwrap(), [(1, Lsn(0x3000110)), (2, Lsn(0x5000000))]);
        assert_eq!(ancestors("").unwrap(), []);
        assert!(ancestors("x\t0/1\ty").is_err() && ancestors("1\t").is_err());
    }
}
