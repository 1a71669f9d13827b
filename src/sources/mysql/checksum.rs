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

/// Numbers that may be less than nothing by nothing, which a statement of a dump does not tell from nothing.
const SIGNED_ZEROS: &[&str] = &["float", "double"];

/// Types that a dump prints in UTF-8, whatever their character set.
const TEXTS: &[&str] = &["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"];

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

/// Which side of a dump rows are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// They are dumped.
    Dumped,
    /// They came out of a dump.
    Loaded,
}

/// A column that a dump holds values of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    name: String,
    /// As `information_schema` calls it.
    data_type: String,
    nullable: bool,
}

impl Column {
    fn is(&self, types: &[&str]) -> bool {
        types.contains(&self.data_type.as_str())
    }
}

/// The columns of each table of `among`, databases as SQL lists them, by database and table. What the server makes of others is in
/// no dump.
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
pub(super) fn of(columns: &[Column], side: Side) -> String {
    if columns.is_empty() {
        return "0".to_owned();
    }
    let row: Vec<String> = columns.iter().map(|column| hashed(column, side)).collect();
    // A separator of bytes makes bytes of all.
    let hash = format!("SHA2(CONCAT_WS(_binary'#', {}), 256)", row.join(", "));
    let number = format!("CAST(CONV(LEFT({hash}, 16), 16, 10) AS UNSIGNED)");
    format!("COALESCE(SUM(COALESCE({number}, {UNHASHED})), 0)")
}

/// A sum as the server gave it, or why it is none.
pub(super) fn sum(given: &str) -> Result<String, &'static str> {
    match given.len() {
        0 => Err("it gave none"),
        _ if !given.bytes().all(|byte| byte.is_ascii_digit()) => Err("what it gave is no number"),
        digits if digits >= UNHASHED.len() => Err("some were longer than its `max_allowed_packet`"),
        _ => Ok(given.to_owned()),
    }
}

/// What is hashed of a column, so that no two rows give the same: whether it is there, and how long it is where that is not plain.
fn hashed(column: &Column, side: Side) -> String {
    let name = identifier(&column.name);
    let printed = printed(column, &name, side);
    let value = match () {
        () if column.is(WORDS) => printed,
        () if column.is(LONG) => format!("SHA2({printed}, 256)"),
        () => format!("LENGTH({printed}), {printed}"),
    };
    if column.nullable { format!("ISNULL({name}), {value}") } else { value }
}

/// A value as it is once its dump was loaded.
fn printed(column: &Column, name: &str, side: Side) -> String {
    match side {
        _ if column.is(SIGNED_ZEROS) => format!("IF({name} = 0, '0', {name})"),
        _ if column.is(TEXTS) => format!("CONVERT({name} USING utf8mb4)"),
        // Numbers in documents are read from their text, which does not tell all of them: bug 112904 of MySQL.
        Side::Dumped if column.is(&["json"]) => format!("CAST(CAST({name} AS CHAR) AS JSON)"),
        Side::Dumped | Side::Loaded => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, data_type: &str, nullable: bool) -> Column {
        Column { name: name.to_owned(), data_type: data_type.to_owned(), nullable }
    }

    #[test]
    fn a_row_that_is_not_hashed_is_seen_in_the_sum() {
        let most_rows = u128::from(u64::MAX) << 20;
        assert_eq!(sum("0").unwrap(), "0");
        assert_eq!(sum(&most_rows.to_string()).unwrap(), most_rows.to_string());
        for bad in [UNHASHED, &format!("2{}", &UNHASHED[1..]), "", "-1", "1.5", "NULL"] {
            assert!(sum(bad).is_err(), "{bad}");
        }
        assert_eq!(of(&[], Side::Dumped), "0");
    }

    #[test]
    fn what_can_be_mistaken_for_another_value_is_told_from_it() {
        let check = |column: Column, side: Side, expected: &str| assert_eq!(hashed(&column, side), expected);
        check(column("id", "bigint", false), Side::Dumped, "`id`");
        check(column("n", "decimal", true), Side::Dumped, "ISNULL(`n`), `n`");
        check(column("f", "float", false), Side::Loaded, "IF(`f` = 0, '0', `f`)");
        let text = "CONVERT(`a``b` USING utf8mb4)";
        let told = format!("ISNULL(`a``b`), LENGTH({text}), {text}");
        check(column("a`b", "varchar", true), Side::Dumped, &told);
        check(column("doc", "json", false), Side::Loaded, "SHA2(`doc`, 256)");
        check(column("doc", "json", false), Side::Dumped, "SHA2(CAST(CAST(`doc` AS CHAR) AS JSON), 256)");
        // A type that is not known is no word.
        check(column("bits", "bit", false), Side::Dumped, "LENGTH(`bits`), `bits`");
    }
}
