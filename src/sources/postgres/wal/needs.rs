//! What a server lacks for captures of its log.

use super::{
    ANSWER, Failure,
    origin::{Origin, must_be_able_to_switch},
    slot::must_be_limited,
};
use crate::sources::{
    Lack,
    postgres::{
        access::Access,
        session::{Identity, MAINTENANCE, Session},
    },
};

/// Looks for what is missing, all of it at once.
pub(in crate::sources::postgres) async fn lacks(access: &Access) -> Result<Vec<Lack>, Failure> {
    let mut session = Session::open(access, MAINTENANCE, ANSWER).await?;
    let server = Identity::ask(&mut session).await?;
    let mut lacks = Vec::new();
    for found in [
        must_be_able_to_switch(&mut session, &server.role).await,
        must_be_limited(&mut session).await,
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
