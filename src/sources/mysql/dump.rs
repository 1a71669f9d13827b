//! A capture: the view, the dump, and the proof that the dump is whole.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    ANSWER, Failure,
    access::Access,
    marks::{Marks, prologue},
    needs::Edition,
    programs::Flavour,
    rows,
    session::{Session, literal},
    view::{View, all_databases, tables},
};
use crate::{
    artifact::manifest::{Counting, Details, Moment, Rows},
    process::{Process, Program},
    sources::{CaptureRequest, Captured, Sink, counting::beside, two_clocks::TwoClocks},
    spec::Part,
};

/// What MySQL answers where a user may not see a table, or there is none (errors 1142 and 1146 of its manual).
const HIDDEN: [&str; 2] = ["ERROR 1142", "ERROR 1146"];

/// How the dump programs tell of something that they left out, though they end well.
const COMPLAINT: &str = "dump: Error";

/// How long the server may be held still for the dump to open its view.
const LONGEST_LOCK: Duration = Duration::from_secs(10);

/// What is dumped of what is declared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    /// The one database, which is dumped without its name.
    pub single: Option<&'a str>,
    /// What alone of it.
    pub part: Option<&'a Part>,
    /// What is found out about its rows.
    pub counting: Counting,
}

impl Scope<'_> {
    fn tables(&self) -> &[String] {
        self.part.map_or(&[], |part| &part.tables)
    }
}

/// Dumps the declared databases into `sink`.
pub(super) async fn capture(
    access: &Access,
    scope: Scope<'_>,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let asked = Asked::of(access, scope.single).await?;
    if let Some(prologue) = &asked.prologue {
        sink.write(Bytes::from(prologue.clone())).await?;
    }
    let mut view = View::open(access, request.stall).await?;
    let mut dump = asked.program(access, scope, request.stall).start()?;
    dump.close_input();
    let mut text = Text::default();
    let clocks = Clocks { access, request };
    let opened = begin(&mut dump, &mut view, &mut text, clocks, sink).await?;
    let count = async {
        match scope.part {
            Some(part) => Rows::not_captured(format!("only {part} is dumped")),
            None => view.count(&asked.databases, scope.counting).await,
        }
    };
    let dumped = stream(dump, &mut text, opened, clocks, sink);
    let (opened, rows) = beside(dumped, count, request.stall).await?;
    if !text.marks.completed() {
        return Err(Failure::Incomplete(
            "the dump ends without its closing line `-- Dump completed`".to_owned(),
        ));
    }
    Ok(asked.captured(access, &view, rows, &text.marks, opened).await)
}

/// The controller's and the server's.
#[derive(Clone, Copy)]
struct Clocks<'a> {
    access: &'a Access,
    request: &'a CaptureRequest<'a>,
}

impl Clocks<'_> {
    async fn read(self) -> Result<TwoClocks, Failure> {
        Session::clocks(self.access, self.request).await
    }
}

/// What is dumped, and what was found out about it before.
struct Asked {
    server_version: String,
    /// Which server it is, where the dump holds all of it: only then its log goes on from there.
    server: Option<String>,
    databases: Vec<String>,
    prologue: Option<String>,
    /// Whether the dump can say where in the binary log it stands.
    binary_log: bool,
    masks: Masks,
    notes: Vec<String>,
}

impl Asked {
    async fn of(access: &Access, single: Option<&str>) -> Result<Self, Failure> {
        let mut session = Session::open(access, None, ANSWER)?;
        let server_version = session.one("SELECT VERSION()").await?;
        access.must_be_for(&server_version)?;
        let databases = match access.databases.as_slice() {
            [] => all_databases(&mut session).await?,
            declared => declared.to_vec(),
        };
        if databases.is_empty() {
            return Err(Failure::Refused("the server has no databases that this user can see".to_owned()));
        }
        let prologue = match single {
            Some(name) => Some(defaults(&mut session, name).await?),
            None => None,
        };
        let kept_elsewhere = tables(&mut session, &databases).await?.into_iter().filter(|t| !t.transactional);
        let note = |t: super::view::Table| {
            format!("consistency of {}: its engine {} has no transactions", t.name(), t.engine)
        };
        let masks = Masks::of(access, &server_version).await?;
        let notes = kept_elsewhere.map(note).chain(masks.note()).collect();
        let binary_log = session.one("SELECT @@log_bin").await? == "1" && may_read_position(access).await;
        let server = match access.databases.as_slice() {
            [] => Some(session.server_identity().await?),
            _ => None,
        };
        Ok(Self { server_version, server, databases, prologue, binary_log, masks, notes })
    }

    fn program(&self, access: &Access, scope: Scope<'_>, stall: Duration) -> Program {
        let flavour = access.programs.flavour;
        let mut dump = access
            .dump(stall)
            .arguments(["--single-transaction", "--quick", "--triggers", "--hex-blob"])
            // Rows are put together as they pass.
            .argument("--skip-extended-insert")
            .arguments(["--default-character-set=utf8mb4", "--no-tablespaces"]);
        if scope.tables().is_empty() {
            // They belong to the database, and to none of its tables.
            dump = dump.arguments(["--routines", "--events"]);
        }
        if flavour == Flavour::MySql {
            dump = dump.argument("--set-gtid-purged=OFF");
        }
        if self.masks == Masks::Hidden {
            dump = dump.argument("--loose-skip-masking-policies");
        }
        dump = match (self.binary_log, flavour) {
            (true, Flavour::MariaDb) => dump.arguments(["--master-data=2", "--gtid"]),
            (true, Flavour::MySql) => dump.argument("--source-data=2"),
            (false, _) => dump,
        };
        match scope.single {
            Some(name) => dump.arguments(["--", name]).arguments(scope.tables()),
            None => dump.argument("--databases").argument("--").arguments(&self.databases),
        }
    }

    /// The moment is the controller's, unless a log goes on from there: a server's clock that is off must not make artifacts
    /// look old or young.
    async fn captured(
        self,
        access: &Access,
        view: &View,
        rows: Rows,
        marks: &Marks,
        opened: TwoClocks,
    ) -> Captured {
        let position = marks.position();
        let Rows { counts, checksums } = view.vouch(rows, position.as_ref());
        let log = position.map(|p| format!("{}:{}", p.file, p.offset));
        let gtid = marks.gtid().or_else(|| view.transactions().map(str::to_owned));
        let gtid = gtid.map(|gtid| format!("gtid {gtid}"));
        let server = self.server.filter(|_| log.is_some()).map(|server| format!("server {server}"));
        let (mut time, mut omitted) = (opened.ours, self.notes);
        if server.is_some() {
            opened.settled().await;
            time = opened.time();
            omitted.extend(opened.omitted());
        }
        let position: Vec<String> = [log, gtid, server].into_iter().flatten().collect();
        let versions = [
            ("server".to_owned(), self.server_version),
            ("dump".to_owned(), access.programs.version.clone()),
        ];
        Captured {
            moment: Moment::At { time, position: (!position.is_empty()).then(|| position.join(", ")) },
            details: Details { versions: versions.into(), counts, checksums, omitted, ..Details::default() },
        }
    }
}

/// The policies by which MySQL masks columns (since 9.7). Its dump program leaves out those that the user may not see, and ends
/// well nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Masks {
    /// There are none, or the dump holds them.
    Held,
    Hidden,
}

impl Masks {
    async fn of(access: &Access, server_version: &str) -> Result<Self, Failure> {
        if !Edition::of(server_version).masks_columns() {
            return Ok(Masks::Held);
        }
        // A statement that fails ends its session.
        let mut session = Session::open(access, None, ANSWER)?;
        match session.rows("SELECT COUNT(*) FROM performance_schema.column_masking_policy").await {
            Ok(_) => Ok(Masks::Held),
            Err(Failure::Process(why)) if HIDDEN.iter().any(|code| why.to_string().contains(code)) => {
                Ok(Masks::Hidden)
            }
            Err(failure) => Err(failure),
        }
    }

    fn note(self) -> Option<String> {
        let note = "policies that mask columns, where the server has any: this user may not see them";
        (self == Masks::Hidden).then(|| note.to_owned())
    }
}

/// What a dump without the database's name does not tell.
async fn defaults(session: &mut Session, database: &str) -> Result<String, Failure> {
    let query = format!(
        "SELECT default_character_set_name, default_collation_name FROM information_schema.schemata \
         WHERE schema_name = {}",
        literal(database)
    );
    match session.rows(&query).await?.as_slice() {
        [row] if row.len() == 2 => Ok(prologue(&row[0], &row[1])),
        _ => Err(Failure::Refused(format!(
            "Unknown database {database}: it is missing, or this user can't see it"
        ))),
    }
}

/// Whether the privileges allow to read where the binary log stands. MySQL renamed the statement in 8.4.
async fn may_read_position(access: &Access) -> bool {
    for statement in ["SHOW MASTER STATUS", "SHOW BINARY LOG STATUS"] {
        if let Ok(mut session) = Session::open(access, None, ANSWER)
            && session.rows(statement).await.is_ok()
        {
            return true;
        }
    }
    false
}

/// The text of a dump as it passes.
#[derive(Debug, Default)]
struct Text {
    rows: rows::Rows,
    marks: Marks,
}

impl Text {
    /// The next bytes, as they are stored.
    fn pass(&mut self, bytes: &[u8]) -> Bytes {
        let passed = self.rows.pass(bytes);
        self.marks.look(&passed);
        passed.into()
    }
}

/// Streams until the dump has opened its view, so that the server can go on, and tells when it had. The view holds nothing that
/// is newer: a log that is replayed over it goes on from there.
async fn begin(
    dump: &mut Process,
    view: &mut View,
    text: &mut Text,
    clocks: Clocks<'_>,
    sink: &mut dyn Sink,
) -> Result<Option<TwoClocks>, Failure> {
    let deadline = Instant::now() + LONGEST_LOCK;
    let mut opened = None;
    while opened.is_none() {
        let Ok(read) = timeout_at(deadline, dump.read()).await else {
            view.give_up("the dump did not open its view soon enough").await?;
            break;
        };
        let Some(bytes) = read? else {
            view.give_up("the dump ended before it opened its view").await?;
            break;
        };
        let bytes = text.pass(&bytes);
        // Before the sink, which may make us wait.
        if text.marks.opened() {
            view.dump_opened().await?;
            opened = Some(clocks.read().await?);
        }
        sink.write(bytes).await?;
    }
    Ok(opened)
}

async fn stream(
    mut dump: Process,
    text: &mut Text,
    mut opened: Option<TwoClocks>,
    clocks: Clocks<'_>,
    sink: &mut dyn Sink,
) -> Result<TwoClocks, Failure> {
    while let Some(bytes) = dump.read().await? {
        let bytes = text.pass(&bytes);
        if opened.is_none() && text.marks.opened() {
            opened = Some(clocks.read().await?);
        }
        sink.write(bytes).await?;
    }
    let rest = Bytes::from(text.rows.end());
    text.marks.look(&rest);
    sink.write(rest).await?;
    let said = dump.last_words().await?;
    if said.as_str().contains(COMPLAINT) {
        return Err(Failure::Incomplete(format!("the dump program left something out{said}")));
    }
    match opened {
        Some(opened) => Ok(opened),
        None => clocks.read().await,
    }
}
