//! The files of a whole MariaDB server, copied by its own program while it runs. The stream is that program's.
//!
//! ```text
//! programs (which there are) · here (the server and its data folder) · standing (where a copy stands) · chunks (its stream)
//! options (what it says of settings)
//! data_folder (the way back) · private_server (a server on it, for its log)
//! ```
//!
//! A copy of changes holds the pages that changed since another, and is of use only over that.

mod chunks;
pub(super) mod data_folder;
mod here;
mod options;
pub(super) mod private_server;
mod programs;
mod standing;

use std::{ffi::OsString, path::Path};

use super::{ANSWER, Failure, access::Access, session::Session};
use crate::{
    artifact::{
        Kind,
        manifest::{Details, Edge, Moment},
    },
    process::{Program, Said},
    scratch,
    sources::{CaptureRequest, Captured, GoesOn, Sink},
};
use chunks::Chunks;
pub(super) use chunks::MAGIC;
use here::Here;
pub(super) use programs::Copiers;
use standing::{Standing, Told};

/// The last words of the program once all went well; its exit status is 0 then as well.
const COMPLETED: &str = "completed OK!";

/// Looks whether the server and its data folder can be copied.
pub(super) async fn probe(access: &Access, copiers: &Copiers, data_dir: &Path) -> Result<String, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    copiers.version().await?;
    Ok(Here::of(&mut session, data_dir).await?.version)
}

/// Whether changes since `base` can be copied, and no more than them.
pub(super) async fn goes_on_from(access: &Access, data_dir: &Path, base: &Edge) -> Result<GoesOn, Failure> {
    let Some(base) = Standing::parse(&base.position) else {
        return Ok(GoesOn::No("the last artifact is no copy of files".to_owned()));
    };
    let mut session = Session::open(access, None, ANSWER)?;
    let here = Here::of(&mut session, data_dir).await?;
    let now = here.compared_with(&mut session, &base).await?;
    Ok(standing::broken(&base, &now).map_or(GoesOn::Yes, |why| GoesOn::No(why.to_owned())))
}

/// Refuses a log that can't be replayed over a copy: a server that is started on it compares names as Linux does.
pub(super) async fn must_have_a_log_for_copies(access: &Access) -> Result<(), Failure> {
    let names = Session::open(access, None, ANSWER)?.one("SELECT @@lower_case_table_names").await?;
    if names == "0" {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "the server runs with lower_case_table_names = {names}, and its log can't be replayed over a copy of its files, where names \
         count as they are written; remove `log` from the policy, or use method = \"logical\""
    )))
}

/// Copies the files, or what changed of them since `request.continues`, into `sink`.
pub(super) async fn capture(
    access: &Access,
    copiers: &Copiers,
    data_dir: &Path,
    request: &CaptureRequest<'_>,
    sink: &mut dyn Sink,
) -> Result<Captured, Failure> {
    let base = base(request)?;
    let mut session = Session::open(access, None, ANSWER)?;
    let here = Here::of(&mut session, data_dir).await?;
    if let Some(base) = &base {
        let now = here.compared_with(&mut session, base).await?;
        if let Some(why) = standing::broken(base, &now) {
            return Err(Failure::Answer(why.to_owned()));
        }
    }
    let scratch = scratch::folder().map_err(|error| Failure::Refused(error.to_string()))?;
    let program = program(access, copiers, data_dir, base.as_ref(), scratch.path());
    let told = stream(program.stall(request.stall), sink).await?;
    must_be_asked_for(&told, base.as_ref())?;
    // Whatever was committed before the program ended may be in the copy: a log that is replayed over it goes on from there.
    let end = Session::clocks(access, request).await?;
    end.settled().await;
    let standing = here.standing(told);
    let versions = [("server".to_owned(), here.version), ("copy".to_owned(), copiers.version().await?)];
    Ok(Captured {
        moment: Moment::At { time: end.time(), position: Some(standing.to_string()) },
        details: Details { versions: versions.into(), omitted: end.omitted(), ..Details::default() },
    })
}

/// What only changes are asked of.
fn base(request: &CaptureRequest<'_>) -> Result<Option<Standing>, Failure> {
    let Some(continues) = request.continues.as_ref().filter(|_| request.kind != Kind::Full) else {
        return Ok(None);
    };
    let unreadable = || Failure::Refused(format!("{:?} is no place of a copy", continues.position));
    Standing::parse(&continues.position).ok_or_else(unreadable).map(Some)
}

fn program(
    access: &Access,
    copiers: &Copiers,
    data_dir: &Path,
    base: Option<&Standing>,
    scratch: &Path,
) -> Program {
    let program = access.program(&copiers.copy, ANSWER).arguments(["--backup", "--stream=mbstream"]);
    let program = program.argument(setting("--datadir=", data_dir));
    let program = program.argument(setting("--target-dir=", scratch)).argument(setting("--tmpdir=", scratch));
    match base {
        Some(base) => program.argument(format!("--incremental-lsn={}", base.lsn)),
        None => program,
    }
}

/// An argument that names a path, whatever its bytes.
fn setting(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(name);
    argument.push(path);
    argument
}

async fn stream(program: Program, sink: &mut dyn Sink) -> Result<Told, Failure> {
    let mut copy = program.start()?;
    copy.close_input();
    let mut chunks = Chunks::default();
    while let Some(bytes) = copy.read().await? {
        chunks.look(&bytes)?;
        sink.write(bytes).await?;
    }
    must_have_completed(&copy.last_words().await?)?;
    let small = chunks.end()?;
    // What a restore would refuse is no backup.
    options::must_only_describe(&small)?;
    Told::read(&small)
}

fn must_have_completed(said: &Said) -> Result<(), Failure> {
    if said.as_str().ends_with(COMPLETED) {
        return Ok(());
    }
    Err(Failure::Incomplete(format!("the program ended without its last words `{COMPLETED}`{said}")))
}

/// Whether the program copied what it was asked for.
fn must_be_asked_for(told: &Told, base: Option<&Standing>) -> Result<(), Failure> {
    let asked = base.map_or(0, |base| base.lsn);
    if told.from_lsn == asked && told.to_lsn >= asked {
        return Ok(());
    }
    Err(Failure::Incomplete(format!(
        "the copy holds what changed from {} to {}, and what changed from {asked} on was asked for",
        told.from_lsn, told.to_lsn
    )))
}

impl From<chunks::Wrong> for Failure {
    fn from(wrong: chunks::Wrong) -> Self {
        match wrong {
            chunks::Wrong::Broken(_) => Failure::Incomplete(wrong.to_string()),
            chunks::Wrong::Refused { .. } => Failure::Refused(wrong.to_string()),
        }
    }
}
