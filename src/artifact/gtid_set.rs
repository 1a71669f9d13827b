//! Sets of MySQL's transactions (MySQL's manual, "GTID Format and Storage").

use std::{collections::BTreeMap, fmt, str::FromStr};

/// How long the identifier of a server is, letters.
const UUID: usize = 36;

/// The longest tag, letters.
const LONGEST_TAG: usize = 32;

/// The most intervals of a set that is worked with. Whatever tells more is taken to tell nothing: a server that was broken into could
/// else hold everything up.
pub const MOST_INTERVALS: usize = 4096;

/// Who numbers transactions: a server by its identifier, and a tag where one was given (`3e11fa47-71ca-11e1-9e33-c80aa9429562:tag`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Origin(String);

/// A transaction of MySQL: `3e11fa47-71ca-11e1-9e33-c80aa9429562:23`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MysqlGtid {
    origin: Origin,
    number: u64,
}

impl MysqlGtid {
    /// The transaction of this number of the server with this identifier.
    pub fn of_server(uuid: [u8; 16], number: u64) -> Self {
        let digits = hex::encode(uuid);
        let groups = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Self { origin: Origin(groups.join("-")), number }
    }
}

impl FromStr for MysqlGtid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = GtidSet::default();
        set.add_listed(text)?;
        if set.has_tags() {
            // What a log tells of them is not read.
            return Err(format!("{text:?} has a tag: name its place in the log, or the time, instead"));
        }
        match set.0.pop_first() {
            Some((origin, intervals)) if set.is_empty() => match intervals.as_slice() {
                [(first, last)] if first == last => Ok(Self { origin, number: *first }),
                _ => Err(format!("{text:?} are several transactions")),
            },
            _ => Err(format!("{text:?} are several transactions")),
        }
    }
}

impl fmt::Display for MysqlGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.origin.0, self.number)
    }
}

/// Transactions of MySQL, as `gtid_executed` tells them: numbers of each origin, as intervals in order that do not touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet(BTreeMap<Origin, Vec<(u64, u64)>>);

impl GtidSet {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many intervals it has.
    pub fn intervals(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether some of its transactions bear a tag.
    pub fn has_tags(&self) -> bool {
        self.0.keys().any(|Origin(origin)| origin.len() > UUID)
    }

    /// What of it is not in another.
    pub fn without(&self, other: &GtidSet) -> GtidSet {
        let none = Vec::new();
        let mut rest = GtidSet::default();
        for (origin, intervals) in &self.0 {
            let gone = other.0.get(origin).unwrap_or(&none);
            for (first, last) in intervals {
                // Intervals are in order.
                let mut next = Some(*first);
                for (from, to) in gone.iter().filter(|(from, to)| from <= last && first <= to) {
                    if let Some(begin) = next.filter(|begin| begin < from) {
                        rest.add_interval(origin.clone(), (begin, from - 1));
                    }
                    next = to.checked_add(1);
                }
                if let Some(begin) = next.filter(|begin| begin <= last) {
                    rest.add_interval(origin.clone(), (begin, *last));
                }
            }
        }
        rest
    }

    /// Adds what a server lists of one server: `UUID:1-5:7:tag:3`.
    ///
    /// # Errors
    /// What is wrong with the text. Nothing is added then.
    pub fn add_listed(&mut self, text: &str) -> Result<(), String> {
        let bad =
            || format!("{text:?} lists no transactions, such as 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5");
        let mut parts = text.trim().split(':');
        let uuid = parts.next().filter(|uuid| is_uuid(uuid)).ok_or_else(bad)?.to_ascii_lowercase();
        let (mut origin, mut listed) = (Origin(uuid.clone()), Vec::new());
        for part in parts {
            if is_tag(part) {
                origin = Origin(format!("{uuid}:{}", part.to_ascii_lowercase()));
                continue;
            }
            listed.push((origin.clone(), interval(part).ok_or_else(bad)?));
        }
        if listed.is_empty() {
            return Err(bad());
        }
        listed.into_iter().for_each(|(origin, interval)| self.add_interval(origin, interval));
        Ok(())
    }

    /// Adds one.
    pub fn add(&mut self, gtid: &MysqlGtid) {
        self.add_interval(gtid.origin.clone(), (gtid.number, gtid.number));
    }

    /// Adds the numbers from `first` to `last` of a server.
    pub fn add_of_server(&mut self, uuid: [u8; 16], (first, last): (u64, u64)) {
        self.add_interval(MysqlGtid::of_server(uuid, first).origin, (first, last));
    }

    /// Adds all of another.
    pub fn extend(&mut self, other: &GtidSet) {
        for (origin, intervals) in &other.0 {
            intervals.iter().for_each(|interval| self.add_interval(origin.clone(), *interval));
        }
    }

    /// Whether one is in it.
    pub fn has(&self, gtid: &MysqlGtid) -> bool {
        self.covers(&gtid.origin, (gtid.number, gtid.number))
    }

    /// Whether all of another are in it.
    pub fn has_all_of(&self, other: &GtidSet) -> bool {
        let mut all =
            other.0.iter().flat_map(|(origin, of)| of.iter().map(move |interval| (origin, *interval)));
        all.all(|(origin, interval)| self.covers(origin, interval))
    }

    fn covers(&self, origin: &Origin, (first, last): (u64, u64)) -> bool {
        self.0.get(origin).is_some_and(|of| of.iter().any(|(from, to)| *from <= first && last <= *to))
    }

    fn add_interval(&mut self, origin: Origin, (mut first, mut last): (u64, u64)) {
        let intervals = self.0.entry(origin).or_default();
        let touches =
            |(from, to): &(u64, u64)| *from <= last.saturating_add(1) && first <= to.saturating_add(1);
        let (touching, mut apart): (Vec<_>, Vec<_>) = intervals.drain(..).partition(touches);
        for (from, to) in touching {
            (first, last) = (first.min(from), last.max(to));
        }
        apart.push((first, last));
        apart.sort_unstable();
        *intervals = apart;
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (Origin(origin), intervals)) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(",")?;
            }
            f.write_str(origin)?;
            for (first, last) in intervals {
                match first == last {
                    true => write!(f, ":{first}")?,
                    false => write!(f, ":{first}-{last}")?,
                }
            }
        }
        Ok(())
    }
}

fn is_uuid(text: &str) -> bool {
    let is_dash = |at: usize| [8, 13, 18, 23].contains(&at);
    let fits = |(at, byte): (usize, u8)| if is_dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == UUID && text.bytes().enumerate().all(fits)
}

fn is_tag(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(is_letter)
        && text.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
}

fn interval(text: &str) -> Option<(u64, u64)> {
    let number = |digits: &str| digits.parse::<u64>().ok().filter(|number| *number > 0);
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
        None => number(text).map(|number| (number, number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn set(listed: &[&str]) -> GtidSet {
        let mut set = GtidSet::default();
        listed.iter().for_each(|text| set.add_listed(&format!("{UUID}:{text}")).unwrap());
        set
    }

    #[test]
    fn numbers_that_touch_are_one_interval() {
        let mut all = set(&["5", "1-3", "9-12"]);
        assert_eq!(all.to_string(), format!("{UUID}:1-3:5:9-12"));
        all.add(&format!("{UUID}:4").parse().unwrap());
        assert_eq!(all, set(&["1-5:9-12"]));
        all.extend(&set(&["2-20"]));
        assert_eq!(all, set(&["1-20"]));
        assert_eq!(set(&["1-2:tag:1:3"]).to_string(), format!("{UUID}:1-2,{UUID}:tag:1:3"));
        assert_eq!(set(&[&format!("{}", u64::MAX)]).to_string(), format!("{UUID}:{}", u64::MAX));
    }

    #[test]
    fn what_is_not_in_another_set_is_left() {
        for (of, other, left) in [
            ("1-10", "3-4:8-20", "1-2:5-7"),
            ("1-10", "1-10", ""),
            ("1-10:20", "11-19", "1-10:20"),
            ("5", "1-4:6", "5"),
            ("1-3:tag:1-3", "tag:2", "1-3:tag:1:3"),
        ] {
            let left = if left.is_empty() { GtidSet::default() } else { set(&[left]) };
            assert_eq!(set(&[of]).without(&set(&[other])), left, "{of} without {other}");
        }
        assert_eq!((set(&["1-3:5:tag:1"]).intervals(), set(&["1:tag:1"]).has_tags()), (3, true));
    }

    #[test]
    fn what_is_in_a_set_is_known() {
        let all = set(&["1-5:9-12"]);
        let has = |text: &str| all.has(&format!("{UUID}:{text}").parse().unwrap());
        assert!(has("1") && has("12") && !has("6") && !has("13"));
        assert!(all.has_all_of(&set(&["2-3:10"])) && !all.has_all_of(&set(&["4-6"])));
        assert!(!all.has_all_of(&set(&["1-2:tag:1"])) && all.has_all_of(&GtidSet::default()));
    }

    #[test]
    fn nonsense_is_no_set() {
        for text in [
            "",
            UUID,
            "x:1",
            &format!("{UUID}:0"),
            &format!("{UUID}:5-3"),
            &format!("{UUID}:1-"),
            &format!("{UUID}:-1"),
        ] {
            assert!(GtidSet::default().add_listed(text).is_err(), "{text}");
        }
        let uuid = *b"\x3e\x11\xfa\x47\x71\xca\x11\xe1\x9e\x33\xc8\x0a\xa9\x42\x95\x62";
        assert_eq!(MysqlGtid::of_server(uuid, 23).to_string(), format!("{UUID}:23"));
    }
}
