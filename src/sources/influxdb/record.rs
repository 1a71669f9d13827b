//! What Backstay notes beside a portable backup: which part of the database it is, and what the engine's own restore leaves
//! out: the continuous queries, and who may do what with the database.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::grants::Grant;

/// The name of the file.
pub(super) const FILE: &str = "backstay.json";

/// The format, and its version.
const FORMAT: &str = "backstay.influxdb/2";

/// The format before, which knew no grants.
const FORMER: &str = "backstay.influxdb/1";

/// The largest record, bytes.
const LARGEST: u64 = 16 * 1024 * 1024;

/// What is noted of one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: String,
    pub database: String,
    /// The only one that was captured; all of them when `None`.
    pub retention_policy: Option<String>,
    /// Statements that make them again; `None` when they were not listed.
    pub continuous_queries: Option<Vec<String>>,
    /// `None` when they were not listed.
    #[serde(default)]
    pub grants: Option<Vec<Grant>>,
}

impl Record {
    pub(super) fn new(
        database: &str,
        retention_policy: Option<&str>,
        continuous_queries: Option<Vec<String>>,
        grants: Option<Vec<Grant>>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            database: database.to_owned(),
            retention_policy: retention_policy.map(str::to_owned),
            continuous_queries,
            grants,
        }
    }

    /// Writes it into the folder of a backup.
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(folder.join(FILE))?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file.write_all(&text)
    }

    /// Reads the one of a folder.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(folder.join(FILE))?.take(LARGEST).read_to_end(&mut text)?;
        let record: Self = serde_json::from_slice(&text)?;
        match [FORMAT, FORMER].contains(&record.format.as_str()) {
            true => Ok(record),
            false => {
                let why = format!("{FILE} is of a format that this build does not know");
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
        }
    }
}

/// Whether `statement` makes a continuous query and does nothing else: what is read from an archive is not run blindly.
pub(super) fn makes_a_query(statement: &str) -> bool {
    statement.starts_with("CREATE CONTINUOUS QUERY ") && !statement.contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::influxdb::grants::Privilege;

    #[test]
    fn a_record_is_read_back_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let grants = vec![Grant { user: "reader".to_owned(), privilege: Privilege::Read }];
        let queries = vec!["CREATE CONTINUOUS QUERY a".to_owned()];
        let record = Record::new("tele", Some("long"), Some(queries), Some(grants));
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap(), record);
        record.write(folder.path()).expect_err("it exists");
        let text = std::fs::read_to_string(folder.path().join(FILE)).unwrap();
        std::fs::write(folder.path().join(FILE), text.replace("influxdb/2", "influxdb/3")).unwrap();
        Record::read(folder.path()).expect_err("it is of another format");
        let former = r#"{"format": "backstay.influxdb/1", "database": "tele", "retention_policy": null, "continuous_queries": []}"#;
        std::fs::write(folder.path().join(FILE), former).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap().grants, None);
    }

    #[test]
    fn only_statements_that_make_a_continuous_query_are_run() {
        assert!(makes_a_query("CREATE CONTINUOUS QUERY a ON b BEGIN SELECT 1 END"));
        assert!(!makes_a_query("DROP DATABASE tele"));
        assert!(!makes_a_query("CREATE CONTINUOUS QUERY a ON b BEGIN SELECT 1 END; DROP DATABASE tele"));
    }
}
