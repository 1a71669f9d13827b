//! A stretch of an oplog, as it is captured.

use std::time::Duration;

use bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongodb::Cursor;

use super::{
    super::{Failure, answer, depth, pieces::Pieces},
    Operation, Oplog, Unknown,
    entry::{self, Step},
};

/// What a stretch is read for.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Purpose<'a> {
    /// To bring what was read of these databases, or all of them, to one moment.
    OneMoment(&'a [String]),
    /// To replay everything.
    Log,
}

/// A stretch whose first entry was seen.
pub(in super::super) struct Reading<'a> {
    oplog: &'a Oplog<'a>,
    cursor: Cursor<RawDocumentBuf>,
    stall: Duration,
    /// Its first entry.
    pub begins: Timestamp,
    until: Timestamp,
}

impl<'a> Reading<'a> {
    /// From an entry, or the oldest behind it that there is, to another. `None` where there is nothing of it.
    pub async fn begin(
        oplog: &'a Oplog<'a>,
        from: Timestamp,
        until: Timestamp,
        stall: Duration,
    ) -> Result<Option<Self>, Failure> {
        let entries = oplog.entries();
        let stretch = entries.find(doc! { "ts": { "$gte": from, "$lte": until } });
        let mut cursor: Cursor<RawDocumentBuf> = answer(stall, stretch).await?;
        match answer(stall, cursor.advance()).await? {
            true => {
                let begins = entry::stamp(cursor.current())?;
                Ok(Some(Self { oplog, cursor, stall, begins, until }))
            }
            false => Ok(None),
        }
    }

    /// Streams everything behind the first entry. The stretch is whole once that has come to the last.
    pub async fn stream(self, purpose: Purpose<'_>, pieces: &mut Pieces<'_>) -> Result<(), Failure> {
        let Self { oplog, mut cursor, stall, begins, until } = self;
        let mut ends = begins == until;
        while answer(stall, cursor.advance()).await? {
            let entry = cursor.current().to_owned();
            let stamp = entry::stamp(&entry)?;
            ends |= stamp == until;
            match Step::of(&entry)? {
                Step::Nothing | Step::Part => {}
                Step::Whole => keep(purpose, entry, pieces).await?,
                Step::Decided { after } => {
                    let mark = entry::transaction(stamp).to_vec();
                    pieces.document(&mark.map_err(|error| entry::unreadable(&error))?).await?;
                    for part in oplog.parts(after, stall).await? {
                        keep(purpose, oplog.entry(part, stall).await?, pieces).await?;
                    }
                    keep(purpose, entry, pieces).await?;
                }
            }
        }
        match ends {
            true => Ok(()),
            false => {
                Err(Failure::Incomplete("the oplog ends before the entry that was its newest".to_owned()))
            }
        }
    }
}

async fn keep(purpose: Purpose<'_>, entry: RawDocumentBuf, pieces: &mut Pieces<'_>) -> Result<(), Failure> {
    let Purpose::OneMoment(databases) = purpose else {
        return Ok(pieces.document(entry.as_bytes()).await?);
    };
    let decoded = depth::decoded(&entry).map_err(|error| entry::unreadable(&error))?;
    let declared = match databases {
        [] => Some(decoded),
        declared => entry::of_databases(decoded, declared),
    };
    let Some(entry) = declared else { return Ok(()) };
    must_bring_to_one_moment(&entry)?;
    let entry = entry.to_vec().map_err(|error| entry::unreadable(&error))?;
    Ok(pieces.document(&entry).await?)
}

/// Refuses what can't be done to collections that are not in their place yet. The next try finds it done.
fn must_bring_to_one_moment(entry: &Document) -> Result<(), Failure> {
    let changed = |what: String| Failure::Incomplete(format!("while the databases were read: {what}"));
    for operation in Operation::read(entry).map_err(|Unknown(what)| changed(what))? {
        match operation {
            Operation::Modify { namespace: (database, name), .. } => {
                return Err(changed(format!("{database}.{name} was modified")));
            }
            Operation::Create { namespace: (database, name), options, .. }
                if ["viewOn", "timeseries"].iter().any(|key| options.contains_key(key)) =>
            {
                return Err(changed(format!("{database}.{name} was made")));
            }
            // A collection may have its name by now, and the view is in the archive.
            Operation::DropView((database, name)) => {
                return Err(changed(format!("the view {database}.{name} was dropped")));
            }
            Operation::Rename { from, to, .. } if from.0 != to.0 => {
                return Err(changed(format!("{}.{} went to another database", from.0, from.1)));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Oplog<'_> {
    /// The parts of a transaction up to one of them, oldest first.
    async fn parts(&self, last: Timestamp, stall: Duration) -> Result<Vec<Timestamp>, Failure> {
        let mut parts = vec![last];
        let mut at = last;
        while let Some(before) = entry::previous(&self.entry(at, stall).await?)? {
            if before >= at {
                return Err(Failure::Answer("the parts of a transaction have no beginning".to_owned()));
            }
            parts.push(before);
            at = before;
        }
        parts.reverse();
        Ok(parts)
    }

    async fn entry(&self, stamp: Timestamp, stall: Duration) -> Result<RawDocumentBuf, Failure> {
        let found = answer(stall, self.entries().find_one(doc! { "ts": stamp })).await?;
        let gone = || {
            let place = self.position(stamp);
            Failure::Incomplete(format!("{place}, where a transaction began, is in the oplog no more"))
        };
        found.ok_or_else(gone)
    }

    /// The last entry of a stretch that can't be made again, and what it is. The first entry does not count.
    pub async fn obstacle(
        &self,
        from: Timestamp,
        until: Timestamp,
        stall: Duration,
    ) -> Result<Option<(Timestamp, String)>, Failure> {
        let changes = doc! { "$nin": ["i", "u", "d", "n"] };
        let unusual = doc! { "$or": [{ "op": changes }, { "ns": { "$regex": "\\.system\\." } }] };
        let filter = doc! { "$and": [{ "ts": { "$gt": from, "$lte": until } }, unusual] };
        let mut cursor: Cursor<RawDocumentBuf> = answer(stall, self.entries().find(filter)).await?;
        let mut last = None;
        while answer(stall, cursor.advance()).await? {
            let entry = cursor.current();
            if Step::of(entry)? == Step::Nothing {
                continue;
            }
            let decoded = depth::decoded(entry).map_err(|error| entry::unreadable(&error))?;
            if let Err(Unknown(what)) = Operation::read(&decoded) {
                last = Some((entry::stamp(entry)?, what));
            }
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_to_a_view_while_others_are_read_fails_the_full() {
        let view = |op: &str| doc! { "op": op, "ns": "shop.system.views", "o": { "_id": "shop.v", "viewOn": "a", "pipeline": [] } };
        let nested = doc! { "op": "c", "ns": "admin.$cmd", "o": { "applyOps": [view("d")] } };
        for entry in [view("i"), view("u"), view("d"), nested] {
            let failed = must_bring_to_one_moment(&entry);
            assert!(matches!(failed, Err(Failure::Incomplete(_))), "{entry}");
        }
        let dropped = doc! { "op": "c", "ns": "shop.$cmd", "o": { "drop": "a" } };
        assert!(must_bring_to_one_moment(&dropped).is_ok(), "collections may be dropped");
    }
}
