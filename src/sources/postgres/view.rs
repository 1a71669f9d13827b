//! The moment of a dump: a transaction whose view of one database the dump shares, and which counts its rows.

use std::{collections::BTreeMap, time::Duration};

use super::{Failure, access::Access, session::Session};
use crate::artifact::manifest::Counts;

/// Tables that a dump carries rows of: neither the engine's own, nor those that an extension makes again by itself.
const TABLES: &str = "SELECT n.nspname || '.' || c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                    AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1";

/// A transaction that shows one moment of one database as long as it is open.
#[derive(Debug)]
pub(super) struct View {
    /// Keeps the snapshot: a count that fails must not take it from the dump.
    _exporting: Session,
    counting: Session,
    database: String,
    /// What a dump is told to see the same.
    pub snapshot: String,
    /// Where the write-ahead log stood.
    pub position: String,
}

impl View {
    pub(super) async fn open(access: &Access, database: &str, stall: Duration) -> Result<Self, Failure> {
        let mut exporting = Session::open(access, database, stall).await?;
        let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
                   SELECT pg_catalog.pg_export_snapshot(), CASE WHEN pg_catalog.pg_is_in_recovery() \
                   THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END";
        let [snapshot, position] = exporting.row(sql).await?;
        let mut counting = Session::open(access, database, stall).await?;
        let shared = super::session::literal(&snapshot);
        counting
            .values(&format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT {shared}"
            ))
            .await?;
        Ok(Self { _exporting: exporting, counting, database: database.to_owned(), snapshot, position })
    }

    /// Counts the rows of each table as the view shows them.
    pub(super) async fn count(&mut self) -> Counts {
        match self.try_count().await {
            Ok(counts) => Counts::Captured(counts),
            Err(failure) => Counts::NotCaptured(format!("they could not be counted: {}", failure.reason())),
        }
    }

    async fn try_count(&mut self) -> Result<BTreeMap<String, u64>, Failure> {
        let mut counts = BTreeMap::new();
        for [name, table] in self.counting.rows(TABLES).await? {
            let [rows] = self.counting.row(&format!("SELECT pg_catalog.count(*) FROM ONLY {table}")).await?;
            let rows = rows.parse().map_err(|_| Failure::Answer(format!("a count is no number: {rows}")))?;
            counts.insert(format!("{}.{name}", self.database), rows);
        }
        Ok(counts)
    }
}

/// Counts of several databases as one; unknown where those of one are.
pub(super) fn together(all: Vec<Counts>) -> Counts {
    let mut together = BTreeMap::new();
    for counts in all {
        match counts {
            Counts::Captured(counts) => together.extend(counts),
            unknown => return unknown,
        }
    }
    Counts::Captured(together)
}
