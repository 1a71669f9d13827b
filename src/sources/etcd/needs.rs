//! What a user lacks for snapshots: where authentication is on, only the role `root` may take them.

use serde_json::json;

use super::{Failure, member::Member};
use crate::sources::Lack;

/// What the members say of a user who may not do what only `root` may.
const DENIED: &str = "permission denied";
/// What they say of nobody.
const NOBODY: &str = "user name is empty";

/// Asks for what only the role `root` may see, as a snapshot is. Where authentication is off, everybody may.
pub(super) async fn lacks(member: &Member, user: Option<&str>) -> Result<Vec<Lack>, Failure> {
    let (client, token) = (&member.client, member.token.as_ref());
    let answer = client.ask(&member.endpoint, "auth/user/list", token, &json!({})).await;
    match answer {
        Ok(_) => Ok(Vec::new()),
        Err(Failure::Answer(said)) if said.contains(DENIED) => {
            let user = user.unwrap_or("root");
            Ok(vec![Lack::error(
                format!("user {user} lacks the role root, without which no snapshot may be taken"),
                format!("etcdctl user grant-role {user} root"),
            )])
        }
        Err(Failure::Answer(said)) if said.contains(NOBODY) => Ok(vec![Lack::error(
            "authentication is on, and no user is declared".to_owned(),
            "declare user and password of one with the role root".to_owned(),
        )]),
        Err(failure) => Err(failure),
    }
}
