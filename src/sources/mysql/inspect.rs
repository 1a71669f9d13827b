//! Questions about what is there: in a sandbox, or where data is to be restored.

use super::{
    Failure, STATEMENT,
    access::Access,
    checksum::Side,
    session::{Session, literal},
    view::{Counted, View, all_databases, tables},
};
use crate::artifact::manifest::{Counting, Rows};

/// Who asks what a declaration says: it may read, and nothing else.
pub(super) const READER: &str = "backstay_drill";

/// Counts the rows of each table.
pub(super) async fn count(access: &Access, what: Counting) -> Result<Rows, Failure> {
    let databases = match access.databases.as_slice() {
        [] => all_databases(&mut Session::open(access, None, STATEMENT)?).await?,
        declared => declared.to_vec(),
    };
    let what = Counted { counting: what, side: Side::Loaded, patience: STATEMENT };
    let mut rows = Rows::default();
    View::open(access, STATEMENT).await?.count(&databases, what, &mut rows).await;
    Ok(rows)
}

/// The first table that has a row.
pub(super) async fn first_rows(access: &Access) -> Result<Option<String>, Failure> {
    let mut session = Session::open(access, None, STATEMENT)?;
    let databases = match access.databases.as_slice() {
        [] => all_databases(&mut session).await?,
        declared => declared.to_vec(),
    };
    for table in tables(&mut session, &databases).await? {
        if session.one(&format!("SELECT EXISTS (SELECT 1 FROM {})", table.quoted())).await? == "1" {
            return Ok(Some(table.name()));
        }
    }
    Ok(None)
}

/// Makes the reader where it is missing.
pub(super) async fn make_reader(access: &Access) -> Result<(), Failure> {
    let mut session = Session::open(access, None, STATEMENT)?;
    let sql = format!(
        "CREATE USER IF NOT EXISTS '{READER}'@'localhost'; GRANT SELECT, SHOW VIEW ON *.* TO '{READER}'@'localhost'"
    );
    session.rows(&sql).await.map(drop)
}

/// The only value that `sql` gives the reader. The client never reads it as commands of its own, and the server takes one
/// statement of it.
pub(super) async fn ask(reader: &Access, database: Option<&str>, sql: &str) -> Result<String, Failure> {
    let mut session = Session::open_to_read(reader, database, STATEMENT)?;
    let text = literal(sql);
    let rows = session
        .rows(&format!("SET @backstay = {text}; PREPARE backstay FROM @backstay; EXECUTE backstay"))
        .await?;
    match rows.as_slice() {
        [row] if row.len() == 1 => Ok(row[0].clone()),
        _ => Err(Failure::Answer(format!("the server did not give one value for `{sql}`"))),
    }
}
