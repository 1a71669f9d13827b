//! What a user and its server lack for captures, with the statement that gives exactly that.

use std::collections::BTreeSet;

use super::{ANSWER, Failure, access::Access, session::Session};
use crate::{artifact::Kind, sources::Lack, spec::MysqlMethod};

/// What a dump reads of each database.
const OF_DATABASES: [&str; 4] = ["SELECT", "SHOW VIEW", "TRIGGER", "EVENT"];

/// Looks for what is missing, all of it at once.
pub(super) async fn lacks(
    access: &Access,
    method: &MysqlMethod,
    kinds: &BTreeSet<Kind>,
) -> Result<Vec<Lack>, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    let user = session.one("SELECT CURRENT_USER()").await?;
    let version = session.one("SELECT VERSION()").await?;
    let variables = "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'gtid_mode')";
    let variables = session.rows(variables).await?;
    let grants = session.rows("SHOW GRANTS").await?;
    let value = |name: &str| {
        variables.iter().find_map(|row| match row.as_slice() {
            [variable, value] if variable == name => Some(value.clone()),
            _ => None,
        })
    };
    let server = Server {
        user: account(&user),
        edition: Edition::of(&version),
        has_log: value("log_bin").as_deref() == Some("ON"),
        log_format: value("binlog_format"),
        numbers: if value("gtid_mode").is_some_and(|mode| mode != "ON") {
            Numbers::Untold
        } else {
            Numbers::Told
        },
        grants: grants.iter().filter_map(|row| Grant::parse(row.first()?)).collect(),
    };
    let wants_log = kinds.contains(&Kind::Log);
    Ok(match method {
        MysqlMethod::Logical => server.lacks(&access.databases, wants_log),
        MysqlMethod::Physical { .. } => server.lacks_for_copies(wants_log),
    })
}

/// `backup@10.0.%` as statements write it.
fn account(user: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    match user.rsplit_once('@') {
        Some((name, host)) => format!("{}@{}", quoted(name), quoted(host)),
        None => quoted(user),
    }
}

/// As far as names of privileges go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edition {
    MariaDb,
    /// Before 11.3.
    OlderMariaDb,
    MySql,
    /// Before 9.7.
    OlderMySql,
}

impl Edition {
    pub(super) fn of(version: &str) -> Self {
        let mut numbers =
            version.split(|c: char| !c.is_ascii_digit()).map_while(|text| text.parse::<u32>().ok());
        match (version.contains("MariaDB"), (numbers.next(), numbers.next())) {
            (false, numbers) if numbers >= (Some(9), Some(7)) => Edition::MySql,
            (false, _) => Edition::OlderMySql,
            (true, numbers) if numbers >= (Some(11), Some(3)) => Edition::MariaDb,
            (true, _) => Edition::OlderMariaDb,
        }
    }

    /// The privilege that shows where the log stands.
    fn monitor(self) -> &'static str {
        match self {
            Edition::MariaDb | Edition::OlderMariaDb => "BINLOG MONITOR",
            Edition::MySql | Edition::OlderMySql => "REPLICATION CLIENT",
        }
    }

    /// Whether there may be policies that mask columns.
    pub(super) fn masks_columns(self) -> bool {
        self == Edition::MySql
    }

    /// The privilege that shows what routines do, and on what.
    fn routines(self) -> (&'static str, &'static str) {
        match self {
            Edition::MariaDb => ("SHOW CREATE ROUTINE", "*"),
            Edition::OlderMariaDb => ("SELECT", "mysql.proc"),
            Edition::MySql | Edition::OlderMySql => ("SHOW_ROUTINE", "*"),
        }
    }
}

/// What a server told.
#[derive(Clone, Debug)]
struct Server {
    user: String,
    edition: Edition,
    has_log: bool,
    log_format: Option<String>,
    numbers: Numbers,
    grants: Vec<Grant>,
}

/// Whether a server numbers its transactions. MariaDB always does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbers {
    Told,
    Untold,
}

/// Privileges on all that matches.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    /// `*` for all databases; one database, with the wildcards of grants; or one table of one.
    on: String,
    privileges: Vec<String>,
}

impl Grant {
    /// Reads a line of `SHOW GRANTS` (MariaDB's documentation, "SHOW GRANTS"); `None` where it grants a role, or to act as another.
    fn parse(line: &str) -> Option<Self> {
        let (privileges, rest) = line.strip_prefix("GRANT ")?.split_once(" ON ")?;
        let (on, _) = rest.split_once(" TO ")?;
        let on = on.strip_suffix(".*").unwrap_or(on).replace('`', "");
        let privileges = privileges.split(", ").map(|name| name.trim().to_ascii_uppercase()).collect();
        Some(Self { on, privileges })
    }

    fn gives(&self, privilege: &str) -> bool {
        // What older servers call by another name.
        let same =
            |name: &str| name == privilege || (privilege == "BINLOG MONITOR" && name == "REPLICATION CLIENT");
        self.privileges.iter().any(|name| same(name) || name == "ALL PRIVILEGES" || name == "ALL")
    }

    fn covers(&self, database: &str) -> bool {
        self.on == "*" || like(&self.on, database)
    }
}

/// Whether a pattern of a grant matches: `%` any text, `_` any letter, a backslash takes that from them.
fn like(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => text.is_empty(),
        Some('%') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| like(rest.as_str(), &text[at..])),
        Some(letter) => {
            let (letter, is_any) = match letter {
                '\\' => (rest.next(), false),
                '_' => (None, true),
                letter => (Some(letter), false),
            };
            let mut others = text.chars();
            others.next().is_some_and(|first| is_any || Some(first) == letter)
                && like(rest.as_str(), others.as_str())
        }
    }
}

impl Server {
    fn lacks(&self, databases: &[String], wants_log: bool) -> Vec<Lack> {
        let mut lacks = Vec::new();
        lacks.extend(self.lacks_of_databases(databases));
        lacks.extend(self.lacks_of_the_server(wants_log));
        lacks.extend(self.lack_of_log(wants_log));
        lacks.extend(self.lack_of_numbers(wants_log));
        lacks
    }

    fn lack_of_numbers(&self, wants_log: bool) -> Option<Lack> {
        (wants_log && self.has_log && self.numbers == Numbers::Untold).then(|| {
            let what = "the server's gtid_mode is not ON: its log is read at its slots only, and one that was reset can't be told \
                        from the one before";
            let remedy = "in the server's option file: gtid-mode = ON, enforce-gtid-consistency = ON; restart it";
            Lack::warning(what, remedy)
        })
    }

    /// What a copy of the files needs and, where it is wanted, the log.
    fn lacks_for_copies(&self, wants_log: bool) -> Vec<Lack> {
        let monitor = self.has_log.then(|| self.edition.monitor());
        let reads_log = wants_log.then_some("REPLICATION SLAVE");
        let needed = ["RELOAD", "PROCESS", "LOCK TABLES"].into_iter().chain(monitor).chain(reads_log);
        let has = |privilege: &str| self.grants.iter().any(|grant| grant.on == "*" && grant.gives(privilege));
        let lack = |privilege: &str| {
            Lack::error(
                format!(
                    "user {} lacks {privilege}: without it the files or their log are not captured",
                    self.user
                ),
                format!("GRANT {privilege} ON *.* TO {};", self.user),
            )
        };
        needed.filter(|privilege| !has(privilege)).map(lack).chain(self.lack_of_log(wants_log)).collect()
    }

    fn lack_of_log(&self, wants_log: bool) -> Option<Lack> {
        if wants_log && !self.has_log {
            let remedy =
                "in the server's option file: log-bin, server-id = 1, binlog-format = ROW; restart it";
            return Some(Lack::error("the server writes no binary log", remedy));
        }
        let format = self.log_format.as_deref().filter(|format| wants_log && *format != "ROW")?;
        let what = format!(
            "the binary log is written with binlog_format = {format}: statements may do something else when they are replayed"
        );
        let remedy = "SET GLOBAL binlog_format = 'ROW'; and binlog-format = ROW in the server's option file";
        Some(Lack::warning(what, remedy))
    }

    fn lacks_of_databases(&self, databases: &[String]) -> Vec<Lack> {
        let all = ["*".to_owned()];
        let databases = if databases.is_empty() { &all } else { databases };
        let lack = |database: &String| {
            let has = |privilege: &str| {
                self.grants.iter().any(|grant| grant.covers(database) && grant.gives(privilege))
            };
            let missing: Vec<&str> = OF_DATABASES.into_iter().filter(|privilege| !has(privilege)).collect();
            let (name, on) = match database.as_str() {
                "*" => ("all databases".to_owned(), "*.*".to_owned()),
                name => (format!("database {name}"), format!("{}.*", super::session::identifier(name))),
            };
            (!missing.is_empty()).then(|| {
                let missing = missing.join(", ");
                Lack::error(
                    format!("user {} lacks {missing} on {name}, which a dump reads", self.user),
                    format!("GRANT {missing} ON {on} TO {};", self.user),
                )
            })
        };
        databases.iter().filter_map(lack).collect()
    }

    fn lacks_of_the_server(&self, wants_log: bool) -> Vec<Lack> {
        let weighed = |is_needed| if is_needed { Lack::error } else { Lack::warning };
        let monitor = self.edition.monitor();
        let needs: [(&str, bool, bool, &str); 3] = [
            ("RELOAD", true, wants_log, "without it rows are not counted and no place in the log is known"),
            (monitor, self.has_log, wants_log, "without it no place in the binary log is known"),
            ("REPLICATION SLAVE", wants_log, true, "it lets the binary log be read"),
        ];
        let has = |privilege: &str| self.grants.iter().any(|grant| grant.on == "*" && grant.gives(privilege));
        let missing = needs.into_iter().filter(|(privilege, is_wanted, ..)| *is_wanted && !has(privilege));
        let lack = |(privilege, _, is_needed, why): (&str, bool, bool, &str)| {
            weighed(is_needed)(
                format!("user {} lacks {privilege}: {why}", self.user),
                format!("GRANT {privilege} ON *.* TO {};", self.user),
            )
        };
        missing.map(lack).chain(self.lack_of_routines()).collect()
    }

    fn lack_of_routines(&self) -> Option<Lack> {
        let (privilege, on) = self.edition.routines();
        let database = on.split('.').next().unwrap_or(on);
        let covers = |grant: &Grant| grant.on == on || grant.covers(database);
        let is_there = self.grants.iter().any(|grant| covers(grant) && grant.gives(privilege));
        let on = if on == "*" { "*.*" } else { on };
        (!is_there).then(|| {
            Lack::warning(
                format!(
                    "user {} lacks {privilege} on {on}: a dump fails where there are routines of others",
                    self.user
                ),
                format!("GRANT {privilege} ON {on} TO {};", self.user),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Severity;

    fn server(grants: &[&str]) -> Server {
        Server {
            user: account("backup@10.0.%"),
            edition: Edition::of("10.11.6-MariaDB-log"),
            has_log: true,
            log_format: Some("ROW".to_owned()),
            numbers: Numbers::Told,
            grants: grants.iter().filter_map(|line| Grant::parse(line)).collect(),
        }
    }

    fn remedies(server: &Server, databases: &[&str], wants_log: bool) -> Vec<(Severity, String)> {
        let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
        server.lacks(&databases, wants_log).into_iter().map(|lack| (lack.severity, lack.remedy)).collect()
    }

    #[test]
    fn nothing_is_missing_for_one_who_has_all_that_is_documented() {
        let documented = server(&[
            "GRANT RELOAD, BINLOG MONITOR ON *.* TO `backup`@`10.0.%` IDENTIFIED BY PASSWORD '*A'",
            "GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT, TRIGGER ON `sh\\_op`.* TO `backup`@`10.0.%`",
            "GRANT SELECT ON `mysql`.`proc` TO `backup`@`10.0.%`",
        ]);
        assert_eq!(remedies(&documented, &["sh_op"], false), []);
        let root = server(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]);
        assert_eq!(remedies(&root, &[], true), []);
    }

    #[test]
    fn what_is_missing_is_granted_by_its_remedy_and_no_more() {
        let bare = server(&[
            "GRANT USAGE ON *.* TO `backup`@`10.0.%`",
            "GRANT SELECT ON `shop`.* TO `backup`@`10.0.%`",
        ]);
        let error = |remedy: &str| (Severity::Error, remedy.to_owned());
        let warning = |remedy: &str| (Severity::Warning, remedy.to_owned());
        let to = "TO 'backup'@'10.0.%';";
        assert_eq!(
            remedies(&bare, &["shop", "o`ther"], false),
            [
                error(&format!("GRANT SHOW VIEW, TRIGGER, EVENT ON `shop`.* {to}")),
                error(&format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON `o``ther`.* {to}")),
                warning(&format!("GRANT RELOAD ON *.* {to}")),
                warning(&format!("GRANT BINLOG MONITOR ON *.* {to}")),
                warning(&format!("GRANT SELECT ON mysql.proc {to}")),
            ]
        );
        let for_log = remedies(&bare, &[], true);
        assert_eq!(for_log[0], error(&format!("GRANT SELECT, SHOW VIEW, TRIGGER, EVENT ON *.* {to}")));
        assert_eq!(for_log[3], error(&format!("GRANT REPLICATION SLAVE ON *.* {to}")));
        assert!(for_log[..4].iter().all(|(severity, _)| *severity == Severity::Error));
        let newer = Server { edition: Edition::of("11.4.2-MariaDB"), ..bare.clone() };
        assert_eq!(
            remedies(&newer, &[], true)[4],
            warning(&format!("GRANT SHOW CREATE ROUTINE ON *.* {to}"))
        );
        let mysql = Server { edition: Edition::of("8.0.36"), ..bare };
        assert_eq!(remedies(&mysql, &[], true)[2], error(&format!("GRANT REPLICATION CLIENT ON *.* {to}")));
    }

    #[test]
    fn copies_of_files_need_other_privileges_than_dumps() {
        let documented = server(&[
            "GRANT RELOAD, PROCESS, LOCK TABLES, BINLOG MONITOR, REPLICATION SLAVE ON *.* TO `backup`@`10.0.%`",
        ]);
        assert_eq!(documented.lacks_for_copies(true), []);
        let bare = server(&["GRANT RELOAD, LOCK TABLES ON *.* TO `backup`@`10.0.%`"]);
        let remedies: Vec<String> = bare.lacks_for_copies(true).into_iter().map(|lack| lack.remedy).collect();
        let expected = ["PROCESS", "BINLOG MONITOR", "REPLICATION SLAVE"];
        assert_eq!(
            remedies,
            expected.map(|privilege| format!("GRANT {privilege} ON *.* TO 'backup'@'10.0.%';"))
        );
    }

    #[test]
    fn a_log_must_be_written_and_tell_rows() {
        let mut server = server(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost`"]);
        server.log_format = Some("STATEMENT".to_owned());
        assert_eq!(remedies(&server, &[], true).len(), 1);
        assert_eq!(remedies(&server, &[], false), []);
        server.has_log = false;
        let lacks = remedies(&server, &[], true);
        assert!(
            matches!(lacks.as_slice(), [(Severity::Error, remedy)] if remedy.contains("log-bin")),
            "{lacks:?}"
        );
    }

    #[test]
    fn patterns_of_grants_match_as_the_server_does() {
        for (pattern, text, matches) in [
            ("shop", "shop", true),
            ("sh%", "shop", true),
            ("%", "", true),
            ("sh_p", "shop", true),
            ("sh\\_p", "shop", false),
            ("sh\\_p", "sh_p", true),
            ("shop", "shopping", false),
        ] {
            assert_eq!(like(pattern, text), matches, "{pattern} {text}");
        }
    }
}
