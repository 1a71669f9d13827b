//! `backstay restore`: data back, beside or over the original.

use std::{path::Path, str::FromStr};

use anyhow::bail;
use clap::{ArgGroup, Args, builder::NonEmptyStringValueParser};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use super::{Output, apply, controller, exit::Exit, names, report, terminal::Terminal};
use crate::{
    artifact::until::Until,
    plan::{
        action::Destination,
        restore::{Point, Request},
    },
    reconcile::{Ask, Terms},
    render,
    spec::names::{BackupName, StoreName},
};

/// Restore data: the newest, or as of a time or an artifact
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("destination").required(true).args(["to", "in_place"]),
    after_help = "Example:\n  backstay restore agama --at '2026-11-19 12:00' --to agama.sql\n  \
                  backstay restore documents --path /srv/documents/2026 --to restored\n  \
                  backstay restore shop --at 2026-11-20T10:35:50Z --path shop/sale --in-place"
)]
pub(super) struct Restore {
    /// The backup; one that is no longer declared can be restored, too
    name: BackupName,
    /// The newest that is not newer than this time (UTC), or one artifact, or a place in the log: bin.000007:4711 or
    /// 16/B374D848 (before what stands there), gtid:0-7-12, gtid:UUID:23 or point:NAME (behind it) [default: the newest]
    #[arg(long, value_name = "TIME|ARTIFACT|PLACE")]
    at: Option<At>,
    /// Only from this store [default: the first that has everything]
    #[arg(long, value_name = "STORE")]
    from: Option<StoreName>,
    /// Only what is at this path and below it: of files, a path; of a bucket, a key, or KEY?versionId=ID for one version of
    /// an object; of a database server, DATABASE or DATABASE/TABLE. Can be repeated
    #[arg(long = "path", value_name = "PATH", value_parser = NonEmptyStringValueParser::new())]
    paths: Vec<String>,
    /// A file or folder that does not exist yet, in a folder that does, or `database:NAME` for a database that does not
    /// exist yet, or `bucket:NAME` or `bucket:NAME/FOLDER` for a bucket that does
    #[arg(long, value_name = "PLACE")]
    to: Option<String>,
    /// Over the original, without asking
    #[arg(long)]
    in_place: bool,
    /// Show what would be restored, and stop
    #[arg(long)]
    dry_run: bool,
}

/// What stands before a transaction's identifier.
const GTID: &str = "gtid:";
/// What stands before the name of a restore point.
const NAMED: &str = "point:";

/// A restore point as people name it.
#[derive(Clone, Debug)]
pub(super) struct At(pub(super) Point);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let artifact = text.parse().ok().map(Point::Artifact);
        let moment = || text.parse::<Timestamp>().ok().map(Point::At);
        let civil =
            || Some(Point::At(text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp()));
        if let Some(gtid) = text.strip_prefix(GTID) {
            return Ok(At(Point::InLog(Until::Transaction(gtid.parse()?))));
        }
        if let Some(name) = text.strip_prefix(NAMED) {
            return Ok(At(Point::InLog(Until::Named(name.parse()?))));
        }
        let place = || Some(Point::InLog(Until::Place(text.parse().ok()?)));
        artifact.or_else(moment).or_else(civil).or_else(place).map(At).ok_or_else(|| {
            "neither a time, such as 2026-11-19T12:00:00Z or '2026-11-19 12:00', nor an artifact's name, nor a place \
             in a log, such as bin.000007:4711, 16/B374D848, gtid:0-7-12 or point:before-upgrade"
                .to_owned()
        })
    }
}

impl Restore {
    pub(super) fn run(self, config: &Path, terminal: &Terminal) -> anyhow::Result<Exit> {
        let controller = controller::open(config)?;
        let terms = Terms::default();
        controller::block_on(async {
            let spec = controller.survey(&terms).await?.spec;
            if let Some(from) = self.from.as_ref().filter(|from| !spec.stores.contains_key(*from)) {
                return Err(names::no_store(from, &spec));
            }
            let source = spec.backups.get(&self.name).map(|backup| &backup.source);
            let to = match &self.to {
                None => Destination::InPlace,
                Some(place) => absolute(Destination::parse(place, &self.name, source))?,
            };
            folder_exists(&to)?;
            let point = self.at.map_or(Point::Latest, |At(point)| point);
            let ask =
                Ask::Restore(Request { backup: self.name, point, from: self.from, paths: self.paths, to });
            if !self.dry_run {
                return apply::pass(&controller, &ask, &terms, terminal).await;
            }
            let pass = controller.plan(&ask, &terms).await?;
            report::circumstances(&pass, terminal);
            match terminal.output {
                Output::Text => terminal.data(&render::plan::text(&pass.plan, terminal.stdout))?,
                Output::Json => terminal.json("backstay.plan/1", &pass.plan)?,
            }
            Ok(Exit::Done)
        })
    }
}

/// The same place, whatever the working directory of the process that restores.
fn absolute(to: Destination) -> anyhow::Result<Destination> {
    Ok(match to {
        Destination::Folder(path) => Destination::Folder(std::path::absolute(path)?),
        Destination::File(path) => Destination::File(std::path::absolute(path)?),
        Destination::Database(name) if name.is_empty() => {
            bail!("`database:` needs a name, such as database:agama_copy")
        }
        Destination::Bucket { bucket, .. } if bucket.is_empty() => {
            bail!("`bucket:` needs a name, such as bucket:uploads-copy or bucket:uploads-copy/restored")
        }
        to @ (Destination::Database(_) | Destination::Bucket { .. } | Destination::InPlace) => to,
    })
}

/// A place that is made stands in a folder that exists: a mistyped path makes no folders.
fn folder_exists(to: &Destination) -> anyhow::Result<()> {
    let (Destination::Folder(path) | Destination::File(path)) = to else { return Ok(()) };
    match path.parent() {
        Some(parent) if !parent.is_dir() => bail!(
            "failed to restore to {}: there is no folder {}; make it first, or name another place",
            path.display(),
            parent.display()
        ),
        _ => Ok(()),
    }
}
