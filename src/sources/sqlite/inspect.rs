//! Questions about what was restored into a sandbox.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::{Connection, OpenFlags, limits::Limit, types::ValueRef};

use super::{Failure, image};
use crate::sources::Holds;

/// How long the answer to one question may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// How many steps of its machine the engine takes between two looks at the time.
const STEPS: i32 = 100_000;

pub(super) fn open(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // What is asked reads this database, and no other file.
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    let deadline = Instant::now() + LONGEST;
    connection.progress_handler(STEPS, Some(move || Instant::now() > deadline))?;
    Ok(connection)
}

/// Counts the rows of each table.
pub(super) fn count(path: &Path) -> Result<BTreeMap<String, u64>, Failure> {
    image::count_rows(&open(path)?, || Ok(()))
}

/// Whether there are rows in the database at `path`, if there is one.
pub(super) fn holds(path: &Path) -> Result<Holds, Failure> {
    if !path.try_exists()? {
        return Ok(Holds::Nothing);
    }
    let rows = count(path)?.into_iter().find(|(_, rows)| *rows > 0);
    Ok(rows.map_or(Holds::Nothing, |(table, rows)| Holds::Data(format!("{rows} rows in {table}"))))
}

/// The only value that `sql`, one statement, gives.
pub(super) fn ask(path: &Path, sql: &str) -> Result<String, Failure> {
    let connection = open(path)?;
    let mut statement = connection.prepare(sql)?;
    let one_column = statement.column_count() == 1;
    let mut rows = statement.query([])?;
    let value = match rows.next()? {
        Some(row) if one_column => Some(text(row.get_ref(0)?)),
        _ => None,
    };
    match (value, rows.next()?) {
        (Some(value), None) => Ok(value),
        _ => Err(Failure::Refused(format!("the database did not give one value for `{sql}`"))),
    }
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Blob(bytes) => hex::encode(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_one_value_and_reaches_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.db");
        let made = Connection::open(&path).unwrap();
        made.execute_batch("CREATE TABLE sale (n); INSERT INTO sale VALUES (1), (2.5), (NULL)").unwrap();
        assert_eq!(ask(&path, "SELECT count(*) FROM sale").unwrap(), "3");
        assert_eq!(ask(&path, "SELECT max(n) FROM sale").unwrap(), "2.5");
        assert_eq!(count(&path).unwrap(), BTreeMap::from([("sale".to_owned(), 3)]));
        let elsewhere = folder.path().join("other.db");
        for refused in [
            "SELECT n FROM sale".to_owned(),
            "SELECT 1, 2".to_owned(),
            "DELETE FROM sale".to_owned(),
            format!("ATTACH '{}' AS other", elsewhere.display()),
            format!("VACUUM INTO '{}'", elsewhere.display()),
        ] {
            assert!(ask(&path, &refused).is_err(), "{refused}");
        }
        assert!(!elsewhere.exists());
    }
}
