//! Questions to a member, in JSON. Nothing that it answers is followed.

use std::{error::Error, fs, time::Duration};

use reqwest::{Certificate, Identity, Response, redirect};
use serde_json::Value;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{ANSWER, Failure};
use crate::{
    secrets::Secret,
    spec::{ClientCertificate, Etcd},
};

/// How long a member may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// The longest answer to a question, bytes.
const LONGEST_ANSWER: usize = 1024 * 1024;

/// How much of a refusal is shown, characters.
const SHOWN: usize = 300;

/// What reaches the members of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Client(reqwest::Client);

impl Client {
    pub(super) fn new(cluster: &Etcd, key: Option<&Secret>) -> Result<Self, Failure> {
        let client = reqwest::Client::builder().no_proxy().redirect(redirect::Policy::none());
        let mut client = client.connect_timeout(CONNECT_PATIENCE);
        if let Some(ca) = &cluster.ca {
            let unusable = |why: String| Failure::Settings(format!("{}: {why}", ca.display()));
            let pem = fs::read(ca).map_err(|error| unusable(error.to_string()))?;
            let authorities =
                Certificate::from_pem_bundle(&pem).map_err(|error| unusable(described(&error)))?;
            if authorities.is_empty() {
                return Err(unusable("it holds no certificate".to_owned()));
            }
            client = client.tls_built_in_root_certs(false);
            client = authorities.into_iter().fold(client, reqwest::ClientBuilder::add_root_certificate);
        }
        if let Some((certificate, key)) = cluster.certificate.as_ref().zip(key) {
            client = client.identity(identity(certificate, key)?);
        }
        let client = client.build().map_err(|error| Failure::Settings(described(&error)))?;
        Ok(Self(client))
    }

    /// The answer of the member at `endpoint`.
    pub(super) async fn ask(
        &self,
        endpoint: &str,
        call: &str,
        token: Option<&Secret>,
        question: &Value,
    ) -> Result<Value, Failure> {
        let mut response = self.begin(endpoint, call, token, question, ANSWER).await?;
        let mut answer = Vec::new();
        while let Some(bytes) = piece(&mut response, ANSWER).await? {
            if answer.len() + bytes.len() > LONGEST_ANSWER {
                return Err(unexpected(call));
            }
            answer.extend_from_slice(&bytes);
        }
        serde_json::from_slice(&answer).map_err(|_| unexpected(call))
    }

    /// An answer that begins well.
    pub(super) async fn begin(
        &self,
        endpoint: &str,
        call: &str,
        token: Option<&Secret>,
        question: &Value,
        stall: Duration,
    ) -> Result<Response, Failure> {
        let question = Zeroizing::new(question.to_string());
        let mut request = self.0.post(format!("{endpoint}/v3/{call}"));
        request = request.header("content-type", "application/json").body(question.as_bytes().to_vec());
        if let Some(token) = token {
            let mut value = reqwest::header::HeaderValue::from_str(token.expose())
                .map_err(|_| unexpected("auth/authenticate"))?;
            value.set_sensitive(true);
            request = request.header("authorization", value);
        }
        let sent = timeout(stall, request.send()).await.map_err(|_| Failure::Stalled(stall))?;
        let mut response = sent.map_err(|error| Failure::Connection(described(&error.without_url())))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let said = piece(&mut response, stall).await?.unwrap_or_default();
        Err(Failure::Answer(format!("{}: {}", response.status(), refusal(&said))))
    }
}

/// The next bytes of an answer; `None` at its end, which HTTP proves.
pub(super) async fn piece(response: &mut Response, stall: Duration) -> Result<Option<bytes::Bytes>, Failure> {
    let read = timeout(stall, response.chunk()).await.map_err(|_| Failure::Stalled(stall))?;
    read.map_err(|error| Failure::Connection(described(&error.without_url())))
}

pub(super) fn unexpected(call: &str) -> Failure {
    Failure::Unexpected(format!("the member's answer to {call} is not the one that etcd gives"))
}

/// What a member says when it refuses: JSON with a message, or text.
pub(super) fn refusal(said: &[u8]) -> String {
    let json: Value = serde_json::from_slice(said).unwrap_or_default();
    let messages = [&json["message"], &json["error"]["message"], &json["error"]];
    let text = messages.into_iter().find_map(|it| it.as_str().map(str::to_owned));
    let text = text.unwrap_or_else(|| String::from_utf8_lossy(said).into_owned());
    text.chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

fn identity(certificate: &ClientCertificate, key: &Secret) -> Result<Identity, Failure> {
    let unusable = |why: String| Failure::Settings(format!("{}: {why}", certificate.path.display()));
    let shown = fs::read(&certificate.path).map_err(|error| unusable(error.to_string()))?;
    // Never grows, and so leaves no copy behind.
    let mut pem = Zeroizing::new(Vec::with_capacity(shown.len() + key.expose().len() + 1));
    pem.extend_from_slice(&shown);
    pem.push(b'\n');
    pem.extend_from_slice(key.expose().as_bytes());
    // What is wrong with a key must not be shown with it.
    Identity::from_pem(&pem)
        .map_err(|_| unusable("it and its key are no PEM certificate and private key".to_owned()))
}

/// An error with all that is behind it, each said once.
fn described(error: &dyn Error) -> String {
    let mut said = vec![error.to_string()];
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !said.iter().any(|known| known.contains(&text)) {
            said.push(text);
        }
        source = error.source();
    }
    said.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_in_the_members_words() {
        for (said, told) in [
            (r#"{"error":"etcdserver: x","message":"etcdserver: x","code":3}"#, "etcdserver: x"),
            (
                r#"{"error":{"grpc_code":2,"http_code":500,"message":"auth: user name is empty"}}"#,
                "auth: user name is empty",
            ),
            (r#"{"error":"only that"}"#, "only that"),
            ("404 page\nnot found", "404 pagenot found"),
            ("", ""),
        ] {
            assert_eq!(refusal(said.as_bytes()), told, "{said}");
        }
        assert_eq!(refusal(&[b'x'; 10_000]).len(), SHOWN);
    }
}
