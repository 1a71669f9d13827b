//! The moment of a dump: a second session whose transaction sees what the dump sees, or the knowledge that none does.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Failure,
    access::Access,
    checksum::{self, Side},
    gtids,
    marks::Position,
    programs::Flavour,
    session::{Session, identifier, literal},
};
use crate::{
    artifact::manifest::{Checksums, Counting, Counts, NOT_ASKED_FOR, Rows},
    spec::Part,
};

/// Databases that belong to the engine.
const ENGINES_OWN: &str = "'information_schema', 'performance_schema', 'mysql', 'sys'";

/// How long the server may be kept from answering others while the lock is waited for, seconds.
const LOCK_PATIENCE: u32 = 5;

/// What is found out about rows, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    pub counting: Counting,
    pub side: Side,
    /// How long an answer may take.
    pub patience: Duration,
}

/// A transaction that was opened just before the dump's own.
#[derive(Debug)]
pub(super) struct View {
    session: Session,
    lock: Lock,
    /// Where in the binary log the transaction stands, where the server tells (MariaDB does).
    pub position: Option<Position>,
    /// The transactions that it shows, where the server stood still when it was opened and tells them (MySQL does).
    transactions: Option<String>,
}

/// Whether the server stood still between the opening of the view and of the dump.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lock {
    /// It still does.
    Held,
    /// It did until the dump had opened its view.
    HeldUntilDumpOpened,
    /// It was not locked, or not for long enough, and why.
    Not(String),
}

impl View {
    /// Opens a transaction, under a global read lock where the server grants one soon.
    pub(super) async fn open(access: &Access, stall: Duration) -> Result<Self, Failure> {
        let mut session = Session::open_to_read(access, None, stall)?;
        let lock = format!("SET SESSION lock_wait_timeout = {LOCK_PATIENCE}; FLUSH TABLES WITH READ LOCK");
        let lock = match session.rows(&lock).await {
            Ok(_) => Lock::Held,
            Err(Failure::Process(error)) => {
                session = Session::open_to_read(access, None, stall)?;
                Lock::Not(format!("the server could not be locked for a moment: {error}"))
            }
            Err(other) => return Err(other),
        };
        session.rows(without_limit(access.programs.flavour)).await?;
        session
            .rows(
                "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; \
                 START TRANSACTION WITH CONSISTENT SNAPSHOT",
            )
            .await?;
        let position = position(&session.rows("SHOW STATUS LIKE 'binlog_snapshot_%'").await?);
        let transactions = match access.programs.flavour {
            Flavour::MySql if lock == Lock::Held => gtids::dumped(access, &mut session).await?,
            Flavour::MySql | Flavour::MariaDb => None,
        };
        Ok(Self { session, lock, position, transactions })
    }

    /// The transactions that the dump holds, where the server stood still until it had opened its view.
    pub(super) fn transactions(&self) -> Option<&str> {
        self.transactions.as_deref().filter(|_| self.lock == Lock::HeldUntilDumpOpened)
    }

    /// Lets the server go on: the dump has opened its view.
    pub(super) async fn dump_opened(&mut self) -> Result<(), Failure> {
        self.release(Lock::HeldUntilDumpOpened).await
    }

    /// Lets the server go on, for `why`, though the dump may not have opened its view.
    pub(super) async fn give_up(&mut self, why: &str) -> Result<(), Failure> {
        self.release(Lock::Not(why.to_owned())).await
    }

    async fn release(&mut self, as_what: Lock) -> Result<(), Failure> {
        if self.lock == Lock::Held {
            self.session.rows("UNLOCK TABLES").await?;
            self.lock = as_what;
        }
        Ok(())
    }

    /// Notes in `rows` how many rows each table of `databases` has as the view shows them, and then what they sum up to where `what`
    /// says so. An answer may take `patience`.
    pub(super) async fn count(&mut self, databases: &[String], what: Counted, rows: &mut Rows) {
        self.session.wait_up_to(what.patience);
        let tables = match self.counts(databases).await {
            Ok((tables, counts)) => {
                rows.counts = counts;
                tables
            }
            Err(failure) => return *rows = Rows::not_captured(unread(failure)),
        };
        if let Counts::NotCaptured(why) = &rows.counts {
            rows.checksums = Some(Checksums::NotCaptured(why.clone()));
            return;
        }
        rows.checksums = Some(match what.counting {
            Counting::Rows => Checksums::NotCaptured(NOT_ASKED_FOR.to_owned()),
            Counting::RowsAndChecksums => match self.checksums(&tables, databases, what.side).await {
                Ok(checksums) => checksums,
                Err(failure) => Checksums::NotCaptured(unread(failure)),
            },
        });
    }

    async fn counts(&mut self, databases: &[String]) -> Result<(Vec<Table>, Counts), Failure> {
        let tables = tables(&mut self.session, databases).await?;
        if let Some(table) = tables.iter().find(|table| !table.transactional) {
            let (name, engine) = (table.name(), &table.engine);
            return Ok((
                Vec::new(),
                Counts::NotCaptured(format!("{name} is kept by {engine}, which has no views")),
            ));
        }
        let mut counts = BTreeMap::new();
        for table in &tables {
            let rows = self.of_table(table, "COUNT(*)").await?;
            let rows = rows.parse().map_err(|_| Failure::Answer(format!("a count is no number: {rows}")))?;
            counts.insert(table.name(), rows);
        }
        Ok((tables, Counts::Captured(counts)))
    }

    async fn checksums(
        &mut self,
        tables: &[Table],
        databases: &[String],
        side: Side,
    ) -> Result<Checksums, Failure> {
        self.session.rows(checksum::SETTINGS).await?;
        let columns = checksum::columns(&mut self.session, &among(databases)).await?;
        let mut sums = BTreeMap::new();
        for table in tables {
            let [database, name] = [table.database.clone(), table.table.clone()];
            let columns = columns.get(&[database, name]).map_or(&[][..], Vec::as_slice);
            match checksum::sum(&self.of_table(table, &checksum::of(columns, side)).await?) {
                Ok(sum) => sums.insert(table.name(), sum),
                Err(why) => {
                    let why = format!("the server could not hash the rows of {}: {why}", table.name());
                    return Ok(Checksums::NotCaptured(why));
                }
            };
        }
        Ok(Checksums::Captured { method: checksum::METHOD.to_owned(), sums })
    }

    /// The value of an aggregate over a table, which may be altered again afterwards: going back to a savepoint gives back what
    /// statements since then have locked (MySQL's manual, "Metadata Locking"), and keeps the view.
    async fn of_table(&mut self, table: &Table, aggregate: &str) -> Result<String, Failure> {
        let asked = format!("SAVEPOINT backstay; SELECT {aggregate} FROM {}", table.quoted());
        let value = self.session.one(&asked).await?;
        self.session.rows("ROLLBACK TO SAVEPOINT backstay").await?;
        Ok(value)
    }

    /// The rows, if it is proved that the dump, which stands at `dumped`, shows the same as this view.
    pub(super) fn vouch(&self, rows: Rows, dumped: Option<&Position>) -> Rows {
        match (&self.lock, &self.position, dumped) {
            (_, Some(here), Some(there)) if here != there => Rows::not_captured(format!(
                "the dump stands at {}:{}, the counts at {}:{}",
                there.file, there.offset, here.file, here.offset
            )),
            (Lock::HeldUntilDumpOpened, _, _) | (_, Some(_), Some(_)) => rows,
            (Lock::Not(why), _, _) => Rows::not_captured(why.clone()),
            (Lock::Held, _, _) => Rows::not_captured("the dump did not show when it opened its view"),
        }
    }
}

/// Lifts the limit that a server may have set to how long a statement reads.
fn without_limit(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => "SET SESSION max_statement_time = 0",
        // Servers before that version have none, and read a comment.
        Flavour::MySql => "/*!50708 SET SESSION max_execution_time = 0 */",
    }
}

fn unread(failure: Failure) -> String {
    format!("they could not be read: {}", failure.reason())
}

fn position(status: &[Vec<String>]) -> Option<Position> {
    let value = |name: &str| {
        let row = status.iter().find(|row| row.first().is_some_and(|n| n.eq_ignore_ascii_case(name)))?;
        row.get(1).filter(|value| !value.is_empty()).cloned()
    };
    let offset = value("binlog_snapshot_position")?.parse().ok()?;
    Some(Position { file: value("binlog_snapshot_file")?, offset })
}

/// A table that holds rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub database: String,
    pub table: String,
    pub engine: String,
    /// Whether its engine shows a transaction one moment only.
    pub transactional: bool,
}

impl Table {
    /// Its name for people.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// Its name for SQL.
    pub(super) fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.database), identifier(&self.table))
    }
}

/// The tables of `databases`, by name.
pub(super) async fn tables(session: &mut Session, databases: &[String]) -> Result<Vec<Table>, Failure> {
    if databases.is_empty() {
        return Ok(Vec::new());
    }
    let among = among(databases);
    let rows = session
        .rows(&format!(
            "SELECT t.table_schema, t.table_name, COALESCE(t.engine, ''), COALESCE(e.transactions, 'NO') \
             FROM information_schema.tables t LEFT JOIN information_schema.engines e ON e.engine = t.engine \
             WHERE t.table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') AND t.table_schema IN ({among}) ORDER BY 1, 2"
        ))
        .await?;
    let table = |row: Vec<String>| match <[String; 4]>::try_from(row) {
        Ok([database, table, engine, transactions]) => {
            Ok(Table { database, table, engine, transactional: transactions == "YES" })
        }
        Err(_) => Err(Failure::Answer("the server's list of tables can't be read".to_owned())),
    };
    rows.into_iter().map(table).collect()
}

/// Names as SQL lists them.
fn among(databases: &[String]) -> String {
    databases.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

/// Fails where a part of a server is not there.
pub(super) async fn must_be_there(session: &mut Session, part: &Part) -> Result<(), Failure> {
    let database = literal(&part.database);
    let schemas = format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = {database}");
    if session.one(&schemas).await? == "0" {
        return Err(Failure::Refused(format!("there was no database {} at that moment", part.database)));
    }
    let tables = format!("SELECT table_name FROM information_schema.tables WHERE table_schema = {database}");
    let there: Vec<String> = session.rows(&tables).await?.into_iter().flatten().collect();
    match part.tables.iter().find(|table| !there.contains(table)) {
        Some(absent) => {
            Err(Failure::Refused(format!("database {} had no table {absent} at that moment", part.database)))
        }
        None => Ok(()),
    }
}

/// Every database but the engine's own.
pub(super) async fn all_databases(session: &mut Session) -> Result<Vec<String>, Failure> {
    let query = format!(
        "SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ({ENGINES_OWN}) ORDER BY 1"
    );
    Ok(session.rows(&query).await?.into_iter().flatten().collect())
}
