//! The engine's own check of tables and indexes: `pg_amcheck`, by the functions of its extension `amcheck`.

use std::time::Duration;

use super::{
    Failure, STATEMENT,
    access::Access,
    session::{Identity, MAINTENANCE, Session},
};
use crate::{
    process::{Exit, Keep, ProcessError},
    sources::Condition,
};

/// The program.
pub(super) const BY: &str = "pg_amcheck";

/// How long all databases may take.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How much of what it prints is kept, bytes: the first faults.
const KEPT: usize = 64 << 10;

/// Its exit status where it found faults (PostgreSQL's source, `pg_amcheck.c`, `main`).
const FOUND: i32 = 2;

/// Whoever may do everything: whoever asks, or the first whom the server knows. Of servers that let everybody in.
pub(super) async fn superuser(access: &Access) -> Result<String, Failure> {
    let mut session = Session::open(access, MAINTENANCE, STATEMENT).await?;
    let sql = "SELECT rolname FROM pg_catalog.pg_roles WHERE rolsuper AND rolcanlogin \
               ORDER BY rolname <> current_user, oid LIMIT 1";
    let mut found = session.values(sql).await?;
    found.pop().ok_or_else(|| Failure::Refused("no superuser of the server can log in".to_owned()))
}

/// Checks the tables and indexes of every database that can be connected to, as `access`'s superuser.
pub(super) async fn examine(access: &Access) -> Result<Condition, Failure> {
    let mut session = Session::open(access, MAINTENANCE, STATEMENT).await?;
    let databases =
        session.values("SELECT datname FROM pg_catalog.pg_database WHERE datallowconn ORDER BY 1").await?;
    // It passes over a database without the extension, and ends well.
    for database in &databases {
        add_extension(access, database).await?;
    }
    let programs = access.installed.for_server(Identity::ask(&mut session).await?.major)?;
    let program = access.program(programs, BY, LONGEST).timeout(LONGEST);
    let program = program.variable("PGOPTIONS", "-c statement_timeout=0 -c lock_timeout=0");
    let ran =
        program.arguments(["--all", "--heapallindexed", "--parent-check"]).ran(Keep::Beginning(KEPT)).await?;
    match ran.exit {
        Exit::Code(0) => Ok(Condition::Sound(format!("{} databases", databases.len()))),
        Exit::Code(FOUND) => Ok(Condition::Damaged(faults(&ran.printed))),
        exit => Err(ProcessError::Failed { program: BY.to_owned(), exit, said: ran.said }.into()),
    }
}

/// Whatever the database has set to its own taste, or has triggers against.
async fn add_extension(access: &Access, database: &str) -> Result<(), Failure> {
    let mut session = Session::open(access, database, STATEMENT).await?;
    let sql = "SET default_transaction_read_only = off; SET session_replication_role = replica; \
               CREATE EXTENSION IF NOT EXISTS amcheck WITH SCHEMA pg_catalog";
    session.run(sql).await
}

/// One fault a line that is not indented; what is, tells more of the one before.
fn faults(printed: &str) -> Vec<String> {
    let mut faults: Vec<String> = Vec::new();
    for line in printed.lines().filter(|line| !line.trim().is_empty()) {
        match faults.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => {
                last.push(' ');
                last.push_str(line.trim());
            }
            _ => faults.push(line.trim().to_owned()),
        }
    }
    if faults.is_empty() {
        faults.push("it found faults, and named none".to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_with_what_belongs_to_it() {
        let printed = "heap table \"shop.public.sale\", block 0, offset 1:\n    line pointer is bad\n\
                       btree index \"shop.public.sale_pkey\":\n    ERROR:  index is broken\n    HINT:  reindex it\n";
        let expected = [
            "heap table \"shop.public.sale\", block 0, offset 1: line pointer is bad",
            "btree index \"shop.public.sale_pkey\": ERROR:  index is broken HINT:  reindex it",
        ];
        assert_eq!(faults(printed), expected);
        assert_eq!(faults("\n").len(), 1);
    }
}
