//! Checksums of tables: the sum of a hash of each row, made by the server in one view. The order of rows does not change it, and
//! neither does that of columns, which a restore may change.

use super::{Failure, session::Session};

/// How checksums are made. Who changes what is hashed calls it otherwise.
pub(super) const METHOD: &str = "postgresql sum of hash_record_extended, 1";

/// The first version that hashes rows (release notes of PostgreSQL 14, "hash functions").
const FIRST: u32 = 14;

/// What a role or a database may have set to its own taste, and what texts of values depend on.
const SETTINGS: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
                        SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; \
                        SET lc_monetary = 'C'; SET quote_all_identifiers = off";

/// Types whose hash is that of the value, whatever the server's settings: equal are only those that are the same. The others, such
/// as a number whose scale would be lost or a label that is known by its OID, are hashed as text.
const EXACT: &[&str] = &[
    "bool",
    "\"char\"",
    "int2",
    "int4",
    "int8",
    "oid",
    "bytea",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
];

/// Encodings whose texts are hashed as they are: that of most databases, and the one that none can be turned into.
const AS_THEY_ARE: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// How the rows of one database are summed up.
pub(super) struct Checksum {
    /// How a column becomes what is hashed, as `format()` takes it.
    text: &'static str,
}

impl Checksum {
    /// Has `session` show values alike from here on; `Err` with why no checksums can be made there.
    pub(super) async fn prepare(session: &mut Session) -> Result<Result<Self, String>, Failure> {
        session.run(SETTINGS).await?;
        let asked =
            "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.getdatabaseencoding()";
        let [version, encoding] = session.row(asked).await?;
        let major = version.parse::<u32>().map(|version| version / 10_000);
        let major =
            major.map_err(|_| Failure::Answer(format!("the server's version is no number: {version}")))?;
        if major < FIRST {
            return Ok(Err(format!("PostgreSQL {major} hashes no rows; {FIRST} and later do")));
        }
        Ok(Ok(Self { text: text(&encoding) }))
    }

    /// Gives the columns of the table `oid` as [`Checksum::of`] takes them.
    pub(super) fn columns(&self, oid: &str) -> String {
        let exact: Vec<String> =
            EXACT.iter().map(|name| format!("'pg_catalog.{name}'::pg_catalog.regtype")).collect();
        format!(
            "SELECT COALESCE(pg_catalog.string_agg(pg_catalog.format(\
             CASE WHEN a.atttypid IN ({}) THEN 't.%1$I' ELSE {} END, a.attname), ', ' ORDER BY a.attname), '') \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped",
            exact.join(", "),
            super::session::literal(self.text),
        )
    }

    /// Gives the sum for a table that is called `t`.
    pub(super) fn of(columns: &str) -> String {
        format!("COALESCE(pg_catalog.sum(pg_catalog.hash_record_extended(ROW({columns}), 0)), 0)")
    }
}

/// A text by its bytes in UTF-8, so that neither collations nor the encoding of another database change its hash.
fn text(encoding: &str) -> &'static str {
    if AS_THEY_ARE.contains(&encoding) {
        r#"t.%1$I::pg_catalog.text COLLATE "C""#
    } else {
        "pg_catalog.convert_to(t.%1$I::pg_catalog.text, 'UTF8')"
    }
}
