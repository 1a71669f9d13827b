//! The capture: `influxd backup` works into a folder, which is proved whole and sent, one database after the other.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    ANSWER, Failure, InfluxdbSource, STAGE, archive, grants::granted, names::DatabaseName, portable,
    record::Record, rpc,
};
use crate::{
    artifact::manifest::{Counts, Details, Moment},
    process::Program,
    sources::{
        CaptureRequest, Captured, Sink,
        blocking::{Interrupted, produce},
        pax::TRAILER,
        stage::{self, Stage},
    },
};
use jiff::Timestamp;

/// Captures all that is declared.
pub(super) async fn capture(
    source: &InfluxdbSource,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let version = source.api.version().await?;
    rpc::answers(&source.rpc, ANSWER.min(request.stall)).await?;
    // What was written before is in it, and of what was written since some may not be.
    let began = request.now();
    let mut omitted = Vec::new();
    for database in source.declared().await? {
        let stage = Stage::new(&source.scratch, STAGE).map_err(Failure::Stage)?;
        let record = record(source, &database, &mut omitted).await?;
        back_up(source, &database, stage.path(), request.stall).await?;
        record.write(stage.path()).map_err(Failure::Stage)?;
        omitted.extend(send(database, stage, request, sink).await?);
    }
    sink.run(None).await?;
    sink.write(TRAILER.to_vec().into()).await?;
    Ok(described(version, omitted, began))
}

/// Each shard's memory is written out before the shard is read; the server leaves it out where it is writing it out already.
fn described(version: String, mut omitted: Vec<String>, began: Timestamp) -> Captured {
    omitted.push("users and their passwords: the engine makes none of what it tells of them".to_owned());
    omitted.push(
        "points of a shard that was so busy that the server left out what it had in memory only".to_owned(),
    );
    let why = "shards are read one after another while points may come in: there is no one view to count in";
    Captured {
        moment: Moment::At { time: began, position: None },
        details: Details {
            versions: BTreeMap::from([("server".to_owned(), version)]),
            counts: Counts::NotCaptured(why.to_owned()),
            omitted,
            ..Details::default()
        },
    }
}

async fn record(
    source: &InfluxdbSource,
    database: &DatabaseName,
    omitted: &mut Vec<String>,
) -> Result<Record, Failure> {
    let listed = match &source.policy {
        // They go from one policy to another.
        Some(policy) => {
            Err(format!("they belong to the database, of which only policy {policy} was captured"))
        }
        None => match source.api.continuous_queries(database).await {
            Ok(queries) => Ok(queries),
            Err(Failure::Forbidden(_)) => Err("only an administrator may list them".to_owned()),
            Err(failure) => return Err(failure),
        },
    };
    if let Err(why) = &listed {
        omitted.push(format!("continuous queries of {database}: {why}; a restore does not make them again"));
    }
    let granted = match granted(&source.api, database).await {
        Ok(grants) => Some(grants),
        Err(Failure::Forbidden(_)) => {
            let why = "only an administrator may list them; a restore does not grant them again";
            omitted.push(format!("grants on {database}: {why}"));
            None
        }
        Err(failure) => return Err(failure),
    };
    Ok(Record::new(database.as_str(), source.policy.as_deref(), listed.ok(), granted))
}

async fn back_up(
    source: &InfluxdbSource,
    database: &DatabaseName,
    folder: &Path,
    stall: Duration,
) -> Result<(), Failure> {
    let program = Program::new(source.influxd()?).arguments(["backup", "-portable"]);
    let program = program.arguments(["-host", &source.rpc]).argument(format!("-database={database}"));
    let program = match &source.policy {
        Some(policy) => program.argument(format!("-retention={policy}")),
        None => program,
    };
    // It tries again for minutes where the server is gone, and is silent while a large shard comes in.
    Ok(stage::filled(program.argument(folder).start()?, folder, stall).await?)
}

/// Sends what was staged; returns what a restore of it leaves out.
async fn send(
    database: DatabaseName,
    stage: Stage,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Option<String>, Failure> {
    let second = request.now().as_second();
    let sent = produce(sink, request.stall, move |feed| {
        portable::rename(stage.path())?;
        let proved = portable::prove(stage.path(), &database, || Ok(feed.alive()?))?;
        archive::send(stage.path(), &database, &proved.files, second, feed)?;
        let shards = proved.undeleted;
        let note = format!(
            "deletions in {shards} shards of {database} that the server has not worked into its files yet: a restore by the \
             server brings back what they deleted"
        );
        Ok((shards > 0).then_some(note))
    });
    match sent.await {
        Ok(sent) => sent,
        Err(Interrupted::SinkClosed) => Err(Failure::SinkClosed),
        Err(Interrupted::Stalled(silence)) => {
            let silence = humantime::format_duration(silence);
            Err(Failure::Answer(format!("the disk of the scratch folder was silent for {silence}")))
        }
        Err(Interrupted::Died(error)) => Err(Failure::Answer(error.to_string())),
    }
}
