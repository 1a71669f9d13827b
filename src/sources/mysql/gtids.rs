//! What servers tell of the transactions in their binary logs: MariaDB of any place, MySQL of the beginnings of its files.

use super::{
    ANSWER, Failure,
    access::Access,
    binlog::FIRST,
    programs::Flavour,
    purge::name,
    session::{Session, literal},
};
use crate::{
    artifact::{
        gtid_set::{GtidSet, MOST_INTERVALS},
        transactions::{Transaction, Transactions},
    },
    process::ProcessError,
};

/// What MySQL answers where no event begins at a place (error 1220 of its manual, "Error when executing command").
const NO_EVENT: &str = "ERROR 1220";

/// The transactions before a file of the binary log.
pub(super) async fn before(
    access: &Access,
    session: &mut Session,
    file: &str,
) -> Result<Transactions, Failure> {
    match access.programs.flavour {
        Flavour::MariaDb => Ok(of_text(binlog_gtid_pos(session, file, FIRST).await?)),
        Flavour::MySql => previous_gtids(session, file).await,
    }
}

/// The transactions up to now, as the log tells them; `None` where none are numbered, or nobody can tell. What was set as executed by hand
/// (`gtid_purged`, on every replica that was made of a dump) stands in no file of the log (MySQL's manual, "gtid_purged").
pub(super) async fn dumped(access: &Access, session: &mut Session) -> Result<Option<String>, Failure> {
    let rows = session.rows("SELECT @@GLOBAL.gtid_executed, @@GLOBAL.gtid_purged").await?;
    let Some([executed, purged]) = rows.first().map(Vec::as_slice) else { return Ok(None) };
    let (Some(executed), Some(purged)) = (set(executed)?, set(purged)?) else { return Ok(None) };
    let in_log = match purged.is_empty() {
        true => executed,
        false => match before_all(access).await {
            Ok(before) => executed.without(&purged.without(&before)),
            // Who only dumps need not be able to look into the log.
            Err(Failure::Process(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        },
    };
    Ok(Some(in_log.to_string()).filter(|set| !set.is_empty()))
}

/// The transactions before the oldest file. In a session of its own, which ends where the user may not ask.
async fn before_all(access: &Access) -> Result<GtidSet, Failure> {
    let mut session = Session::open(access, None, ANSWER)?;
    let files = session.rows("SHOW BINARY LOGS").await?;
    let oldest = files.first().and_then(|row| row.first());
    match oldest {
        Some(oldest) => Ok(listed_before(&mut session, oldest).await?.unwrap_or_default()),
        None => Ok(GtidSet::default()),
    }
}

/// Whether transactions with tags were executed, of which the log tells in a way that is not read here.
pub(super) async fn have_tags(session: &mut Session) -> Result<bool, Failure> {
    let executed = session.one("SELECT @@GLOBAL.gtid_executed").await?;
    Ok(set(&executed)?.is_none_or(|set| set.has_tags()))
}

/// A set as the server tells it; `None` where it is larger than any that is worked with.
fn set(text: &str) -> Result<Option<GtidSet>, Failure> {
    let mut set = GtidSet::default();
    let listed = text.split(',').map(str::trim).filter(|listed| !listed.is_empty());
    for (number, listed) in listed.enumerate() {
        if number > MOST_INTERVALS || listed.split(':').count() > MOST_INTERVALS {
            return Ok(None);
        }
        set.add_listed(listed).map_err(Failure::Answer)?;
        if set.intervals() > MOST_INTERVALS {
            return Ok(None);
        }
    }
    Ok(Some(set))
}

/// Whether a place, as `position` tells it, is in this log, as far as the transactions show that it tells of: a log that was reset
/// numbers its files anew, and can have one of that name.
pub(super) async fn has_place(
    access: &Access,
    session: &mut Session,
    position: &str,
    (file, offset): (&str, u64),
) -> Result<bool, Failure> {
    let told = Transactions::of_position(position);
    if told.is_empty() {
        return Ok(true);
    }
    match access.programs.flavour {
        Flavour::MariaDb => {
            let found = of_text(binlog_gtid_pos(session, file, offset).await?);
            Ok(told.are_found(&found))
        }
        Flavour::MySql => {
            let before = previous_gtids(session, file).await?;
            if offset == FIRST {
                return Ok(told.are_found(&before));
            }
            let goes_on = Next::at(access, file, offset).await?.goes_on_from(&told);
            Ok(goes_on && before.agree(&told, std::cmp::Ordering::Less))
        }
    }
}

/// The last transaction of each domain before a place (MariaDB's documentation, "BINLOG_GTID_POS"); `None` where no transaction
/// ends there.
pub(super) async fn binlog_gtid_pos(
    session: &mut Session,
    file: &str,
    offset: u64,
) -> Result<Option<String>, Failure> {
    let query = format!("SELECT COALESCE(BINLOG_GTID_POS({}, {offset}), '?')", literal(file));
    Ok(Some(session.one(&query).await?).filter(|found| found != "?"))
}

fn of_text(found: Option<String>) -> Transactions {
    found.map(|found| Transactions::of_position(&format!("gtid {found}"))).unwrap_or_default()
}

/// The transactions that a file of MySQL tells to be before it (its manual, "SHOW BINLOG EVENTS Statement").
async fn previous_gtids(session: &mut Session, file: &str) -> Result<Transactions, Failure> {
    Ok(listed_before(session, file).await?.map(Transactions::executed).unwrap_or_default())
}

async fn listed_before(session: &mut Session, file: &str) -> Result<Option<GtidSet>, Failure> {
    let events = session.rows(&format!("SHOW BINLOG EVENTS IN {} LIMIT 2", name(file)?)).await?;
    let info = events.iter().find_map(|row| match row.as_slice() {
        [_, _, kind, _, _, info] if kind == "Previous_gtids" => Some(info),
        _ => None,
    });
    let unreadable = || Failure::Answer(format!("the beginning of {file} can't be read"));
    set(info.ok_or_else(unreadable)?)
}

/// What stands at a place of a file of MySQL.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Transaction(Transaction),
    /// The file ends, or goes on with what has no number.
    Unnumbered,
    /// No event begins there, or one within a transaction.
    Nothing,
}

impl Next {
    async fn at(access: &Access, file: &str, offset: u64) -> Result<Self, Failure> {
        // A statement that fails ends its session.
        let mut session = Session::open(access, None, ANSWER)?;
        let asked = format!("SHOW BINLOG EVENTS IN {} FROM {offset} LIMIT 1", name(file)?);
        match session.rows(&asked).await {
            Ok(events) => Ok(Self::of(&events, offset)),
            Err(Failure::Process(why @ ProcessError::Failed { .. }))
                if why.to_string().contains(NO_EVENT) =>
            {
                Ok(Next::Nothing)
            }
            Err(failure) => Err(failure),
        }
    }

    fn of(events: &[Vec<String>], offset: u64) -> Self {
        let [event] = events else { return Next::Unnumbered };
        let [_, place, kind, _, _, info] = event.as_slice() else { return Next::Nothing };
        match kind.as_str() {
            _ if place.parse() != Ok(offset) => Next::Nothing,
            "Rotate" | "Stop" | "Anonymous_Gtid" => Next::Unnumbered,
            _ => {
                let gtid = info.split_once("GTID_NEXT= '").and_then(|(_, rest)| rest.split_once('\''));
                gtid.and_then(|(gtid, _)| gtid.parse().ok()).map_or(Next::Nothing, Next::Transaction)
            }
        }
    }

    /// Whether it can come next where these were before.
    fn goes_on_from(&self, before: &Transactions) -> bool {
        match self {
            Next::Transaction(next) => !before.have_come_to(next),
            Next::Unnumbered => true,
            Next::Nothing => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn next(kind: &str, info: &str) -> Next {
        let event = ["bin.000001", "158", kind, "7", "237", info].map(str::to_owned).to_vec();
        Next::of(&[event], 158)
    }

    #[test]
    fn a_place_is_of_this_log_where_the_next_transaction_is_a_new_one() {
        let before = Transactions::of_position(&format!("bin.000001:158, gtid {UUID}:1-57"));
        let gtid = |number: u64| next("Gtid", &format!("SET @@SESSION.GTID_NEXT= '{UUID}:{number}'"));
        assert!(gtid(58).goes_on_from(&before) && !gtid(57).goes_on_from(&before));
        assert!(next("Rotate", "bin.000002;pos=4").goes_on_from(&before));
        assert!(!next("Query", "BEGIN").goes_on_from(&before), "within a transaction");
        assert!(Next::of(&[], 158).goes_on_from(&before), "the end of the file");
        let elsewhere = ["bin.000001", "237", "Gtid", "7", "482", "…"].map(str::to_owned).to_vec();
        assert_eq!(Next::of(&[elsewhere], 158), Next::Nothing);
    }
}
