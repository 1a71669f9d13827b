//! What brings a log on top of the data that it goes on from, up to a moment, without Backstay: by the same rules as a restore.
//!
//! ```text
//! binlog   MariaDB and MySQL: which files, from where to where
//! ```

mod binlog;

use std::collections::BTreeSet;

use super::{
    Brought, Folders, Hand, Line, MadeByHand, Prepared,
    connection::{AS_IT_IS, Flavour, mysql_client},
    line, load, made_new, typed, unpacked,
};
use crate::{
    artifact::{manifest::Moment, position::LogPosition, recovery_settings::recovery_settings, until::Until},
    spec::{MysqlMethod, PostgresMethod, Server, Source},
};
use binlog::{Run, Span};

/// What was brought out: data, oldest first, and the logs that go on from its last, in their order.
#[derive(Clone, Copy, Debug)]
pub struct Restored<'a> {
    /// The data.
    pub data: &'a [Brought],
    /// The logs.
    pub logs: &'a [Brought],
    /// What the logs are replayed up to; all of them where it is `None`.
    pub until: Option<&'a Until>,
}

/// All that is typed once everything was brought out, in its order. What can't be typed is told.
pub fn restored(source: &Source, restored: &Restored<'_>, folders: &Folders) -> MadeByHand {
    let told = |why| MadeByHand { files: Vec::new(), hands: vec![Hand::Know(why)] };
    let loaded = load::load(source, restored.data, folders).unwrap_or_else(told);
    let hands = load::started(source, restored.data, &folders.data);
    let started = MadeByHand { files: Vec::new(), hands };
    let replayed = match restored.logs {
        [] => MadeByHand::default(),
        _ => replay(source, restored, folders).unwrap_or_else(told),
    };
    let parts = match source {
        // A server replays while it starts.
        Source::Postgres(_) => [loaded, replayed, started],
        _ => [loaded, started, replayed],
    };
    let (files, hands): (Vec<_>, Vec<_>) = parts.into_iter().map(|part| (part.files, part.hands)).unzip();
    MadeByHand { files: files.concat(), hands: hands.concat() }
}

/// What replays the logs over the data, once that was loaded; on a server of PostgreSQL before it is started.
///
/// # Errors
/// Where commands can't be told: why, and what a person goes by.
pub fn replay(source: &Source, restored: &Restored<'_>, folders: &Folders) -> Result<MadeByHand, String> {
    match source {
        Source::Mysql(mysql) => {
            let accounts = match mysql.method {
                MysqlMethod::Logical => Accounts::MayBeThere,
                MysqlMethod::Physical { .. } => Accounts::InTheCopy,
            };
            let hands = binary_log(&mysql.server, accounts, restored, folders)?;
            Ok(MadeByHand { files: Vec::new(), hands })
        }
        Source::Postgres(postgres) if postgres.method != PostgresMethod::Logical => {
            write_ahead_log(restored, folders)
        }
        Source::Mongodb(_) => Err(OPLOG.to_owned()),
        other => Err(format!("nothing tells how a log of `{}` is replayed by hand", other.kind())),
    }
}

/// What a person goes by who replays the log of MongoDB.
const OPLOG: &str = "its log is replayed by MongoDB's own tools: see \"Back to any second\" and \"The way back\" in docs/mongodb.md";

/// Whether the accounts that a log tells of are as it expects them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accounts {
    /// No dump holds them: those that the log makes may be there already, and those that it drops may be gone.
    MayBeThere,
    /// A copy of files holds them.
    InTheCopy,
}

/// What the server must take as one statement: the rows that one wrote are one again.
const LARGEST: &str = "--execute=SET GLOBAL max_allowed_packet = 1073741824";

/// What the user needs for it.
const RIGHTS: &str = "whoever replays needs the rights that \"The way back of MySQL\" in docs/any-second.md tells of; who may not set \
                      this goes on without it, and the server's own limit holds:";

fn binary_log(
    server: &Server,
    accounts: Accounts,
    restored: &Restored<'_>,
    folders: &Folders,
) -> Result<Vec<Hand>, String> {
    let Some(newest) = restored.data.last() else { return Err("nothing is brought out".to_owned()) };
    let folder = folders.log.as_str();
    let folder_of = |number: usize| format!("{folder}/{:02}", number + 1);
    let mut hands = vec![made_new(folder)];
    for (number, log) in restored.logs.iter().enumerate() {
        hands.extend([made_new(&folder_of(number)), unpacked(&log.file, &folder_of(number))]);
    }
    let flavour = Flavour::of(newest);
    if accounts == Accounts::InTheCopy {
        hands.extend(must_be_on_the_copy(server, &folders.data));
    }
    hands.push(Hand::Know(RIGHTS.to_owned()));
    hands.push(typed(mysql_client(flavour, server, &[LARGEST]), None));
    let spans = restored.logs.iter().map(Span::of).collect::<Result<Vec<Span>, String>>()?;
    for run in binlog::runs(binlog::place_of(newest)?, &spans, restored.until)? {
        let files = run.files.iter().map(|(number, name)| format!("{}/{name}", folder_of(*number)));
        let (read, told) = (format!("{folder}/read.sql"), format!("{folder}/replay.sql"));
        let reader = reader(flavour, &run).into_iter().chain(files);
        match accounts {
            Accounts::InTheCopy => hands.push(Hand::Type(Line::of(reader).writing(&told))),
            Accounts::MayBeThere => {
                hands.push(Hand::Type(Line::of(reader).writing(&read)));
                let again = ["env", "LC_ALL=C", "sed", "--regexp-extended", again(flavour)];
                hands.push(Hand::Type(line(again).reading(&read).writing(&told)));
            }
        }
        hands.push(typed(mysql_client(flavour, server, &AS_IT_IS), Some(&told)));
    }
    Ok(hands)
}

/// What a person sees to before the log of a copy is replayed.
const ON_THE_COPY: &str = "what follows is typed at the declared address: where the original still runs there, have all of it reach the \
                           server on the copy instead (`--socket=…`), or the log changes the original. What is typed next fails at any \
                           other server; where the copy was moved, name its new folder in it";

/// Fails at any server but that on the copy in `folder`. That is one of MariaDB, the only one whose files are copied.
fn must_be_on_the_copy(server: &Server, folder: &str) -> [Hand; 2] {
    // A server tells the whole path, with a slash behind it.
    let end = if folder.starts_with('/') { folder.to_owned() } else { format!("/{folder}") };
    let end = end.replace('\\', r"\\").replace('\'', "''");
    let check = format!(
        "--execute=BEGIN NOT ATOMIC IF NOT (BINARY RIGHT(TRIM(TRAILING '/' FROM @@datadir), CHAR_LENGTH('{end}')) <=> '{end}') THEN \
         SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'this is not the server on the copy'; END IF; END"
    );
    let asked = mysql_client(Flavour::MariaDb, server, &["--delimiter=//", &check]);
    [Hand::Know(ON_THE_COPY.to_owned()), typed(asked, None)]
}

/// What prints what a run of files tells, up to its end. Files of their own between it and the client: a pipe would hide that the
/// first failed. All files of a run at once, for what one of them tells may end in the next.
fn reader(flavour: Flavour, run: &Run) -> Vec<String> {
    let program: &[&str] = match flavour {
        Flavour::MariaDb => &["mariadb-binlog", "--no-defaults"],
        // A server leaves out transactions of which it has the number already, and says nothing of it (its manual, "mysqlbinlog").
        Flavour::MySql => &["mysqlbinlog", "--no-defaults", "--skip-gtids"],
    };
    // It takes moments in the time zone of where it runs.
    let words = ["env", "TZ=UTC"].iter().chain(program).map(ToString::to_string);
    words.chain([format!("--start-position={}", run.begin)]).chain(run.end.clone()).collect()
}

/// What has it not matter which accounts are there already. A statement begins on a line behind one that ends with the delimiter that
/// the reader sets, comments and empty lines apart; nothing else is touched.
fn again(flavour: Flavour) -> &'static str {
    match flavour {
        Flavour::MariaDb => {
            r":s;/^(#|$)/{n;bs};/^CREATE (USER|ROLE) IF NOT EXISTS /I!s/^CREATE (USER|ROLE) /CREATE OR REPLACE \1 /I;/^DROP (USER|ROLE) IF EXISTS /I!s/^DROP (USER|ROLE) /DROP \1 IF EXISTS /I;:m;/\/\*!\*\/;$/{n;bs};n;bm"
        }
        Flavour::MySql => {
            r":s;/^(#|$)/{n;bs};/^CREATE (USER|ROLE) IF NOT EXISTS /I!s/^CREATE (USER|ROLE) /CREATE \1 IF NOT EXISTS /I;/^DROP (USER|ROLE) IF EXISTS /I!s/^DROP (USER|ROLE) /DROP \1 IF EXISTS /I;:m;/\/\*!\*\/;$/{n;bs};n;bm"
        }
    }
}

/// The folder of the segments, in the data folder: what a server starts its programs from.
const SEGMENTS: &str = "restored_wal";

fn write_ahead_log(restored: &Restored<'_>, folders: &Folders) -> Result<MadeByHand, String> {
    let Some(newest) = restored.data.last() else { return Err("nothing is brought out".to_owned()) };
    let logs = restored.logs.iter().map(timeline_of).collect::<Result<BTreeSet<u32>, String>>()?;
    let own = timeline_of(newest)?;
    let timeline = logs.last().copied().filter(|timeline| *timeline != own);
    let content = recovery_settings(SEGMENTS, timeline, restored.until).map_err(|error| error.to_string())?;
    let data = folders.data.as_str();
    let segments = format!("{data}/{SEGMENTS}");
    // One that came with the data is of an earlier restore.
    let mut hands = vec![Hand::Type(line(["rm", "-rf", &segments])), made_new(&segments)];
    // Logs overlap in the segment where one ends and the next begins. The later one has all of it.
    hands.extend(restored.logs.iter().map(|log| unpacked(&log.file, &segments)));
    let written = |from: &str, name: &str, flags: &str| {
        let (from, to) = (format!("if={from}"), format!("of={data}/{name}"));
        // What is there may have been a link on the server that was captured: it leads nowhere.
        Hand::Type(line(["dd", "status=none", &from, &to, &format!("oflag={flags}"), "conv=notrunc"]))
    };
    hands.push(written(&folders.prepared, "postgresql.auto.conf", "append,nofollow"));
    hands.push(written("/dev/null", "recovery.signal", "nofollow"));
    Ok(MadeByHand { files: vec![Prepared { path: folders.prepared.clone(), content }], hands })
}

/// The timeline that an artifact ends on.
fn timeline_of(brought: &Brought) -> Result<u32, String> {
    let position = end_of(&brought.stored.moment);
    match position.and_then(LogPosition::parse) {
        Some(LogPosition::Wal(place)) => Ok(place.history.timeline),
        _ => Err(format!("{} does not tell where in the write-ahead log it ends", brought.file)),
    }
}

/// Where in a log an artifact ends, by the engine's own name.
fn end_of(moment: &Moment) -> Option<&str> {
    match moment {
        Moment::At { position, .. } => position.as_deref(),
        Moment::Window { until, .. } => Some(&until.position),
    }
}

#[cfg(test)]
mod tests;
