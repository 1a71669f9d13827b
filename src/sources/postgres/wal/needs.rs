//! What a server lacks for captures of its log.

use super::{
    ANSWER, Failure,
    origin::{Origin, must_be_able_to_switch},
    slot::must_be_limited,
};
use crate::{
    sources::{
        Lack,
        postgres::{
            access::Access,
            session::{Identity, MAINTENANCE, Session},
        },
    },
    spec::LogFrom,
};

/// Looks for what is missing, all of it at once.
pub(in crate::sources::postgres) async fn lacks(
    access: &Access,
    from: &LogFrom,
) -> Result<Vec<Lack>, Failure> {
    let mut session = Session::open(access, MAINTENANCE, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    let mut lacks = Vec::new();
    for found in [
        must_be_able_to_switch(&mut session, &server.role).await,
        match from {
            LogFrom::Slot(_) => must_be_limited(&mut session).await,
            LogFrom::Archive => must_archive(&mut session).await,
        },
        Origin::ask(&mut Session::open_for_replication(access, ANSWER).await?).await.map(drop),
    ] {
        match found {
            Ok(()) => {}
            Err(Failure::Privilege { lacks: what, grant }) => lacks.push(Lack::error(what, grant)),
            Err(Failure::Setting { found, set }) => lacks.push(Lack::error(found, set)),
            Err(Failure::Refused(why)) => lacks.push(Lack::error(why, "see docs/postgres.md, Log")),
            Err(failure) => return Err(failure),
        }
    }
    Ok(lacks)
}

/// A server that does not archive gives nothing to capture.
async fn must_archive(session: &mut Session) -> Result<(), Failure> {
    let [mode] = session.row("SELECT pg_catalog.current_setting('archive_mode')").await?;
    match mode.as_str() {
        "off" => Err(Failure::Setting {
            found: "the server archives nothing, and its log is declared to come from its archive".to_owned(),
            set: "ALTER SYSTEM SET archive_mode = 'on'; ALTER SYSTEM SET archive_command = 'backstay wal-push NAME %p'; and start \
                  the server anew"
                .to_owned(),
        }),
        _ => Ok(()),
    }
}
