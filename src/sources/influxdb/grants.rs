//! Who may do what with a database. Users themselves can't be made again: the engine tells no password, and takes no hash.

use serde::{Deserialize, Serialize};

use super::{
    Failure,
    api::Api,
    names::{DatabaseName, identifier},
};

/// A right of one user on one database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    pub user: String,
    pub privilege: Privilege,
}

/// What a user may do with a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Privilege {
    Read,
    Write,
    All,
}

impl Privilege {
    /// As `SHOW GRANTS` writes it; `None` for none.
    fn shown(text: &str) -> Result<Option<Self>, Failure> {
        match text {
            "READ" => Ok(Some(Privilege::Read)),
            "WRITE" => Ok(Some(Privilege::Write)),
            "ALL" | "ALL PRIVILEGES" => Ok(Some(Privilege::All)),
            "NO PRIVILEGES" => Ok(None),
            other => {
                let shown: String = other.escape_debug().take(40).collect();
                Err(Failure::Answer(format!("SHOW GRANTS gave a privilege that is not known: {shown}")))
            }
        }
    }
}

impl Grant {
    /// The statement that grants it on `database`.
    pub(super) fn statement(&self, database: &DatabaseName) -> String {
        let what = match self.privilege {
            Privilege::Read => "READ",
            Privilege::Write => "WRITE",
            Privilege::All => "ALL",
        };
        format!("GRANT {what} ON {} TO {}", identifier(database.as_str()), identifier(&self.user))
    }

    /// The statements that make the user and grant it, with a place for the password.
    pub(super) fn by_hand(&self, database: &DatabaseName) -> String {
        format!("CREATE USER {} WITH PASSWORD '…'; {}", identifier(&self.user), self.statement(database))
    }
}

/// What is granted on a database. Only an administrator may know it.
pub(super) async fn granted(api: &Api, database: &DatabaseName) -> Result<Vec<Grant>, Failure> {
    let mut grants = Vec::new();
    for user in api.users().await? {
        for series in api.ask(&format!("SHOW GRANTS FOR {}", identifier(&user))).await? {
            let rows = series.texts("database").zip(series.texts("privilege"));
            for (_, shown) in rows.filter(|(on, _)| *on == database.as_str()) {
                let grant = |privilege| Grant { user: user.clone(), privilege };
                grants.extend(Privilege::shown(shown)?.map(grant));
            }
        }
    }
    Ok(grants)
}

/// What was granted on a database when it was captured.
pub(super) struct Recorded {
    /// Statements for users that the server has.
    pub statements: Vec<String>,
    /// Statements for users that it has not, whose passwords a person must know.
    pub by_hand: Vec<String>,
}

/// How to grant again what was recorded.
pub(super) async fn recorded(
    api: &Api,
    database: &DatabaseName,
    grants: Option<&[Grant]>,
) -> Result<Recorded, Failure> {
    let users = api.users().await?;
    let grants = grants.unwrap_or_default().iter();
    let (there, gone): (Vec<_>, Vec<_>) = grants.partition(|grant| users.contains(&grant.user));
    Ok(Recorded {
        statements: there.iter().map(|grant| grant.statement(database)).collect(),
        by_hand: gone.iter().map(|grant| grant.by_hand(database)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_grant_what_was_shown_and_nothing_else() {
        let database = DatabaseName::parse("te\"le").unwrap();
        let statement = |shown| {
            let privilege = Privilege::shown(shown).unwrap();
            privilege.map(|privilege| Grant { user: "a\"b".to_owned(), privilege }.statement(&database))
        };
        assert_eq!(statement("READ").unwrap(), r#"GRANT READ ON "te\"le" TO "a\"b""#);
        assert_eq!(statement("ALL PRIVILEGES").unwrap(), r#"GRANT ALL ON "te\"le" TO "a\"b""#);
        assert_eq!(statement("NO PRIVILEGES"), None);
        Privilege::shown("OWNER").expect_err("there is none of that name");
    }
}
