//! What a user lacks for captures: the commands of a replica.

use super::{
    Failure,
    connection::{Connection, Line},
};
use crate::sources::Lack;

/// What the server says of a command that the user may not run.
const DENIED: &str = "NOPERM";

/// The first version that refuses an offset that is no number; older ones begin to save instead.
const REFUSES_OFFSETS: u32 = 7;

/// Tries the commands so that nothing comes of them.
pub(super) async fn lacks(
    connection: &mut Connection,
    user: Option<&str>,
    major: Option<u32>,
) -> Result<Vec<Lack>, Failure> {
    let mut missing = Vec::new();
    if is_denied(connection, &["REPLCONF", "capa", "eof"]).await? {
        missing.push("+replconf");
    }
    if major.is_some_and(|major| major >= REFUSES_OFFSETS)
        && is_denied(connection, &["PSYNC", "?", "none"]).await?
    {
        missing.push("+psync");
    }
    if missing.is_empty() {
        return Ok(Vec::new());
    }
    let (user, missing) = (user.unwrap_or("default"), missing.join(" "));
    let what = format!("user {user} may not replicate ({missing}), which captures do");
    Ok(vec![Lack::error(what, format!("ACL SETUSER {user} {missing}"))])
}

async fn is_denied(connection: &mut Connection, words: &[&str]) -> Result<bool, Failure> {
    Ok(matches!(connection.ask(words).await?, Line::Refused(said) if said.starts_with(DENIED)))
}
