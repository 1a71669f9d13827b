//! Transactions by the global identifiers that MariaDB and MySQL give them.

use std::{cmp::Ordering, collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::gtid_set::{GtidSet, MysqlGtid};

/// A transaction of MariaDB by its global identifier (MariaDB's documentation, "Global Transaction ID"): `0-7-12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gtid {
    /// The replication domain: numbers rise in each by itself.
    pub domain: u32,
    /// The server that it was made on.
    pub server: u32,
    /// Its number.
    pub number: u64,
}

impl FromStr for Gtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split('-');
        let parsed = (|| {
            let (domain, server, number) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Self {
                domain: domain.parse().ok()?,
                server: server.parse().ok()?,
                number: number.parse().ok()?,
            })
        })();
        parsed
            .filter(|_| parts.next().is_none())
            .ok_or_else(|| format!("{text:?} is no global transaction identifier, such as 0-7-12"))
    }
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.number)
    }
}

/// A transaction by its global identifier: `0-7-12` of MariaDB, `3E11FA47-71CA-11E1-9E33-C80AA9429562:23` of MySQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Transaction {
    /// One of MariaDB.
    MariaDb(Gtid),
    /// One of MySQL.
    MySql(MysqlGtid),
}

impl FromStr for Transaction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let of_mariadb = text.parse().map(Transaction::MariaDb);
        of_mariadb.or_else(|_: String| text.parse().map(Transaction::MySql)).map_err(|_: String| {
            let such_as = "0-7-12 or 3e11fa47-71ca-11e1-9e33-c80aa9429562:23";
            format!("{text:?} is no global transaction identifier, such as {such_as}")
        })
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transaction::MariaDb(gtid) => gtid.fmt(f),
            Transaction::MySql(gtid) => gtid.fmt(f),
        }
    }
}

impl TryFrom<String> for Transaction {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Transaction> for String {
    fn from(transaction: Transaction) -> Self {
        transaction.to_string()
    }
}

/// The transactions up to which a place in a log has come, as far as they are told: of MariaDB the last one of each domain, of
/// MySQL all that were executed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transactions {
    last: BTreeMap<u32, Gtid>,
    executed: GtidSet,
}

impl Transactions {
    /// Those that a position tells: `gtid 0-7-12,1-8-5`, or `gtid 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-23`.
    pub fn of_position(position: &str) -> Self {
        let pieces = position.split(',').map(str::trim);
        let mut all = Self::default();
        for piece in pieces.map(|piece| piece.strip_prefix("gtid ").unwrap_or(piece)) {
            match piece.parse::<Gtid>() {
                Ok(gtid) => {
                    all.last.insert(gtid.domain, gtid);
                }
                // Other pieces tell other things.
                Err(_) => {
                    let _ = all.executed.add_listed(piece);
                }
            }
        }
        all
    }

    /// The last ones of their domains.
    pub fn last_of_domains(gtids: impl IntoIterator<Item = Gtid>) -> Self {
        let last = gtids.into_iter().map(|gtid| (gtid.domain, gtid)).collect();
        Self { last, executed: GtidSet::default() }
    }

    /// Those that were executed.
    pub fn executed(set: GtidSet) -> Self {
        Self { last: BTreeMap::new(), executed: set }
    }

    /// How many intervals of numbers are told.
    pub fn intervals(&self) -> usize {
        self.executed.intervals()
    }

    /// Whether nothing is told.
    pub fn is_empty(&self) -> bool {
        self.last.is_empty() && self.executed.is_empty()
    }

    /// Goes on by one.
    pub fn add(&mut self, transaction: &Transaction) {
        match transaction {
            Transaction::MariaDb(gtid) => {
                self.last.insert(gtid.domain, *gtid);
            }
            Transaction::MySql(gtid) => self.executed.add(gtid),
        }
    }

    /// Goes on by what came next.
    pub fn extend(&mut self, next: &Transactions) {
        self.last.extend(next.last.iter().map(|(domain, gtid)| (*domain, *gtid)));
        self.executed.extend(&next.executed);
    }

    /// Goes on by what may have come before, too: of each domain what has the higher number counts.
    pub fn extend_by_newer(&mut self, others: &Transactions) {
        for (domain, gtid) in &others.last {
            let is_newer = self.last.get(domain).is_none_or(|known| known.number < gtid.number);
            if is_newer {
                self.last.insert(*domain, *gtid);
            }
        }
        self.executed.extend(&others.executed);
    }

    /// Whether it has come to a transaction. MariaDB's numbers rise within a domain.
    pub fn have_come_to(&self, transaction: &Transaction) -> bool {
        match transaction {
            Transaction::MariaDb(gtid) => {
                self.last.get(&gtid.domain).is_some_and(|last| last.number >= gtid.number)
            }
            Transaction::MySql(gtid) => self.executed.has(gtid),
        }
    }

    /// Whether it can be the same place at which a log tells `found`, as far as this tells anything: a log that was reset numbers its
    /// files anew, and can have one of that name.
    pub fn are_found(&self, found: &Transactions) -> bool {
        let is_found = |(domain, gtid): (&u32, &Gtid)| found.last.get(domain) == Some(gtid);
        self.last.iter().all(is_found) && (self.executed.is_empty() || self.executed == found.executed)
    }

    /// Whether what is told to come in this order can be of one log. MariaDB's numbers of one server rise within a domain; where
    /// another server's stands, nobody can tell. What MySQL has executed it has executed ever after. The same place has the same
    /// transactions before it.
    pub fn agree(&self, other: &Transactions, order: Ordering) -> bool {
        let of_domain = |one: &Gtid| other.last.get(&one.domain).map(|found| (*one, *found));
        let domains = self.last.values().filter_map(of_domain).all(|(one, other)| match order {
            Ordering::Equal => one == other,
            Ordering::Less => one.server != other.server || one.number <= other.number,
            Ordering::Greater => one.server != other.server || one.number >= other.number,
        });
        let is_told = !self.executed.is_empty() && !other.executed.is_empty();
        let executed = match order {
            _ if !is_told => true,
            Ordering::Equal => self.executed == other.executed,
            Ordering::Less => other.executed.has_all_of(&self.executed),
            Ordering::Greater => self.executed.has_all_of(&other.executed),
        };
        domains && executed
    }
}

/// As a position bears them, without the word before.
impl fmt::Display for Transactions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last: Vec<String> = self.last.values().map(ToString::to_string).collect();
        let executed = Some(self.executed.to_string()).filter(|_| !self.executed.is_empty());
        f.write_str(&last.into_iter().chain(executed).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn told(text: &str) -> Transactions {
        Transactions::of_position(text)
    }

    #[test]
    fn transactions_of_both_engines_are_read() {
        assert_eq!("0-7-12".parse(), Ok(Transaction::MariaDb(Gtid { domain: 0, server: 7, number: 12 })));
        let of_mysql: Transaction = format!("{}:23", UUID.to_uppercase()).parse().unwrap();
        assert_eq!(of_mysql.to_string(), format!("{UUID}:23"));
        for bad in
            ["", "0-7", "0-7-12-1", "0-7-x", "-1-7-2", UUID, &format!("{UUID}:0"), &format!("{UUID}:1-3")]
        {
            assert!(bad.parse::<Transaction>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_position_tells_how_far_each_domain_or_server_has_come() {
        assert_eq!(told("bin.000002:4, gtid 3-7-1,0-7-4, server a1-2").to_string(), "0-7-4,3-7-1");
        let position = format!("bin.000002:4, gtid {UUID}:1-5:7,{UUID}:tag:3, server a");
        assert_eq!(told(&position).to_string(), format!("{UUID}:1-5:7,{UUID}:tag:3"));
        assert!(told("bin.000002:4, server a").is_empty() && told("0/3000028, timeline 2").is_empty());
        let come = |text: &str| told(&position).have_come_to(&text.parse().unwrap());
        assert!(come(&format!("{UUID}:7")) && !come(&format!("{UUID}:6")) && !come("0-7-1"));
        assert!(told("gtid 0-7-4").have_come_to(&"0-7-3".parse().unwrap()));
    }

    #[test]
    fn places_agree_where_what_was_executed_stays_executed() {
        let set = |text: &str| told(&format!("gtid {UUID}:{text}"));
        assert!(
            set("1-5").agree(&set("1-9"), Ordering::Less) && set("1-9").agree(&set("1-5"), Ordering::Greater)
        );
        assert!(!set("1-5").agree(&set("1-3"), Ordering::Less), "it was reset");
        assert!(
            !set("1-5").agree(&set("1-6"), Ordering::Equal) && set("1-5").agree(&set("1-5"), Ordering::Equal)
        );
        assert!(set("1-5").agree(&told("bin.000001:4"), Ordering::Less), "not told");
        assert!(set("1-5").are_found(&set("1-5")) && !set("1-5").are_found(&set("1-6")));
        assert!(told("").are_found(&set("1-5")), "older artifacts tell of none");
    }

    #[test]
    fn transactions_go_on_from_those_that_are_known() {
        let mut known = told("gtid 0-7-4,5-1-2,3-7-10");
        known.extend_by_newer(&told("gtid 0-8-6,3-7-9"));
        assert_eq!(known.to_string(), "0-8-6,3-7-10,5-1-2");
        known.extend(&told("gtid 3-7-9"));
        assert_eq!(known.to_string(), "0-8-6,3-7-9,5-1-2");
    }
}
