//! What a server or its user lacks for captures: an oplog that the user may read.

use super::{
    Failure,
    access::Access,
    grant,
    oplog::{Found, NO_MEMBER, Oplog, UNREADABLE},
};
use crate::sources::Lack;

/// How a server is made a member of a replica set.
const BECOME_A_MEMBER: &str = "in the server's configuration: replication.replSetName: \"rs0\"; restart it; then once, in the shell: \
                               rs.initiate()";

/// Looks whether there is an oplog, without which a full is of no one moment, and no log can be captured.
pub(super) async fn lacks(
    access: &Access,
    user: Option<&str>,
    wants_log: bool,
) -> Result<Vec<Lack>, Failure> {
    let Found::Nothing(why) = Oplog::open(access).await? else { return Ok(Vec::new()) };
    let remedy = match why {
        UNREADABLE => grant(user),
        NO_MEMBER => BECOME_A_MEMBER.to_owned(),
        _ => "write something, so that the oplog has an entry".to_owned(),
    };
    Ok(vec![match wants_log {
        true => Lack::error(format!("there is no log to capture: {why}"), remedy),
        false => Lack::warning(
            format!("collections are read one after another, and are not of one moment: {why}"),
            remedy,
        ),
    }])
}
