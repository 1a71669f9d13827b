//! Roles, their settings and memberships, as SQL that can be run where some of them exist.

use super::{ANSWER, Failure, access::Access, programs::Programs, session::MAINTENANCE};

/// The most that roles may take, bytes.
const LARGEST: usize = 64 * 1024 * 1024;

/// The last line of what `pg_dumpall` writes, but for empty comments.
const COMPLETED: &str = "-- PostgreSQL database cluster dump complete";

/// All roles of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Roles {
    pub sql: String,
    /// What is not there, and why.
    pub omitted: Vec<String>,
}

/// Reads the roles. Only a superuser may read their passwords.
pub(super) async fn capture(access: &Access, programs: &Programs, superuser: bool) -> Result<Roles, Failure> {
    let dump = access.program(programs, "pg_dumpall", ANSWER).argument("--roles-only");
    let dump = dump.arguments(["--database", MAINTENANCE]);
    let dump = if superuser { dump } else { dump.argument("--no-role-passwords") };
    let text = String::from_utf8(dump.output(b"", LARGEST).await?);
    let text = text.map_err(|_| Failure::Answer("the server's roles are not UTF-8".to_owned()))?;
    if !text.contains(COMPLETED) {
        return Err(Failure::Incomplete("the dump of the roles ends without its closing line".to_owned()));
    }
    let mut omitted = vec!["tablespaces: everything comes back in the server's default one".to_owned()];
    if !superuser {
        omitted.push("passwords of roles: only a superuser may read them".to_owned());
    }
    Ok(Roles { sql: repeatable(&text), omitted })
}

/// The same SQL, with roles that exist left as they are before their attributes are set.
fn repeatable(text: &str) -> String {
    let mut sql = String::with_capacity(text.len() + text.len() / 4);
    for line in text.split_inclusive('\n') {
        match line.trim_end().strip_prefix("CREATE ROLE ").and_then(|rest| rest.strip_suffix(';')) {
            Some(role) if is_identifier(role) => sql.push_str(&create(role)),
            _ => sql.push_str(line),
        }
    }
    sql
}

fn create(role: &str) -> String {
    let mut tag = "$backstay$".to_owned();
    while role.contains(&tag) {
        tag.insert(1, '_');
    }
    format!("DO {tag} BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END {tag};\n")
}

/// Whether `text` is one name as SQL writes it, quoted or not.
fn is_identifier(text: &str) -> bool {
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(quoted) => !quoted.replace("\"\"", "").contains('"'),
        None => !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_exist_are_no_error_and_names_can_not_end_early() {
        assert_eq!(
            repeatable("CREATE ROLE app;\nALTER ROLE app WITH LOGIN;\n"),
            "DO $backstay$ BEGIN CREATE ROLE app; EXCEPTION WHEN duplicate_object THEN NULL; END $backstay$;\n\
             ALTER ROLE app WITH LOGIN;\n"
        );
        assert!(create("\"a$backstay$b\"").starts_with("DO $_backstay$ BEGIN "));
        let odd = "CREATE ROLE \"a\"; DROP TABLE t; --\";\n";
        assert_eq!(repeatable(odd), odd);
    }
}
