//! The engine's own checks of a database.

use std::path::Path;

use rusqlite::{Connection, ErrorCode};

use super::{Failure, inspect};
use crate::sources::{Condition, Examined};

/// Every page, every index against its table, and every constraint of a row.
pub(super) const INTEGRITY: &str = "PRAGMA integrity_check";

/// Every row that refers to another.
const FOREIGN_KEYS: &str = "PRAGMA foreign_key_check";

/// How many faults are asked for: one more is one too many.
const MOST: usize = 100;

/// Makes both checks.
pub(super) fn examine(path: &Path) -> Vec<Examined> {
    let by = |by, check: fn(&Connection) -> Result<Vec<String>, Failure>| {
        let found = inspect::open(path).and_then(|connection| check(&connection));
        Examined { by, condition: condition(found) }
    };
    vec![by(INTEGRITY, integrity), by(FOREIGN_KEYS, foreign_keys)]
}

fn condition(found: Result<Vec<String>, Failure>) -> Condition {
    match found {
        Ok(faults) if faults.is_empty() => Condition::Sound("no fault".to_owned()),
        Ok(faults) => Condition::Damaged(faults),
        Err(Failure::Sqlite(error)) if is_of_the_data(&error) => Condition::Damaged(vec![error.to_string()]),
        Err(failure) => Condition::Unknown(failure.explain("check", String::new()).reason),
    }
}

/// Whether it is the database that is wrong. What is declared of it may be as well, such as a reference to columns that are no key.
fn is_of_the_data(error: &rusqlite::Error) -> bool {
    let of_data = [ErrorCode::NotADatabase, ErrorCode::DatabaseCorrupt, ErrorCode::Unknown];
    error.sqlite_error_code().is_some_and(|code| of_data.contains(&code))
}

fn integrity(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare(&format!("{INTEGRITY}({MOST})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = lines.collect::<Result<Vec<_>, _>>()?;
    Ok(if lines == ["ok"] { Vec::new() } else { lines })
}

fn foreign_keys(connection: &Connection) -> Result<Vec<String>, Failure> {
    let mut statement = connection.prepare(FOREIGN_KEYS)?;
    let told = |row: &rusqlite::Row<'_>| {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        let row: Option<i64> = row.get(1)?;
        let row = row.map(|row| format!(" {row}")).unwrap_or_default();
        Ok(format!("row{row} of {table} refers to nothing in {parent}"))
    };
    let faults = statement.query_map([], told)?.take(MOST);
    Ok(faults.collect::<Result<Vec<_>, _>>()?)
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, os::unix::fs::FileExt, path::PathBuf};

    use super::*;

    fn made(folder: &Path) -> PathBuf {
        let path = folder.join("shop.db");
        let made = Connection::open(&path).unwrap();
        made.execute_batch(
            "CREATE TABLE sale (id INTEGER PRIMARY KEY, what TEXT); CREATE INDEX by_what ON sale (what);
             CREATE TABLE item (sale INTEGER REFERENCES sale (id));
             WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             INSERT INTO sale SELECT i, 'sale number ' || i FROM n;
             INSERT INTO item VALUES (1)",
        )
        .unwrap();
        path
    }

    fn conditions(path: &Path) -> [Condition; 2] {
        let examined: [Examined; 2] = examine(path).try_into().unwrap();
        examined.map(|examined| examined.condition)
    }

    #[test]
    fn a_page_that_was_overwritten_and_a_row_that_refers_to_nothing_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = made(folder.path());
        assert!(matches!(conditions(&path), [Condition::Sound(_), Condition::Sound(_)]));
        let made = Connection::open(&path).unwrap();
        made.execute_batch("PRAGMA foreign_keys = off; INSERT INTO item VALUES (9999)").unwrap();
        let page: i64 = made
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'by_what'", [], |row| row.get(0))
            .unwrap();
        drop(made);
        let [Condition::Sound(_), Condition::Damaged(faults)] = conditions(&path) else { panic!() };
        assert_eq!(faults, ["row 2 of item refers to nothing in sale"]);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0x55; 4096], (page.unsigned_abs() - 1) * 4096).unwrap();
        assert!(matches!(conditions(&path), [Condition::Damaged(_), Condition::Damaged(_)]));
        file.write_all_at(&[0x55; 4096], 0).unwrap();
        assert!(matches!(conditions(&path), [Condition::Damaged(_), Condition::Damaged(_)]));
        let gone = folder.path().join("nothing");
        assert!(matches!(conditions(&gone), [Condition::Unknown(_), Condition::Unknown(_)]));
    }
}
