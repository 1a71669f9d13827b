//! The way back. The stream is first extracted and proved whole; `influxd restore` then makes a database of it, which must
//! not exist. The program tells nothing of a shard that the server failed to take in: the server itself is asked.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::io::AsyncRead;

use super::{
    ANSWER, Failure, InfluxdbSource, archive,
    grants::{granted, recorded},
    names::{DatabaseName, identifier},
    portable::{self, Portable},
    record::{Record, makes_a_query},
    rpc,
    settle::{Whole, settled},
    stage::Stage,
};
use crate::{
    process::{ProcessError, Program},
    sources::{
        Holds,
        aside::{Aside, new_folder},
        blocking::consume,
        existing::{self, Existing},
    },
};

/// How long the server may take over one shard.
const SHARD: Duration = Duration::from_secs(6 * 3600);

/// What the program says once it has made the database, and how much of what it says is looked at, bytes.
const MADE: &str = "Restoring shard";
const SAID: usize = 64 * 1024;

pub(super) type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// One database of a stream, proved whole.
struct Backup {
    database: DatabaseName,
    folder: PathBuf,
    record: Record,
    portable: Portable,
}

/// Writes the stream into a new file.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: std::io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Extracts the stream into a new or empty folder.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::Refused(format!("{}: {error}", folder.display())))?;
    match extracted(stream, folder).await {
        Ok(_) => Ok(folder.display().to_string()),
        Err(failure) => {
            archive::clear(folder);
            Err(failure)
        }
    }
}

/// Makes a new database of the only one that the stream holds. It is removed again where that fails.
pub(super) async fn to_new_database(
    source: &InfluxdbSource,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    let new = DatabaseName::parse(name)?;
    ready(source).await?;
    if exists(source, &new).await? {
        return Err(Failure::Refused(format!("database {new} exists")));
    }
    let stage = Stage::new(&source.scratch).map_err(Failure::Stage)?;
    let [backup] = extracted(stream, stage.path()).await?.try_into().map_err(|several: Vec<_>| {
        let why = "databases were captured, each with its own name; restore them to a folder, or over the originals";
        Failure::Refused(format!("{} {why}", several.len()))
    })?;
    load_or_leave(source, &backup, &new).await?;
    Ok(format!("database {new}{}", undeleted(std::slice::from_ref(&backup))))
}

/// Puts every database of the stream in its original's place.
pub(super) async fn over_originals(source: &InfluxdbSource, stream: Stream<'_>) -> Result<String, Failure> {
    ready(source).await?;
    let stage = Stage::new(&source.scratch).map_err(Failure::Stage)?;
    let backups = extracted(stream, stage.path()).await?;
    if source.existing == Existing::Refused
        && let Holds::Data(what) = source.held().await?
    {
        return Err(Failure::Refused(existing::by_now(&what)));
    }
    let mut existing = Vec::new();
    for backup in &backups {
        is_declared(source, &backup.database)?;
        existing.push(exists(source, &backup.database).await?);
        if existing.last() == Some(&true) {
            is_all_of_it(backup)?;
        }
    }
    let mut by_hand = Vec::new();
    for (backup, is_there) in backups.iter().zip(existing) {
        if is_there {
            replace(source, backup).await?;
        } else {
            load_or_leave(source, backup, &backup.database).await?;
            let recorded = recorded(&source.api, &backup.database, backup.record.grants.as_deref()).await?;
            finish(source, backup, &recorded.statements).await?;
            by_hand.extend(recorded.by_hand);
        }
    }
    let names: Vec<_> = backups.iter().map(|backup| backup.database.as_str()).collect();
    let place = format!("database {}{}", names.join(", "), undeleted(&backups));
    if by_hand.is_empty() {
        return Ok(place);
    }
    Ok(format!("{place}, without users that this server does not have: {}", by_hand.join("; ")))
}

/// What is back though it was deleted.
fn undeleted(backups: &[Backup]) -> String {
    match backups.iter().map(|backup| backup.portable.undeleted).sum() {
        0 => String::new(),
        shards => format!(
            " ({shards} shards held deletions that the server had not worked into its files: what they deleted is back, \
             delete it again)"
        ),
    }
}

async fn ready(source: &InfluxdbSource) -> Result<(), Failure> {
    source.api.version().await?;
    rpc::answers(&source.rpc, ANSWER).await?;
    source.api.users().await.map(drop)
}

async fn exists(source: &InfluxdbSource, name: &DatabaseName) -> Result<bool, Failure> {
    Ok(source.api.databases().await?.iter().any(|there| there == name.as_str()))
}

fn is_declared(source: &InfluxdbSource, database: &DatabaseName) -> Result<(), Failure> {
    let declared = &source.databases;
    if declared.is_empty() || declared.contains(database) {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the stream holds database {database}, which is not declared now; restore it to a folder"
    )))
}

/// What was captured of one retention policy can't take the place of all of them.
fn is_all_of_it(backup: &Backup) -> Result<(), Failure> {
    let Some(policy) = &backup.record.retention_policy else { return Ok(()) };
    let (database, new) = (&backup.database, format!("{}_restored", backup.database));
    let (policy, from) = (identifier(policy), identifier(&new));
    Err(Failure::Refused(format!(
        "only retention policy {policy} of database {database} was captured, and the database exists; restore it to \
         database:{new}, and copy the points over: SELECT * INTO {}.{policy}.:MEASUREMENT FROM {from}.{policy}./.*/ GROUP BY *",
        identifier(database.as_str()),
    )))
}

async fn extracted(stream: Stream<'_>, root: &Path) -> Result<Vec<Backup>, Failure> {
    let root = root.to_owned();
    let extracted = consume(stream, move |archive| {
        let databases = archive::extract(archive, &root)?;
        databases.into_iter().map(|database| Backup::read(database, &root)).collect()
    });
    extracted.await.unwrap_or_else(|died| Err(Failure::Stream(std::io::Error::other(died))))
}

impl Backup {
    fn read(database: DatabaseName, root: &Path) -> Result<Self, Failure> {
        let folder = root.join(database.as_str());
        let portable = portable::prove(&folder, &database, || Ok(()))?;
        let record = Record::read(&folder)
            .map_err(|error| Failure::Incomplete(format!("the record of database {database}: {error}")))?;
        if record.database != database.as_str() {
            return Err(Failure::Incomplete(format!("the record of database {database} is of another")));
        }
        Ok(Self { database, folder, record, portable })
    }
}

/// Why a backup was not loaded.
struct Unloaded {
    why: Failure,
    /// Whether the program made the database: what somebody else made meanwhile under the name is not ours to remove.
    made: bool,
}

impl<F: Into<Failure>> From<F> for Unloaded {
    fn from(why: F) -> Self {
        Self { why: why.into(), made: false }
    }
}

/// Loads a backup as a database that did not exist, which is removed again where that fails.
async fn load_or_leave(source: &InfluxdbSource, backup: &Backup, new: &DatabaseName) -> Result<(), Failure> {
    match load(source, backup, new, Whole::EveryShard).await {
        Ok(()) => Ok(()),
        Err(Unloaded { why, made: false }) => Err(why),
        // The failure that made it incomplete is the one to tell.
        Err(Unloaded { why, made: true }) => match drop_database(source, new).await {
            Ok(()) => Err(why),
            Err(_) => Err(Failure::Remains { database: new.to_string(), why: why.reason() }),
        },
    }
}

async fn load(
    source: &InfluxdbSource,
    backup: &Backup,
    new: &DatabaseName,
    whole: Whole<'_>,
) -> Result<(), Unloaded> {
    let program = Program::new(source.influxd()?).arguments(["restore", "-portable"]);
    let program = program.arguments(["-host", &source.rpc]).argument(format!("-db={}", backup.database));
    let program = match &backup.record.retention_policy {
        Some(policy) => program.argument(format!("-rp={policy}")),
        None => program,
    };
    let program = program.argument(format!("-newdb={new}")).argument(&backup.folder).stall(SHARD);
    let mut process = program.start()?;
    let mut said = Vec::new();
    let ended = loop {
        match process.read().await {
            Ok(Some(bytes)) if said.len() < SAID => said.extend_from_slice(&bytes),
            Ok(Some(_)) => {}
            Ok(None) => break process.finish().await,
            Err(error) => break Err(error),
        }
    };
    let made = String::from_utf8_lossy(&said).contains(MADE);
    match ended {
        Ok(()) => {}
        // The program takes a database without a shard for one that it could not make.
        Err(ProcessError::Failed { .. }) if backup.portable.listed == 0 && exists(source, new).await? => {}
        Err(error) => return Err(Unloaded { why: error.into(), made }),
    }
    settled(source, new, &backup.portable.shards, whole).await.map_err(|why| Unloaded { why, made: true })
}

/// Puts a backup in the place of a database that exists. The original goes only when a copy beside it is complete, and
/// the copy only when the new one is.
async fn replace(source: &InfluxdbSource, backup: &Backup) -> Result<(), Failure> {
    let database = &backup.database;
    let grants = granted(&source.api, database).await?;
    let grants: Vec<String> = grants.iter().map(|grant| grant.statement(database)).collect();
    let kept = match backup.record.continuous_queries {
        // The capture's user was not shown them.
        None => source.api.continuous_queries(database).await?,
        Some(_) => Vec::new(),
    };
    let beside = database.beside();
    load_or_leave(source, backup, &beside).await?;
    let replaced = async {
        drop_database(source, database).await?;
        load(source, backup, database, Whole::AsMuchAs(&beside)).await
    };
    replaced.await.map_err(|unloaded: Unloaded| Failure::LeftBeside {
        database: database.to_string(),
        beside: beside.to_string(),
        grants: kept.iter().chain(&grants).cloned().collect(),
        why: unloaded.why.reason(),
    })?;
    let again: Vec<String> = kept.into_iter().chain(grants).collect();
    let finished = finish(source, backup, &again).await;
    drop_database(source, &beside).await.map_err(|why| Failure::Unfinished {
        database: database.to_string(),
        statement: drop_statement(&beside),
        why: why.reason(),
    })?;
    finished
}

async fn drop_database(source: &InfluxdbSource, name: &DatabaseName) -> Result<(), Failure> {
    source.api.ask(&drop_statement(name)).await.map(drop)
}

fn drop_statement(name: &DatabaseName) -> String {
    format!("DROP DATABASE {}", identifier(name.as_str()))
}

/// Makes again what the engine's restore leaves out.
async fn finish(source: &InfluxdbSource, backup: &Backup, again: &[String]) -> Result<(), Failure> {
    let queries = backup.record.continuous_queries.iter().flatten();
    for statement in queries.chain(again) {
        let is_ours = again.contains(statement) || makes_a_query(statement);
        let made = match is_ours {
            true => source.api.ask(statement).await.map(drop),
            false => Err(Failure::Refused("it is no statement that makes a continuous query".to_owned())),
        };
        made.map_err(|why| Failure::Unfinished {
            database: backup.database.to_string(),
            statement: statement.clone(),
            why: why.reason(),
        })?;
    }
    Ok(())
}
