//! The moment of a dump: a transaction whose view of one database the dump shares, and which counts its rows.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Failure,
    access::Access,
    checksum::{Checksum, METHOD},
    session::Session,
};
use crate::artifact::manifest::{Checksums, Counting, Counts, NOT_ASKED_FOR, Rows};

/// Tables that a dump carries rows of: neither the engine's own, nor those that an extension makes again by itself.
pub(super) const TABLES: &str = "SELECT n.nspname || '.' || c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname), c.oid \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass \
                    AND d.objid = c.oid AND d.deptype = 'e') ORDER BY 1";

/// How often tables are listed anew that changed before they were locked.
const ATTEMPTS: u32 = 3;

/// Shares what a transaction sees.
const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot(), CASE WHEN pg_catalog.pg_is_in_recovery() \
    THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END";

/// Begins a transaction in which nobody can rewrite or truncate the tables: to whoever sees a moment before that, they would
/// be empty (PostgreSQL's documentation, "MVCC Caveats"). `None` when other tables are there by now. What a transaction sees
/// is what was there after its locks (documentation, "LOCK").
async fn locked(mut session: Session, tables: &[[String; 3]]) -> Result<Option<Session>, Failure> {
    session.run(&format!("{BEGIN}; SET LOCAL lock_timeout = '{LOCK_WAIT}'{}", locks(tables))).await?;
    let seen: Vec<[String; 3]> = session.rows(TABLES).await?;
    // One that is gone meanwhile is in nobody's view.
    Ok(seen.iter().all(|table| tables.contains(table)).then_some(session))
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// How long may be waited for locks while others are held. Somebody who wants to rewrite a table meanwhile waits for us, and
/// what comes behind them waits for them: no such wait may last.
pub(super) const LOCK_WAIT: &str = "30s";

/// Statements that lock tables as a dump does.
fn locks(tables: &[[String; 3]]) -> String {
    let lock = |[_, table, _]: &[String; 3]| format!("; LOCK TABLE ONLY {table} IN ACCESS SHARE MODE");
    tables.iter().map(lock).collect()
}

/// A session whose transaction sees the tables that it has locked, and which those are. Those that changed meanwhile are listed anew.
async fn exporting(
    access: &Access,
    database: &str,
    stall: Duration,
    listing: &mut Session,
) -> Result<(Session, Vec<[String; 3]>), Failure> {
    let mut failure = Failure::Incomplete("tables are made or dropped all the time".to_owned());
    for _ in 0..ATTEMPTS {
        let tables = listing.rows(TABLES).await?;
        match locked(Session::open(access, database, stall).await?, &tables).await {
            Ok(Some(session)) => return Ok((session, tables)),
            Ok(None) => {}
            // One that is gone can't be locked; the server says that in its own language.
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

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
        let mut counting = Session::open_to_read(access, database, stall).await?;
        let (mut exporting, tables) = exporting(access, database, stall, &mut counting).await?;
        let [snapshot, position] = exporting.row(EXPORT).await?;
        let shared = super::session::literal(&snapshot);
        let locks = locks(&tables);
        counting
            .run(&format!(
                "{BEGIN}; SET TRANSACTION SNAPSHOT {shared}; SET LOCAL lock_timeout = '{LOCK_WAIT}'{locks}"
            ))
            .await?;
        Ok(Self { _exporting: exporting, counting, database: database.to_owned(), snapshot, position })
    }

    /// Notes in `rows` how many rows each table has as the view shows them, and then what they sum up to where `what` says so. An answer
    /// may take `patience`.
    pub(super) async fn count(&mut self, what: Counting, patience: Duration, rows: &mut Rows) {
        self.counting.wait_up_to(patience);
        let tables = match self.counts().await {
            Ok((tables, counts)) => {
                rows.counts = Counts::Captured(counts);
                tables
            }
            Err(failure) => return *rows = Rows::not_captured(unread(failure)),
        };
        rows.checksums = Some(match what {
            Counting::Rows => Checksums::NotCaptured(NOT_ASKED_FOR.to_owned()),
            Counting::RowsAndChecksums => match self.checksums(&tables).await {
                Ok(checksums) => checksums,
                Err(failure) => Checksums::NotCaptured(unread(failure)),
            },
        });
    }

    async fn counts(&mut self) -> Result<(Vec<[String; 3]>, BTreeMap<String, u64>), Failure> {
        let tables: Vec<[String; 3]> = self.counting.rows(TABLES).await?;
        let mut counts = BTreeMap::new();
        for [name, table, _] in &tables {
            let [rows] = self.counting.row(&format!("SELECT pg_catalog.count(*) FROM ONLY {table}")).await?;
            let rows = rows.parse().map_err(|_| Failure::Answer(format!("a count is no number: {rows}")))?;
            counts.insert(self.full(name), rows);
        }
        Ok((tables, counts))
    }

    async fn checksums(&mut self, tables: &[[String; 3]]) -> Result<Checksums, Failure> {
        let checksum = match Checksum::prepare(&mut self.counting).await? {
            Ok(checksum) => checksum,
            Err(why) => return Ok(Checksums::NotCaptured(why)),
        };
        let mut sums = BTreeMap::new();
        for [name, table, oid] in tables {
            let sum = checksum.of(&mut self.counting, table, oid).await?;
            sums.insert(self.full(name), sum);
        }
        Ok(Checksums::Captured { method: METHOD.to_owned(), sums })
    }

    /// The name of a table among those of all databases.
    fn full(&self, table: &str) -> String {
        format!("{}.{table}", self.database)
    }
}

fn unread(failure: Failure) -> String {
    format!("they could not be read: {}", failure.reason())
}

/// The rows of several databases as those of one; unknown where those of one are.
pub(super) fn together(all: Vec<Rows>) -> Rows {
    let (mut counts, mut checksums) = (Vec::new(), Vec::new());
    for rows in all {
        counts.push(rows.counts);
        checksums.extend(rows.checksums);
    }
    let checksums = (!checksums.is_empty()).then(|| checksums_together(checksums));
    Rows { counts: counts_together(counts), checksums }
}

fn counts_together(all: Vec<Counts>) -> Counts {
    let mut together = BTreeMap::new();
    for counts in all {
        match counts {
            Counts::Captured(counts) => together.extend(counts),
            unknown => return unknown,
        }
    }
    Counts::Captured(together)
}

fn checksums_together(all: Vec<Checksums>) -> Checksums {
    let mut together = BTreeMap::new();
    for checksums in all {
        match checksums {
            Checksums::Captured { sums, .. } => together.extend(sums),
            unknown => return unknown,
        }
    }
    Checksums::Captured { method: METHOD.to_owned(), sums: together }
}
