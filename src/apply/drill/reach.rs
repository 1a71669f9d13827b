//! Checks of what runs on restored data, over a network: does a web server answer as expected, does something take connections.
//!
//! A declaration names a service as it is known when all is well. A drill must never ask *that* one: it would pass while what was
//! restored lies in ruins. So nothing is asked but the address that [`Addresses`] answers with, and no name is looked up here.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use reqwest::{Client, Response, header::HOST, redirect::Policy};
use tokio::net::TcpStream;

use super::checks::{found, unmade};
use crate::{
    artifact::drill::Finding,
    spec::{DrillCheck, Endpoint, HttpCheck, Scheme, TcpCheck},
};

/// How much of an answer is read at most, bytes: what it must hold must stand in it.
const LONGEST_ANSWER: usize = 1 << 20;

/// Where services are that were brought back aside.
#[async_trait]
pub trait Addresses: Send + Sync {
    /// Where the service runs that a check names as `endpoint`: on the machine that stands in for the declared one, and at the port
    /// that leads to the named one there. At that address a connection must be taken by the service itself and by nobody on its
    /// behalf: a forwarder that takes connections before there is anybody behind it makes every `tcp` check hold.
    ///
    /// # Errors
    /// Why there is none, such as a name of no machine of this drill: the check could not be made then.
    async fn of(&self, endpoint: &Endpoint) -> Result<SocketAddr, String>;
}

/// Makes a check over a network, within the time that it says: at the address that `addresses` gives for the place that it names.
/// Redirections are not followed, proxies not used, and the request names the declared host, also to a server of TLS.
///
/// Any other check could not be made: it is of data, not of what runs on it.
pub async fn reach(check: &DrillCheck, addresses: &dyn Addresses) -> Finding {
    match check {
        DrillCheck::Http(http) => match addresses.of(http.url.endpoint()).await {
            Ok(address) => answered(check, http, address).await,
            Err(why) => unmade(check, expected_of(http), why),
        },
        DrillCheck::Tcp(tcp) => match addresses.of(&tcp.endpoint).await {
            Ok(address) => connected(check, tcp, address).await,
            Err(why) => unmade(check, TAKEN.to_owned(), why),
        },
        DrillCheck::Counts
        | DrillCheck::Items { .. }
        | DrillCheck::Sql { .. }
        | DrillCheck::Influxql { .. }
        | DrillCheck::File { .. }
        | DrillCheck::Command(_) => {
            unmade(check, String::new(), "it can't be made over a network".to_owned())
        }
    }
}

/// What is expected of whatever listens.
const TAKEN: &str = "a connection is taken";

fn expected_of(http: &HttpCheck) -> String {
    match &http.contains {
        None => format!("status {}", http.status),
        Some(text) => format!("status {}, with {text:?}", http.status),
    }
}

async fn connected(check: &DrillCheck, tcp: &TcpCheck, address: SocketAddr) -> Finding {
    let (told, holds) = match tokio::time::timeout(tcp.within, TcpStream::connect(address)).await {
        Ok(Ok(_)) => (TAKEN.to_owned(), true),
        Ok(Err(error)) => (error.to_string(), false),
        Err(_) => (silence(tcp.within), false),
    };
    found(check, TAKEN.to_owned(), told, holds)
}

async fn answered(check: &DrillCheck, http: &HttpCheck, address: SocketAddr) -> Finding {
    let expected = expected_of(http);
    let client = match client(http, address) {
        Ok(client) => client,
        Err(error) => return unmade(check, expected, reason(error)),
    };
    let asked = async {
        let request = client.get(url(http, address)).header(HOST, http.url.authority());
        let response = request.send().await?;
        let status = response.status().as_u16();
        Ok::<_, reqwest::Error>((status, judged(http, status, response).await?))
    };
    match tokio::time::timeout(http.within, asked).await {
        Ok(Ok((status, holds))) => {
            let told = match (status == http.status, holds) {
                (true, false) => format!("status {status}, without it"),
                _ => format!("status {status}"),
            };
            found(check, expected, told, holds)
        }
        Ok(Err(error)) => found(check, expected, reason(error), false),
        Err(_) => found(check, expected, silence(http.within), false),
    }
}

fn client(http: &HttpCheck, address: SocketAddr) -> reqwest::Result<Client> {
    let client = Client::builder().redirect(Policy::none()).no_proxy();
    client.resolve(http.url.endpoint().host(), address).build()
}

/// The declared URL at the address: a name stays, for a server of TLS proves it; the client finds it where it is told to.
fn url(http: &HttpCheck, address: SocketAddr) -> String {
    let host = http.url.endpoint().host();
    let host = match (host.parse::<IpAddr>(), address.ip()) {
        (Err(_), _) => host.to_owned(),
        (Ok(_), IpAddr::V4(address)) => address.to_string(),
        (Ok(_), IpAddr::V6(address)) => format!("[{address}]"),
    };
    let scheme: Scheme = http.url.scheme();
    format!("{}://{host}:{}{}", scheme.as_str(), address.port(), http.url.target())
}

async fn judged(http: &HttpCheck, status: u16, mut response: Response) -> reqwest::Result<bool> {
    let Some(text) = http.contains.as_ref().filter(|_| status == http.status) else {
        return Ok(status == http.status);
    };
    let mut answer = Vec::new();
    while answer.len() < LONGEST_ANSWER {
        match response.chunk().await? {
            Some(piece) => answer.extend_from_slice(&piece),
            None => break,
        }
    }
    answer.truncate(LONGEST_ANSWER);
    let text = text.as_bytes();
    Ok(text.is_empty() || answer.windows(text.len()).any(|window| window == text))
}

fn silence(within: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(within))
}

/// What went wrong with what cause, without the URL, which stands in the check already.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests;
