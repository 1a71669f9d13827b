//! Tables of a database, as people name them: `schema.table`, or a table of the schema `public`.

use super::{
    ANSWER, Failure,
    access::Access,
    session::{MAINTENANCE, Session, identifier, literal},
};
use crate::spec::Part;

/// The schema of a table that is named without one.
const DEFAULT: &str = "public";

/// Schema and table.
fn split(table: &str) -> (&str, &str) {
    table.split_once('.').unwrap_or((DEFAULT, table))
}

/// As SQL writes it.
fn quoted(table: &str) -> String {
    let (schema, name) = split(table);
    format!("{}.{}", identifier(schema), identifier(name))
}

/// What has the dump program dump only the tables of a part. In quotes a pattern stands for itself (documentation of `psql`,
/// "Patterns").
pub(super) fn selected(part: Option<&Part>) -> Vec<String> {
    let tables = part.map_or(&[][..], |part| &part.tables);
    let strict = (!tables.is_empty()).then(|| "--strict-names".to_owned());
    strict.into_iter().chain(tables.iter().map(|table| format!("--table={}", quoted(table)))).collect()
}

/// The schemas of a part's tables: a dump of tables does not make them.
pub(super) fn schemas(part: Option<&Part>) -> Vec<String> {
    let tables = part.map_or(&[][..], |part| &part.tables);
    let mut schemas: Vec<String> = tables.iter().map(|table| split(table).0.to_owned()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    schemas
}

/// Fails where a part of a server is not there.
pub(super) async fn must_be_there(access: &Access, part: &Part) -> Result<(), Failure> {
    let Part { database, tables } = part;
    let sql = format!(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_database WHERE datname = {}",
        literal(database)
    );
    let [found] = Session::open(access, MAINTENANCE, ANSWER).await?.row(&sql).await?;
    if found == "0" {
        return Err(Failure::Refused(format!("there was no database {database} at that moment")));
    }
    let mut session = Session::open(access, database, ANSWER).await?;
    for table in tables {
        let sql = format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", literal(&quoted(table)));
        let [found] = session.row(&sql).await?;
        if found != "t" {
            let why = format!("database {database} had no table {table} at that moment");
            return Err(Failure::Refused(why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_exactly_whatever_their_names_are() {
        let part = |tables: &[&str]| Part {
            database: "shop".to_owned(),
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
        };
        assert_eq!(selected(None), Vec::<String>::new());
        assert_eq!(selected(Some(&part(&[]))), Vec::<String>::new());
        assert_eq!(
            selected(Some(&part(&["sale", "stock.a*\"b"]))),
            ["--strict-names", "--table=\"public\".\"sale\"", "--table=\"stock\".\"a*\"\"b\""]
        );
        assert_eq!(schemas(Some(&part(&["sale", "stock.a", "stock.b"]))), ["public", "stock"]);
    }
}
