//! Questions about what is there: in a sandbox, or where data is to be restored.

use super::{
    Failure, STATEMENT,
    access::Access,
    session::{Identity, MAINTENANCE, Session, literal},
    view::{TABLES, View, together},
};
use crate::artifact::manifest::{Counting, Rows};

/// Who asks what a declaration says: it may read, and nothing else.
pub(super) const READER: &str = "backstay_drill_reader";

/// The first version that has `pg_read_all_data`.
const READ_ALL_DATA: u32 = 14;

/// Counts the rows of each table of each database.
pub(super) async fn count(access: &Access, what: Counting) -> Result<Rows, Failure> {
    let databases = match access.databases.as_slice() {
        [] => {
            super::logical::all_databases(&mut Session::open(access, MAINTENANCE, STATEMENT).await?).await?
        }
        declared => declared.to_vec(),
    };
    let mut rows = Vec::new();
    for name in &databases {
        let mut counted = Rows::default();
        View::open(access, name, STATEMENT).await?.count(what, STATEMENT, &mut counted).await;
        rows.push(counted);
    }
    Ok(together(rows))
}

/// The first table that has a row, of the databases that are there.
pub(super) async fn first_rows(access: &Access) -> Result<Option<String>, Failure> {
    let there =
        super::logical::all_databases(&mut Session::open(access, MAINTENANCE, STATEMENT).await?).await?;
    let is_declared = |name: &String| access.databases.is_empty() || access.databases.contains(name);
    for database in there.into_iter().filter(is_declared) {
        let mut session = Session::open(access, &database, STATEMENT).await?;
        for [name, table, _] in session.rows(TABLES).await? {
            let [has_rows] = session.row(&format!("SELECT EXISTS (SELECT 1 FROM ONLY {table})")).await?;
            if has_rows == "t" {
                return Ok(Some(format!("{database}.{name}")));
            }
        }
    }
    Ok(None)
}

/// Makes the reader where it is missing; `false` where whoever is logged in can't, and is no superuser either.
pub(super) async fn make_reader(access: &Access) -> Result<bool, Failure> {
    let mut session = Session::open(access, MAINTENANCE, STATEMENT).await?;
    let server = Identity::ask(&mut session).await?;
    if !server.superuser {
        return Ok(false);
    }
    if server.major < READ_ALL_DATA {
        let why = format!(
            "PostgreSQL {} has no role that may read everything and nothing else; {READ_ALL_DATA} and later have",
            server.major
        );
        return Err(Failure::Refused(why));
    }
    let sql = format!(
        "DO $backstay$ BEGIN CREATE ROLE {READER} LOGIN BYPASSRLS; EXCEPTION WHEN duplicate_object THEN NULL; \
         END $backstay$; GRANT pg_read_all_data TO {READER}"
    );
    session.run(&sql).await.map(|()| true)
}

/// The only value that `sql` gives. The client hands it on without reading it: what looks like a command of its own is none.
pub(super) async fn ask(reader: &Access, database: Option<&str>, sql: &str) -> Result<String, Failure> {
    let database = match (database, reader.databases.as_slice()) {
        (Some(name), _) => name,
        (None, [one]) => one,
        (None, _) => MAINTENANCE,
    };
    let mut session = Session::open_to_read(reader, database, STATEMENT).await?;
    let question = format!("RESET search_path;\nSELECT {} \\gexec\n", literal(sql));
    match session.values(&question).await?.as_slice() {
        [value] => Ok(value.clone()),
        _ => Err(Failure::Answer(format!("the server did not give one value for `{sql}`"))),
    }
}
