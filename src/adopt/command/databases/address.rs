//! Where a server is, as connection strings say it: URLs (RFC 3986), and the keywords of libpq.

use crate::adopt::{values, words::Word};

/// What a connection string says, without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Address {
    pub host: Option<String>,
    pub port: Option<u16>,
    pub user: Option<String>,
    pub database: Option<String>,
    /// Whether a password stands in it.
    pub has_secret: bool,
    /// Whether there is more in it than could be taken over.
    pub lost: bool,
}

impl Address {
    /// `host`, `host:port`, `[::1]:port`, the folder of a socket, or a URL.
    pub(super) fn of(word: &Word) -> Option<Self> {
        let text = &word.text;
        if let Some((_, rest)) = text.split_once("://") {
            return Some(Self::of_url(rest, word.is_literal));
        }
        // The first of a replica set's members will do: `set/host1:port,host2:port`.
        let one = text.rsplit('/').next().filter(|_| !text.starts_with('/')).unwrap_or(text);
        let members: Vec<&str> = one.split(',').collect();
        let mut address = Self::of_host(members[0]).filter(|_| word.is_literal)?;
        address.lost |= members.len() > 1;
        Some(address)
    }

    /// `postgresql://…` or `host=… dbname=…`; `None` for the plain name of a database.
    pub(super) fn of_postgres(word: &Word) -> Option<Self> {
        if let Some((_, rest)) = word.text.split_once("://") {
            return Some(Self::of_url(rest, word.is_literal));
        }
        word.text.contains('=').then(|| Self::of_keywords(&word.text, word.is_literal))
    }

    fn of_host(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port > 0)?)),
            None => (text, None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let plain = values::is_word(host) || host.parse::<std::net::Ipv6Addr>().is_ok();
        plain.then(|| Self { host: Some(host.to_owned()), port, ..Self::default() })
    }

    /// What follows `://`. The password may hold characters that it should not: it ends at the last `@`.
    fn of_url(rest: &str, is_literal: bool) -> Self {
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        if login.is_some_and(|login| login.contains('?')) {
            // Nobody can tell where the password ends and the query begins.
            return Self { has_secret: true, lost: true, ..Self::default() };
        }
        let place = place.split(['?', '#']).next().unwrap_or_default();
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let mut address = Self::of_host(hosts.split(',').next().unwrap_or_default()).unwrap_or_default();
        address.lost = !is_literal || address.host.is_none() || hosts.contains(',');
        address.database = Some(database.to_owned()).filter(|name| is_literal && values::is_word(name));
        if let Some(login) = login {
            let user = login.split(':').next().unwrap_or_default();
            address.user = Some(user.to_owned()).filter(|user| is_literal && values::is_word(user));
            address.has_secret = login.contains(':') && is_literal;
        }
        address.has_secret |= rest.contains("password=");
        address
    }

    /// libpq, section Keyword/Value Connection Strings. Quoted values, which may hold spaces, are left to a person.
    fn of_keywords(text: &str, is_literal: bool) -> Self {
        let mut address = Self { lost: !is_literal || text.contains(['\'', '\\']), ..Self::default() };
        for part in text.split_ascii_whitespace().filter(|_| !address.lost).collect::<Vec<_>>() {
            let Some((key, value)) = part.split_once('=') else {
                address.lost = true;
                continue;
            };
            let word = || Some(value.to_owned()).filter(|value| values::is_word(value));
            match key {
                "host" | "hostaddr" => address.host = word(),
                "port" => address.port = value.parse().ok().filter(|port| *port > 0),
                "user" => address.user = word(),
                "dbname" => address.database = word(),
                "password" => {}
                _ => address.lost |= !key.starts_with("ssl") && !key.starts_with("connect_"),
            }
        }
        address.has_secret = text.contains("password");
        address
    }
}
