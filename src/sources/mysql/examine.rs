//! The engines' own check of every table.

use super::{
    Failure, STATEMENT,
    access::Access,
    session::{Session, identifier},
};
use crate::sources::Condition;

/// What `mariadb-check --extended` asks the server for.
pub(super) const BY: &str = "CHECK TABLE … EXTENDED";

/// Every table that has rows of its own, of all databases. What can't even be opened has no type.
const TABLES: &str = "SELECT table_schema, table_name FROM information_schema.tables \
                      WHERE table_schema NOT IN ('information_schema', 'performance_schema') \
                      AND COALESCE(table_type, '') NOT LIKE '%VIEW%' ORDER BY 1, 2";

/// What the check of one table came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Checked {
    Sound,
    Faulty(String),
    /// Its engine has no such check.
    Unchecked,
}

/// Checks every table of every database.
pub(super) async fn examine(access: &Access) -> Result<Condition, Failure> {
    let mut session = Session::open(access, None, STATEMENT)?;
    let tables = session.rows(TABLES).await?;
    let (mut sound, mut faults, mut unchecked) = (0_usize, Vec::new(), Vec::new());
    for table in &tables {
        let [database, name] = table.as_slice() else {
            return Err(Failure::Answer("the server's list of tables can't be read".to_owned()));
        };
        let sql = format!("CHECK TABLE {}.{} EXTENDED", identifier(database), identifier(name));
        let name = format!("{database}.{name}");
        match checked(&session.rows(&sql).await?)? {
            Checked::Sound => sound += 1,
            Checked::Faulty(why) => faults.push(format!("{name}: {why}")),
            Checked::Unchecked => unchecked.push(name),
        }
    }
    Ok(match (faults.is_empty(), unchecked.is_empty()) {
        (false, _) => Condition::Damaged(faults),
        (true, true) => Condition::Sound(format!("{sound} tables")),
        (true, false) if sound == 0 => {
            Condition::Unknown(format!("the engines of {} check nothing", unchecked.join(", ")))
        }
        (true, false) => {
            let left = unchecked.join(", ");
            Condition::Sound(format!("{sound} tables; their engines can't check {left}"))
        }
    })
}

/// Reads what the server answers: rows of table, operation, kind of message, and message. The last row is its verdict (MariaDB's
/// documentation, "CHECK TABLE").
fn checked(rows: &[Vec<String>]) -> Result<Checked, Failure> {
    let unreadable = || Failure::Answer("the server's verdict on a table can't be read".to_owned());
    let messages: Vec<(String, &str)> = rows
        .iter()
        .map(|row| match row.as_slice() {
            [_, _, kind, message] => Ok((kind.to_ascii_lowercase(), message.as_str())),
            _ => Err(unreadable()),
        })
        .collect::<Result<_, _>>()?;
    let (kind, message) = messages.last().ok_or_else(unreadable)?;
    Ok(match (kind.as_str(), *message) {
        ("status", "OK" | "Table is already up to date") => Checked::Sound,
        ("note", _) => Checked::Unchecked,
        _ => Checked::Faulty(messages.iter().map(|(_, message)| *message).collect::<Vec<_>>().join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_row_is_the_verdict_and_a_fault_is_told_whole() {
        let check = |messages: &[(&str, &str)], expect: Checked| {
            let row = |(kind, text): &(&str, &str)| -> Vec<String> {
                ["shop.sale", "check", kind, text].map(str::to_owned).to_vec()
            };
            let rows: Vec<Vec<String>> = messages.iter().map(row).collect();
            assert_eq!(checked(&rows).unwrap(), expect);
        };
        check(&[("status", "OK")], Checked::Sound);
        check(
            &[("warning", "1 client is using or hasn't closed the table properly"), ("status", "OK")],
            Checked::Sound,
        );
        check(&[("note", "The storage engine for the table doesn't support check")], Checked::Unchecked);
        check(
            &[("Warning", "InnoDB: The B-tree of index PRIMARY is corrupted."), ("error", "Corrupt")],
            Checked::Faulty("InnoDB: The B-tree of index PRIMARY is corrupted.; Corrupt".to_owned()),
        );
        check(&[("status", "Operation failed")], Checked::Faulty("Operation failed".to_owned()));
        assert!(checked(&[]).is_err());
        assert!(checked(&[vec!["shop.sale".to_owned()]]).is_err());
    }
}
