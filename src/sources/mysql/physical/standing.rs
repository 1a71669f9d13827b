//! Where a copy of a server's files stands, and whether what is there now came of it. Pure.

use std::{collections::BTreeMap, fmt};

use super::{
    super::{Failure, marks::Position},
    here::NAMELESS,
};
use crate::artifact::position::{LogPosition, innodb_lsn};

/// Where a copy stands: `bin.000007:4711, gtid 0-7-12, lsn 47218, files 5c0e…, server 91ab…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    /// In the binary log, where there is one.
    pub log: Option<Position>,
    /// The same place as a global transaction id; may be empty.
    pub gtid: String,
    /// Up to which change of its pages the copy is complete without the log that it carries: the next goes on from there.
    pub lsn: u64,
    /// Which files were copied: another data folder in their place has another name.
    pub files: String,
    /// Which server wrote them.
    pub server: String,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { file, offset }) = &self.log {
            write!(f, "{file}:{offset}, ")?;
        }
        if !self.gtid.is_empty() {
            write!(f, "gtid {}, ", self.gtid)?;
        }
        write!(f, "lsn {}, files {}, server {}", self.lsn, self.files, self.server)
    }
}

impl Standing {
    /// Reads what an artifact's position tells.
    pub(super) fn parse(position: &str) -> Option<Self> {
        let piece = |name: &str| position.split(',').find_map(|piece| piece.trim().strip_prefix(name));
        let log = match LogPosition::parse(position) {
            Some(LogPosition::Binlog { offset, .. }) => {
                let (file, _) = position.split(',').next()?.rsplit_once(':')?;
                Some(Position { file: file.to_owned(), offset })
            }
            _ => None,
        };
        Some(Self {
            log,
            gtid: gtid(position),
            lsn: innodb_lsn(position)?,
            files: piece("files ")?.to_owned(),
            server: piece("server ")?.to_owned(),
        })
    }
}

/// The global transaction ids of a position: commas stand between them as they do between its pieces.
fn gtid(position: &str) -> String {
    let pieces = position.split(',').map(str::trim);
    let ids = pieces.map(|piece| piece.strip_prefix("gtid ").unwrap_or(piece)).filter(|piece| is_gtid(piece));
    ids.collect::<Vec<_>>().join(",")
}

/// `0-7-12`: a domain, a server and a number.
fn is_gtid(text: &str) -> bool {
    let mut parts = 0;
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.split('-').inspect(|_| parts += 1).all(is_number) && parts == 3
}

/// What a server is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Now {
    pub files: String,
    pub server: String,
    /// How far its own log has come, where it tells.
    pub lsn: Option<u64>,
    /// What is found in the binary log at the place of the base.
    pub log: Seen,
}

/// What is found at a place in a binary log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// There is no log to look into, or the place is before what is left of it.
    Nothing,
    /// The global transaction id there; may be empty.
    Gtid(String),
    /// No transaction ended there, or the log does not reach so far.
    Otherwise,
}

/// Why what is there now did not come of `base`, if that is so.
pub(super) fn broken(base: &Standing, now: &Now) -> Option<&'static str> {
    if base.server != now.server {
        return Some("it is another server than the one that the last artifact was captured from");
    }
    if now.files == NAMELESS {
        return Some(
            "its file system does not tell when files were made, so that its data folder could be another one",
        );
    }
    if base.files != now.files {
        return Some("its data folder was replaced since the last artifact");
    }
    if now.lsn.is_some_and(|lsn| lsn < base.lsn) {
        return Some("its data are older than those of the last artifact");
    }
    let same = |one: &str, other: &str| {
        let set = |text: &str| {
            text.split(',').map(|id| id.trim().to_owned()).collect::<std::collections::BTreeSet<_>>()
        };
        set(one) == set(other)
    };
    match &now.log {
        Seen::Nothing => None,
        Seen::Gtid(gtid) if same(gtid, &base.gtid) => None,
        Seen::Gtid(_) | Seen::Otherwise => {
            Some("its binary log has another history than that of the last artifact")
        }
    }
}

/// What a copy tells of itself, in the small files that it ends with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The change from which on it holds pages; 0 for all.
    pub from_lsn: u64,
    pub to_lsn: u64,
    pub log: Option<Position>,
    pub gtid: String,
}

impl Told {
    pub(super) fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, Failure> {
        let text = |name: &str| {
            let named = |(path, _): &(&String, &Vec<u8>)| path.ends_with(name);
            files.iter().find(named).map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned())
        };
        let incomplete = |what: &str| Failure::Incomplete(format!("the copy does not tell {what}"));
        let checkpoints = text("_checkpoints").ok_or_else(|| incomplete("where it stands"))?;
        let value = |name: &str| {
            let line =
                checkpoints.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_prefix('='))?;
            Some(line.trim().to_owned())
        };
        let lsn = |name: &str| {
            value(name).and_then(|value| value.parse().ok()).ok_or_else(|| incomplete(&format!("its {name}")))
        };
        let (log, gtid) = match text("_binlog_info") {
            Some(info) => place(&info).ok_or_else(|| incomplete("its place in the binary log"))?,
            None => (None, String::new()),
        };
        Ok(Self { from_lsn: lsn("from_lsn")?, to_lsn: lsn("to_lsn")?, log, gtid })
    }

    /// Whether it holds only what changed since another.
    pub(super) fn is_incremental(&self) -> bool {
        self.from_lsn > 0
    }
}

/// `bin.000001\t1711\t0-7-8`
fn place(info: &str) -> Option<(Option<Position>, String)> {
    let mut fields = info.lines().next()?.split('\t');
    let (file, offset) = (fields.next()?.to_owned(), fields.next()?.trim().parse().ok()?);
    Some((Some(Position { file, offset }), fields.next().unwrap_or_default().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Standing {
        Standing {
            log: Some(Position { file: "bin.000007".to_owned(), offset: 4711 }),
            gtid: "0-7-12,1-9-3".to_owned(),
            lsn: 47218,
            files: "5c0e".to_owned(),
            server: "91ab".to_owned(),
        }
    }

    #[test]
    fn where_a_copy_stands_is_read_back_and_is_a_place_in_the_log() {
        let text = base().to_string();
        assert_eq!(text, "bin.000007:4711, gtid 0-7-12,1-9-3, lsn 47218, files 5c0e, server 91ab");
        assert_eq!(Standing::parse(&text), Some(base()));
        let in_log = LogPosition::parse("bin.000008:4, server 91ab").unwrap();
        assert!(LogPosition::parse(&text).unwrap() < in_log);
        let unlogged = Standing { log: None, gtid: String::new(), ..base() };
        assert_eq!(Standing::parse(&unlogged.to_string()), Some(unlogged.clone()));
        assert_eq!(LogPosition::parse(&unlogged.to_string()), None);
        assert_eq!(
            Standing::parse("bin.000007:4711, gtid 0-7-12, server 91ab"),
            None,
            "a dump has no copy's place"
        );
    }

    #[test]
    fn an_increment_goes_on_only_from_what_the_data_came_of() {
        let now = Now {
            files: "5c0e".to_owned(),
            server: "91ab".to_owned(),
            lsn: Some(50_000),
            log: Seen::Gtid("1-9-3,0-7-12".to_owned()),
        };
        assert_eq!(broken(&base(), &now), None);
        assert_eq!(broken(&base(), &Now { log: Seen::Nothing, lsn: None, ..now.clone() }), None);
        for other in [
            Now { server: "other".to_owned(), ..now.clone() },
            Now { files: "other".to_owned(), ..now.clone() },
            Now { files: NAMELESS.to_owned(), ..now.clone() },
            Now { lsn: Some(47_000), ..now.clone() },
            Now { log: Seen::Gtid("0-7-12".to_owned()), ..now.clone() },
            Now { log: Seen::Otherwise, ..now.clone() },
        ] {
            assert!(broken(&base(), &other).is_some(), "{other:?}");
        }
    }

    #[test]
    fn a_copy_tells_where_it_stands_in_files_of_either_name() {
        for prefix in ["xtrabackup", "mariadb_backup"] {
            let mut files = BTreeMap::from([
                (format!("{prefix}_binlog_info"), b"bin.000001\t1711\t0-7-8\n".to_vec()),
                (
                    format!("{prefix}_checkpoints"),
                    b"backup_type = incremental\nfrom_lsn = 44894\nto_lsn = 50818\nlast_lsn = 50900\n"
                        .to_vec(),
                ),
            ]);
            let told = Told::read(&files).unwrap();
            assert_eq!((told.from_lsn, told.to_lsn, told.gtid.as_str()), (44894, 50818, "0-7-8"));
            assert_eq!(told.log, Some(Position { file: "bin.000001".to_owned(), offset: 1711 }));
            files.remove(&format!("{prefix}_checkpoints"));
            assert!(matches!(Told::read(&files), Err(Failure::Incomplete(_))));
        }
    }
}
