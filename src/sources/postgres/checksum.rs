//! Checksums of tables: the sum of a hash of each row, made by the server in one view. The order of rows does not change it, and
//! neither does that of columns, which a restore may change.
//!
//! A row is hashed as one text, which the output functions of its values write, as they do for a dump: no cast of a type's owner is
//! run by it, and two rows that differ give two texts.

use super::{
    Failure,
    session::{Session, literal},
};

/// How checksums are made. Who changes what is hashed calls it otherwise.
pub(super) const METHOD: &str = "postgresql sum of hash_record_extended, 1";

/// The first version that hashes rows (release notes of PostgreSQL 14, "hash functions").
const FIRST: u32 = 14;

/// The most digits of a sum: that of 64 bits of more rows than a table can have.
const MOST_DIGITS: usize = 40;

/// What a role or a database may have set to its own taste, and what texts of values depend on.
const SETTINGS: &str = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; \
                        SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; \
                        SET lc_monetary = 'C'; SET quote_all_identifiers = off";

/// Has the server end what it does for nobody any more, where its system lets it see that (since 14).
const END_WITH_CLIENT: &str = "SELECT CASE WHEN pg_catalog.version() ~ 'linux' THEN \
                               pg_catalog.set_config('client_connection_check_interval', '10s', false) ELSE '' END";

/// Encodings whose texts are hashed as they are: that of most databases, and the one that none can be turned into.
const AS_THEY_ARE: [&str; 2] = ["UTF8", "SQL_ASCII"];

/// How the rows of one database are summed up.
pub(super) struct Checksum {
    encoding: String,
}

impl Checksum {
    /// Has `session` show values alike from here on; `Err` with why no checksums can be made there.
    pub(super) async fn prepare(session: &mut Session) -> Result<Result<Self, String>, Failure> {
        let asked =
            "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.getdatabaseencoding()";
        let [version, encoding] = session.row(asked).await?;
        let major = version.parse::<u32>().map(|version| version / 10_000);
        let major =
            major.map_err(|_| Failure::Answer(format!("the server's version is no number: {version}")))?;
        if major < FIRST {
            return Ok(Err(format!("PostgreSQL {major} hashes no rows; {FIRST} and later do")));
        }
        session.run(&format!("{SETTINGS}; {END_WITH_CLIENT}")).await?;
        Ok(Ok(Self { encoding }))
    }

    /// The sum of the rows of `table`, a name for SQL, whose OID is `oid`.
    pub(super) async fn of(&self, session: &mut Session, table: &str, oid: &str) -> Result<String, Failure> {
        let [columns] = session.row(&columns(oid)).await?;
        let hash = hash(&columns, &self.encoding);
        let sql = format!("SELECT COALESCE(pg_catalog.sum({hash}), 0) FROM ONLY {table} t");
        let [sum] = session.row(&sql).await?;
        let digits = sum.strip_prefix('-').unwrap_or(&sum);
        if digits.len() > MOST_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Failure::Answer(format!("a sum of {table} is no number")));
        }
        Ok(sum)
    }
}

/// Gives the columns of a table that a dump holds, as [`hash`] takes them.
fn columns(oid: &str) -> String {
    format!(
        "SELECT COALESCE(pg_catalog.string_agg(pg_catalog.format({}, a.attname), ', ' ORDER BY a.attname), '') \
         FROM pg_catalog.pg_attribute a \
         WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''",
        literal("t.%I")
    )
}

/// The hash of a row of the table `t`: of the bytes of its text in UTF-8, so that neither collations nor the encoding of another
/// database change it. A record of one value has all bits of the value's own hash.
fn hash(columns: &str, encoding: &str) -> String {
    let row = format!("ROW({columns})::pg_catalog.text");
    let text = if AS_THEY_ARE.contains(&encoding) {
        format!(r#"{row} COLLATE "C""#)
    } else {
        format!("pg_catalog.convert_to({row}, 'UTF8')")
    };
    format!("pg_catalog.hash_record_extended(ROW({text}), 0)")
}
