//! Checksums of tables: the sum of a hash of each row, made by the server in one view. The order of rows does not change it. What
//! is hashed of a row is what a dump prints of it, so that nothing counts that a dump can't keep, such as the last bits of a `FLOAT`.

use std::collections::BTreeMap;

use super::{
    Failure,
    session::{Session, identifier},
};

/// How checksums are made. Who changes what is hashed calls it otherwise.
pub(super) const METHOD: &str = "mysql sum of sha256, 1";

/// What a server or a user may have set to its own taste, and what texts of values depend on.
pub(super) const SETTINGS: &str = "SET SESSION time_zone = '+00:00', SESSION sql_mode = ''";

/// Types whose texts hold no separator.
const WORDS: &[&str] = &[
    "tinyint",
    "smallint",
    "mediumint",
    "int",
    "bigint",
    "decimal",
    "float",
    "double",
    "year",
    "date",
    "time",
    "datetime",
    "timestamp",
];

/// Types whose values may be longer than what a function may give.
const LONG: &[&str] = &[
    "tinytext",
    "text",
    "mediumtext",
    "longtext",
    "tinyblob",
    "blob",
    "mediumblob",
    "longblob",
    "json",
    "vector",
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
    "geomcollection",
];

/// Stands for a row that could not be hashed: more than the hashes of all rows that a table can have, of 64 bits each.
const UNHASHED: &str = "10000000000000000000000000000000000000000";

/// A column that a dump holds values of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    /// As `information_schema` calls it.
    data_type: String,
    nullable: bool,
}

/// The columns of each table of `databases`, by database and table. What the server makes of others is in no dump.
pub(super) async fn columns(
    session: &mut Session,
    among: &str,
) -> Result<BTreeMap<[String; 2], Vec<Column>>, Failure> {
    let sql = format!(
        "SELECT table_schema, table_name, column_name, data_type, is_nullable FROM information_schema.columns \
         WHERE table_schema IN ({among}) AND COALESCE(generation_expression, '') = ''"
    );
    let mut columns = BTreeMap::<_, Vec<Column>>::new();
    for row in session.rows(&sql).await? {
        let Ok([database, table, name, data_type, nullable]) = <[String; 5]>::try_from(row) else {
            return Err(Failure::Answer("the server's list of columns can't be read".to_owned()));
        };
        let column = Column { name, data_type: data_type.to_ascii_lowercase(), nullable: nullable == "YES" };
        columns.entry([database, table]).or_default().push(column);
    }
    for columns in columns.values_mut() {
        columns.sort_by(|a, b| a.name.cmp(&b.name));
    }
    Ok(columns)
}

/// Gives the sum for a table of these columns.
pub(super) fn of(columns: &[Column]) -> String {
    let row: Vec<String> = columns.iter().map(hashed).collect();
    // A separator of bytes makes bytes of all: texts of several character sets are not turned into one.
    let hash = match row.as_slice() {
        [] => "''".to_owned(),
        _ => format!("SHA2(CONCAT_WS(_binary'#', {}), 256)", row.join(", ")),
    };
    let number = format!("CAST(CONV(LEFT({hash}, 16), 16, 10) AS UNSIGNED)");
    format!("COALESCE(SUM(COALESCE({number}, {UNHASHED})), 0)")
}

/// Whether a row that is in `sum` could not be hashed.
pub(super) fn is_partial(sum: &str) -> bool {
    sum.len() >= UNHASHED.len()
}

/// What is hashed of a column, so that no two rows give the same: whether it is there, and how long it is where that is not plain.
fn hashed(column: &Column) -> String {
    let name = identifier(&column.name);
    let is = |types: &[&str]| types.contains(&column.data_type.as_str());
    let value = match () {
        () if is(WORDS) => name.clone(),
        () if is(LONG) => format!("SHA2({name}, 256)"),
        () => format!("LENGTH({name}), {name}"),
    };
    if column.nullable { format!("ISNULL({name}), {value}") } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_not_hashed_is_seen_in_the_sum() {
        let most_rows = u128::from(u64::MAX) << 20;
        assert!(!is_partial("0") && !is_partial(&most_rows.to_string()));
        assert!(is_partial(UNHASHED) && is_partial(&format!("2{}", &UNHASHED[1..])));
    }

    fn column(name: &str, data_type: &str, nullable: bool) -> Column {
        Column { name: name.to_owned(), data_type: data_type.to_owned(), nullable }
    }

    #[test]
    fn what_can_be_mistaken_for_another_value_is_told_from_it() {
        assert_eq!(hashed(&column("id", "bigint", false)), "`id`");
        assert_eq!(hashed(&column("n", "decimal", true)), "ISNULL(`n`), `n`");
        assert_eq!(hashed(&column("a`b", "varchar", true)), "ISNULL(`a``b`), LENGTH(`a``b`), `a``b`");
        assert_eq!(hashed(&column("doc", "json", false)), "SHA2(`doc`, 256)");
        assert_eq!(
            hashed(&column("bits", "bit", false)),
            "LENGTH(`bits`), `bits`",
            "a type that is not known is no word"
        );
    }
}
