//! The replication slot: it keeps on the server what is not in a store yet, up to the limit that the server sets it.

use super::{Failure, segment};
use crate::{
    artifact::position::Lsn,
    inventory::{KeptLog, WalStatus},
    sources::postgres::session::{Session, literal},
    spec::SlotName,
};

/// A slot that keeps the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// From where on.
    pub keeps: Lsn,
}

impl Slot {
    /// Takes the slot, makes it where there is none, and lets the server drop what is before `durable`, if that is in its log.
    pub(super) async fn take(
        session: &mut Session,
        name: &SlotName,
        durable: Option<Lsn>,
    ) -> Result<Self, Failure> {
        match State::ask(session, name).await? {
            State::Keeps(from) => {
                let durable = durable.filter(|durable| *durable > from);
                match durable {
                    Some(durable) => advance(session, name, durable).await,
                    None => Ok(Self { keeps: from }),
                }
            }
            State::Lost => {
                let drop =
                    format!("SELECT 1 FROM pg_catalog.pg_drop_replication_slot({})", literal(name.as_str()));
                session.run(&drop).await?;
                create(session, name).await
            }
            State::Absent => create(session, name).await,
        }
    }
}

/// From where on the server keeps its log for the slot, which is made where there is none; `None` where the server has dropped some
/// of it, which the next capture sees to.
pub(super) async fn keeps(session: &mut Session, name: &SlotName) -> Result<Option<Lsn>, Failure> {
    match State::ask(session, name).await? {
        State::Keeps(from) => Ok(Some(from)),
        State::Lost => Ok(None),
        State::Absent => create(session, name).await.map(|slot| Some(slot.keeps)),
    }
}

/// What is there of a slot.
enum State {
    Absent,
    /// The server dropped what it was to keep.
    Lost,
    Keeps(Lsn),
}

impl State {
    async fn ask(session: &mut Session, name: &SlotName) -> Result<Self, Failure> {
        let sql = format!(
            "SELECT slot_type, coalesce(restart_lsn::text, ''), coalesce(wal_status, '') \
             FROM pg_catalog.pg_replication_slots WHERE slot_name = {}",
            literal(name.as_str())
        );
        match session.rows::<3>(&sql).await?.as_slice() {
            [] => Ok(State::Absent),
            [[kind, _, _]] if kind != "physical" => Err(Failure::Refused(format!(
                "replication slot {name} is {kind}, and somebody else's; declare another `slot`"
            ))),
            [[_, from, status]] if status == "lost" || from.is_empty() => Ok(State::Lost),
            [[_, from, _], ..] => Ok(State::Keeps(segment::lsn(from)?)),
        }
    }
}

/// What the server keeps for the slot; `None` where there is no slot.
pub(in crate::sources::postgres) async fn kept(
    session: &mut Session,
    name: &SlotName,
) -> Result<Option<KeptLog>, Failure> {
    let sql = format!(
        "SELECT coalesce(wal_status, ''), coalesce(pg_catalog.trunc(pg_catalog.pg_wal_lsn_diff(\
         CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
         ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)), 0), \
         (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_slot_wal_keep_size') \
         FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND slot_name = {}",
        literal(name.as_str())
    );
    let rows = session.rows::<3>(&sql).await?;
    let Some([status, bytes, limit]) = rows.first() else { return Ok(None) };
    let unreadable = |what: &str| Failure::Answer(format!("what the slot keeps can't be read: {what}"));
    let bytes: i64 = bytes.parse().map_err(|_| unreadable(bytes))?;
    let limit: i64 = limit.parse().map_err(|_| unreadable(limit))?;
    Ok(Some(KeptLog {
        slot: name.to_string(),
        // A server that fell back behind the slot keeps nothing for it.
        bytes: u64::try_from(bytes).unwrap_or(0),
        limit: u64::try_from(limit).ok().map(|mebibytes| mebibytes.saturating_mul(1 << 20)),
        status: match status.as_str() {
            "reserved" => WalStatus::Reserved,
            "extended" => WalStatus::Extended,
            "unreserved" => WalStatus::Unreserved,
            "lost" => WalStatus::Lost,
            other => return Err(unreadable(other)),
        },
    }))
}

/// A slot without a limit fills the server's disk while nobody captures the log.
async fn create(session: &mut Session, name: &SlotName) -> Result<Slot, Failure> {
    must_be_limited(session).await?;
    let sql = format!(
        "SELECT lsn FROM pg_catalog.pg_create_physical_replication_slot({}, true)",
        literal(name.as_str())
    );
    let [keeps] = session.row(&sql).await?;
    Ok(Slot { keeps: segment::lsn(&keeps)? })
}

pub(super) async fn must_be_limited(session: &mut Session) -> Result<(), Failure> {
    let [limit] = session.row("SELECT pg_catalog.current_setting('max_slot_wal_keep_size')").await?;
    match limit.as_str() {
        "-1" => Err(Failure::Setting {
            found: "the server would keep its log without a limit, and fill its disk, while the controller is away".to_owned(),
            set: "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();".to_owned(),
        }),
        _ => Ok(()),
    }
}

async fn advance(session: &mut Session, name: &SlotName, to: Lsn) -> Result<Slot, Failure> {
    let sql = format!(
        "SELECT end_lsn FROM pg_catalog.pg_replication_slot_advance({}, {})",
        literal(name.as_str()),
        literal(&to.to_string())
    );
    let [keeps] = session.row(&sql).await?;
    Ok(Slot { keeps: segment::lsn(&keeps)? })
}
