//! One member of the cluster: whether it is fit to be captured, and what it says of itself.

use std::fmt;

use serde_json::{Value, json};

use super::{
    Failure,
    client::{Client, unexpected},
};
use crate::secrets::Secret;

/// A member that answers, knows a leader, and is not known to be damaged.
#[derive(Debug)]
pub(super) struct Member {
    pub client: Client,
    pub endpoint: String,
    pub token: Option<Secret>,
    /// etcd's version.
    pub version: String,
    /// The newest revision that it had when it was reached.
    pub revision: u64,
}

impl Member {
    /// Logs in at `endpoint` and asks how it is.
    pub(super) async fn reach(
        client: &Client,
        endpoint: &str,
        login: Option<(&str, &Secret)>,
    ) -> Result<Self, Failure> {
        let token = match login {
            Some((user, password)) => Some(log_in(client, endpoint, user, password).await?),
            None => None,
        };
        let status = client.ask(endpoint, "maintenance/status", token.as_ref(), &json!({})).await?;
        must_be_fit(&status)?;
        Ok(Self {
            client: client.clone(),
            endpoint: endpoint.to_owned(),
            token,
            version: status["version"].as_str().ok_or_else(|| unexpected("maintenance/status"))?.to_owned(),
            revision: revision(&status)?,
        })
    }

    /// The newest revision that it has now.
    pub(super) async fn revision_now(&self) -> Result<u64, Failure> {
        let token = self.token.as_ref();
        revision(&self.client.ask(&self.endpoint, "maintenance/status", token, &json!({})).await?)
    }

    /// How many keys there are, as the whole cluster says.
    pub(super) async fn keys(&self) -> Result<u64, Failure> {
        self.counted(&json!({ "key": "AA==", "range_end": "AA==", "count_only": true })).await
    }

    /// How many keys there were at `revision`.
    pub(super) async fn keys_at(&self, revision: u64) -> Result<u64, Failure> {
        // All keys: from the byte 0, in base64, with no end. Only this member is asked: it holds what was captured.
        let question = json!({
            "key": "AA==", "range_end": "AA==", "count_only": true, "serializable": true, "revision": revision.to_string()
        });
        self.counted(&question).await
    }

    async fn counted(&self, question: &Value) -> Result<u64, Failure> {
        let answer = self.client.ask(&self.endpoint, "kv/range", self.token.as_ref(), question).await?;
        // What is zero is left out.
        match &answer["count"] {
            Value::Null if answer["header"].is_object() => Ok(0),
            count => number(count).ok_or_else(|| unexpected("kv/range")),
        }
    }
}

async fn log_in(client: &Client, endpoint: &str, user: &str, password: &Secret) -> Result<Secret, Failure> {
    let question = json!({ "name": user, "password": password.expose() });
    let answer = client.ask(endpoint, "auth/authenticate", None, &question).await.map_err(untold)?;
    let token = answer["token"].as_str().ok_or_else(|| unexpected("auth/authenticate"))?;
    Ok(Secret::new(token.to_owned()))
}

/// Whoever answers was sent the password, and may send it back: only what etcd itself says is told.
fn untold(failure: Failure) -> Failure {
    let Failure::Answer(said) = failure else { return failure };
    let known = ["invalid user ID or password", "authentication is not enabled", "404 Not Found"];
    let known = known.into_iter().find(|part| said.contains(part));
    Failure::Answer(known.unwrap_or("the member refused the login, and not in etcd's words").to_owned())
}

/// A member that lost its cluster is behind, nobody knows how far; one with the alarm CORRUPT holds other data than the
/// rest.
fn must_be_fit(status: &Value) -> Result<(), Failure> {
    let errors = status["errors"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let corrupt = errors.into_iter().find(|error| error.contains("CORRUPT"));
    let has_leader = number(&status["leader"]).is_some_and(|leader| leader != 0);
    match corrupt {
        Some(alarm) => Err(Failure::Unexpected(format!("the member is damaged ({alarm})"))),
        None if !has_leader => Err(Failure::Unexpected("the member has no leader".to_owned())),
        None if status["isLearner"] == true => {
            Err(Failure::Unexpected("the member is a learner, and may be far behind".to_owned()))
        }
        None => Ok(()),
    }
}

fn revision(answer: &Value) -> Result<u64, Failure> {
    number(&answer["header"]["revision"]).ok_or_else(|| unexpected("maintenance/status"))
}

/// A number of 64 bits, which JSON of Protocol Buffers writes as text.
fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// The revisions between which a snapshot lies, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revisions {
    pub before: u64,
    pub after: u64,
}

impl Revisions {
    /// The snapshot's revision, when nothing was written meanwhile.
    pub(super) fn only(self) -> Option<u64> {
        (self.before == self.after).then_some(self.before)
    }
}

impl fmt::Display for Revisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.only() {
            Some(revision) => write!(f, "revision {revision}"),
            None => write!(f, "revision {} to {}", self.before, self.after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_without_a_leader_or_with_damage_is_not_fit() {
        let fit = |status: Value| must_be_fit(&status).is_ok();
        assert!(fit(json!({ "leader": "1485299164314926804" })));
        assert!(
            fit(json!({ "leader": "1", "errors": ["memberID:1 alarm:NOSPACE "] })),
            "full is not damaged"
        );
        assert!(!fit(json!({ "leader": "1", "errors": ["memberID:1 alarm:CORRUPT "] })));
        assert!(!fit(json!({ "errors": ["etcdserver: no leader"] })));
        assert!(!fit(json!({ "leader": "0" })));
        assert!(!fit(Value::Null));
    }

    #[test]
    fn a_revision_is_exact_only_where_nothing_was_written() {
        assert_eq!(Revisions { before: 7, after: 7 }.to_string(), "revision 7");
        assert_eq!(Revisions { before: 7, after: 9 }.to_string(), "revision 7 to 9");
        assert_eq!(Revisions { before: 7, after: 9 }.only(), None);
    }
}
