//! Places that a service answers at, as a declaration writes them: `HOST:PORT`, and URLs of http and https.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// The longest name of a host, bytes (RFC 1035, 2.3.4).
const LONGEST_HOST: usize = 253;

/// A host and a port, both spelt out: `pavroto-2:3306`, `[fd00::2]:3306`. Equal ones are one place: names are in lower case, and an address has
/// one form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// A URL of http or https, without user, password and fragment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WebAddress {
    scheme: Scheme,
    endpoint: Endpoint,
    /// The path and the query, beginning with a slash.
    target: String,
}

/// How a web server is talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

/// Why a text is no such place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// It holds a user or a password.
    #[error("a URL must not hold a user or a password")]
    Secret,
    /// It is none.
    #[error("{0}")]
    Unreadable(&'static str),
}

impl Endpoint {
    /// The host: a name, or an address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port; never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The place at a host, if that is a name or an address, and the port is one.
    pub fn at(host: &str, port: u16) -> Option<Self> {
        format!("{}:{port}", bracketed(host)).parse().ok()
    }

    fn parse(text: &str, port: Option<u16>) -> Result<Self, Misplaced> {
        let unreadable = Misplaced::Unreadable;
        let (host, given) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or(unreadable("a bracket is not closed"))?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| unreadable("what stands in brackets is no IPv6 address"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(unreadable("after the bracket a colon and a port are expected")),
                }
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !text.starts_with('[') && (host.is_empty() || !host.chars().all(is_named)) {
            return Err(unreadable("the host must be a name or an address; one of IPv6 stands in brackets"));
        }
        if host.len() > LONGEST_HOST {
            return Err(unreadable("the name of the host is too long"));
        }
        let port = match given {
            // `+80` is a number to the standard library.
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
            Some(_) => None,
            None => port,
        };
        match port {
            Some(port @ 1..) => {
                let address = host.parse::<IpAddr>().map(|address| address.to_string());
                Ok(Self { host: address.unwrap_or_else(|_| host.to_ascii_lowercase()), port })
            }
            _ => Err(unreadable("a port from 1 to 65535 is needed")),
        }
    }
}

impl WebAddress {
    /// How it is talked to.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where the server is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The path and the query, beginning with a slash.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The same at another place.
    pub fn moved(&self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// The host with its port, where that is not the scheme's own: what a request names its host by (RFC 9110, 7.2).
    pub fn authority(&self) -> String {
        match self.endpoint.port == self.scheme.port() {
            true => bracketed(&self.endpoint.host),
            false => self.endpoint.to_string(),
        }
    }
}

impl Scheme {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl FromStr for Endpoint {
    type Err = Misplaced;

    fn from_str(text: &str) -> Result<Self, Misplaced> {
        Self::parse(text, None)
    }
}

impl FromStr for WebAddress {
    type Err = Misplaced;

    fn from_str(text: &str) -> Result<Self, Misplaced> {
        let schemes = [Scheme::Http, Scheme::Https];
        let split = schemes.into_iter().find_map(|scheme| {
            let rest = text.strip_prefix(scheme.as_str())?.strip_prefix("://")?;
            Some((scheme, rest))
        });
        let Some((scheme, rest)) = split else {
            return Err(Misplaced::Unreadable("it must begin with http:// or https://"));
        };
        if !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err(Misplaced::Unreadable("spaces and letters beyond ASCII must be percent-encoded"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err(Misplaced::Secret);
        }
        if target.contains('#') {
            return Err(Misplaced::Unreadable("what stands behind `#` is never sent; leave it out"));
        }
        let endpoint = Endpoint::parse(authority, Some(scheme.port()))?;
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { scheme, endpoint, target })
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority(), self.target)
    }
}

impl TryFrom<String> for Endpoint {
    type Error = Misplaced;

    fn try_from(text: String) -> Result<Self, Misplaced> {
        text.parse()
    }
}

impl TryFrom<String> for WebAddress {
    type Error = Misplaced;

    fn try_from(text: String) -> Result<Self, Misplaced> {
        text.parse()
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> Self {
        endpoint.to_string()
    }
}

impl From<WebAddress> for String {
    fn from(address: WebAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_names_a_host_and_a_port_and_nothing_else() {
        let parts = |text: &str| {
            let endpoint: Endpoint = text.parse().unwrap();
            (endpoint.host().to_owned(), endpoint.port(), endpoint.to_string())
        };
        assert_eq!(parts("pavroto-2:3306"), ("pavroto-2".to_owned(), 3306, "pavroto-2:3306".to_owned()));
        assert_eq!(parts("[fd00::2]:80"), ("fd00::2".to_owned(), 80, "[fd00::2]:80".to_owned()));
        for bad in [
            "",
            ":80",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+80",
            "host:80/x",
            "a b:80",
            "user@host:80",
            "fd00::2:80",
            "[fd00::2]",
            "[fd00::2]80",
            "[host]:80",
            "[fd00::2:80",
        ] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_url_is_read_and_written_as_it_is_sent() {
        let check = |text: &str, authority: &str, target: &str| {
            let address: WebAddress = text.parse().unwrap();
            assert_eq!((address.authority().as_str(), address.target()), (authority, target), "{text}");
            assert_eq!(address.to_string().parse::<WebAddress>(), Ok(address));
        };
        check("http://web/health/", "web", "/health/");
        check("http://web:80", "web", "/");
        check("https://web:8443?deep=1", "web:8443", "/?deep=1");
        check("https://[::1]:443/a@b", "[::1]", "/a@b");
        assert_eq!("http://me:hunter2@web/".parse::<WebAddress>(), Err(Misplaced::Secret));
        for bad in [
            "web/health",
            "ftp://web",
            "http://",
            "http:///x",
            "http://web/#a",
            "http://web/ü",
            "http://web/a b",
        ] {
            assert!(bad.parse::<WebAddress>().is_err(), "{bad}");
        }
    }
}
