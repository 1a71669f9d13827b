//! What a reader has of a binary log behind a place: proved event by event, for the server may not be there to ask.
//!
//! ```text
//! SPOOL/log-000001/origin              whose log it is
//! SPOOL/log-000001/bin.000007          as the server's own program writes it
//! SPOOL/log-000001/bin.000007.before   what was read of it before the last time that it was begun anew
//! ```

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::io::AsyncReadExt;

use super::{
    Failure,
    walk::{Walk, Whole, close},
};
use crate::{
    artifact::{manifest::Edge, position::LogPosition, transactions::Transactions},
    durable,
    sources::{
        Sink,
        entries::{Entry, is_plain},
        spool,
    },
};

const CHUNK: usize = 128 * 1024;
/// How much of a file is looked at at a time, bytes.
const PIECE: usize = 1 << 20;
const ORIGIN: &str = "origin";
/// How the name ends of what was read before a file was begun anew.
const BEFORE: &str = ".before";

/// What a reader has of a log from a file on.
#[derive(Debug)]
pub(super) struct Ahead {
    server: String,
    files: Vec<Kept>,
    /// The transactions up to its end, as far as they are known.
    transactions: Transactions,
}

/// The transactions before a file and up to its end, as the server tells them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Between {
    pub before: Transactions,
    pub behind: Transactions,
}

/// A file, as far as it is whole.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    name: String,
    whole: Whole,
    /// Whether that is all of it.
    is_all: bool,
    /// When it was last written to.
    written: Option<Timestamp>,
}

impl Ahead {
    /// What a spool has that goes on from the end of an artifact and reaches further, whatever the server is now.
    pub(super) fn of_place(spool: &Path, edge: &Edge) -> io::Result<Option<Self>> {
        for folder in spool::stretches(spool)? {
            if let Some(ahead) = Self::in_stretch(&folder, edge)? {
                return Ok(Some(ahead));
            }
        }
        Ok(None)
    }

    fn in_stretch(folder: &Path, edge: &Edge) -> io::Result<Option<Self>> {
        let Some(LogPosition::Binlog { server: Some(of), stem, number, offset, .. }) =
            LogPosition::parse(&edge.position)
        else {
            return Ok(None);
        };
        if origin(folder).as_deref() != Some(of) {
            return Ok(None);
        }
        let listed = names(folder)?;
        let mut files: Vec<Kept> = Vec::new();
        for number in number.. {
            let Some(name) = listed.iter().find(|name| parts(name) == Some((stem, number))) else { break };
            let Some(kept) = Kept::longest(folder, name)? else { break };
            let is_all = kept.is_all;
            // A log that was reset numbers its files anew: its transactions tell that this one is not of it.
            if files.last().is_some_and(|last| last.behind() != kept.whole.before) {
                break;
            }
            files.push(kept);
            if !is_all {
                break;
            }
        }
        let Some(first) = files.first() else { return Ok(None) };
        let reaches_place = first.whole.end >= offset;
        let reaches_further = files.len() > 1 || first.whole.end > offset;
        if !reaches_place || !reaches_further {
            return Ok(None);
        }
        let told = Transactions::of_position(&edge.position);
        if !told.are_found(&first.transactions_at(offset)?.unwrap_or_default()) {
            return Ok(None);
        }
        let transactions = match files.last().and_then(Kept::behind) {
            Some(behind) => behind,
            None => up_to(told, &files),
        };
        Ok(Some(Self { server: of.to_owned(), files, transactions }))
    }

    /// Where it ends, and when: nothing is claimed that is not in it. It is as old as what was last written into its last file.
    pub(super) fn until(&self, from: &Edge, now: Timestamp) -> Option<Edge> {
        let last = self.files.last()?;
        let seconds = self.files.iter().rev().map(|file| file.whole.seconds).find(|seconds| *seconds > 0)?;
        let time = Timestamp::from_second(seconds.into()).ok()?.min(now).min(last.written.unwrap_or(now));
        let gtids = if self.transactions.is_empty() {
            String::new()
        } else {
            format!(", gtid {}", self.transactions)
        };
        let position = format!("{}:{}, server {}{gtids}", last.name, last.whole.end, self.server);
        Some(Edge { time: time.max(from.time), position })
    }

    /// Sends all that is whole.
    pub(super) async fn send(&self, sink: &mut dyn Sink) -> Result<(), Failure> {
        for file in &self.files {
            file.send(sink).await?;
        }
        Ok(())
    }
}

impl Kept {
    /// What a reader has of a file that the server has closed with this size, and that it has between these transactions, if that
    /// is all of it.
    pub(super) fn closed(
        spool: &Path,
        server: &str,
        file: &Entry,
        between: &Between,
    ) -> io::Result<Option<Self>> {
        // An older stretch may be of a log that was reset since.
        let Some(folder) = spool::stretches(spool)?.into_iter().next() else { return Ok(None) };
        if origin(&folder).as_deref() != Some(server) {
            return Ok(None);
        }
        let kept = Self::longest(&folder, &file.name)?;
        let is_between = |kept: &Self| {
            kept.whole.before.as_ref() == Some(&between.before)
                && kept.behind().as_ref() == Some(&between.behind)
        };
        Ok(kept.filter(|kept| kept.is_all && kept.whole.end == file.size).filter(is_between))
    }

    /// The transactions up to the end of what is whole of it, where it tells those before it.
    fn behind(&self) -> Option<Transactions> {
        let mut all = self.whole.before.clone()?;
        all.extend(&self.whole.transactions);
        Some(all)
    }

    /// The transactions before a place in it; `None` where no event begins there, or it does not tell those before it.
    fn transactions_at(&self, place: u64) -> io::Result<Option<Transactions>> {
        let Some(mut all) = self.whole.before.clone() else { return Ok(None) };
        let mut walk = Walk::begin();
        look(&mut File::open(&self.path)?.take(place), &mut walk)?;
        Ok(walk.transactions_at(place).map(|found| {
            all.extend(&found);
            all
        }))
    }

    /// The one of the two that a file was read into of which more is whole.
    pub(super) fn longest(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        let mut longest: Option<Self> = None;
        for path in [folder.join(name), before(folder, name)] {
            let kept = Self::walk(path, name)?;
            longest = match (longest, kept) {
                (Some(longest), Some(kept)) if kept.whole.end > longest.whole.end => Some(kept),
                (longest, kept) => longest.or(kept),
            };
        }
        Ok(longest)
    }

    fn walk(path: PathBuf, name: &str) -> io::Result<Option<Self>> {
        let mut file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut walk = Walk::begin();
        let read = look(&mut file, &mut walk)?;
        let written = file.metadata()?.modified().ok().and_then(timestamp);
        let whole = walk.whole().clone();
        let is_all = walk.is_whole() && whole.end == read;
        Ok(Some(Self { path, name: name.to_owned(), whole, is_all, written }))
    }

    /// Sends what is whole of it, as the server has it once it has closed it. What goes by must be what was looked at.
    pub(super) async fn send(&self, sink: &mut dyn Sink) -> Result<(), Failure> {
        let changed = || Failure::Incomplete(format!("{} changed while it was read", self.path.display()));
        let unreadable = |error: io::Error| Failure::Refused(format!("{}: {error}", self.path.display()));
        let entry = Entry { name: self.name.clone(), size: self.whole.end };
        sink.write(Bytes::from(entry.header()?)).await?;
        let mut file = tokio::fs::File::open(&self.path).await.map_err(unreadable)?.take(entry.size);
        let mut walk = Walk::begin();
        while file.limit() > 0 {
            let at = entry.size - file.limit();
            let mut piece = BytesMut::with_capacity(CHUNK);
            if file.read_buf(&mut piece).await.map_err(unreadable)? == 0 {
                return Err(changed());
            }
            walk.look(&piece);
            close(&mut piece, at);
            sink.write(piece.freeze()).await?;
        }
        sink.write(Bytes::from(vec![0; entry.padding()])).await?;
        if walk.is_over() || walk.whole().end != self.whole.end {
            return Err(changed());
        }
        Ok(())
    }

    pub(super) fn end(&self) -> u64 {
        self.whole.end
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Walks over what there is to read. Returns how much that was.
fn look(file: &mut impl Read, walk: &mut Walk) -> io::Result<u64> {
    let (mut piece, mut read) = (vec![0; PIECE], 0);
    while !walk.is_over() {
        match file.read(&mut piece)? {
            0 => break,
            length => {
                walk.look(&piece[..length]);
                read += length as u64;
            }
        }
    }
    Ok(read)
}

/// The transactions up to which files have come that begin with those at `from`; none where that does not tell any. What stands
/// before the place at which the files go on is older, and comes before what is known there.
fn up_to(from: Transactions, files: &[Kept]) -> Transactions {
    let mut all = from;
    if !all.is_empty() {
        files.iter().for_each(|file| all.extend_by_newer(&file.whole.transactions));
    }
    all
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

/// Whose log a stretch holds.
pub(super) fn origin(folder: &Path) -> Option<String> {
    durable::read_json(&folder.join(ORIGIN))
}

/// Begins a stretch for the log of `server`.
pub(super) fn begin(spool: &Path, server: &str) -> io::Result<PathBuf> {
    let folder = spool::begin(spool)?;
    durable::write_json(&folder.join(ORIGIN), &server)?;
    Ok(folder)
}

/// Where what was read of a file is kept while that is read anew.
pub(super) fn before(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{BEFORE}"))
}

/// The names of the files of a stretch, oldest first.
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let name = name.strip_suffix(BEFORE).unwrap_or(&name);
        names.extend(Some(name.to_owned()).filter(|name| is_plain(name) && parts(name).is_some()));
    }
    names.sort_unstable_by(|one, other| parts(one).cmp(&parts(other)));
    names.dedup();
    Ok(names)
}

/// The stem and the number of a file.
pub(super) fn parts(name: &str) -> Option<(&str, u64)> {
    let (stem, number) = name.rsplit_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| number.parse().ok().map(|number| (stem, number))).flatten()
}

/// Removes what a spool holds of files before the one in which `stored` lies, but for the newest of a stretch; and stretches that
/// are no longer added to, from which nothing goes on.
pub(super) fn trim(spool: &Path, stored: &Edge) -> io::Result<()> {
    let Some(LogPosition::Binlog { server: Some(of), stem, number, .. }) =
        LogPosition::parse(&stored.position)
    else {
        return Ok(());
    };
    for (age, folder) in spool::stretches(spool)?.into_iter().enumerate() {
        let is_ours = origin(&folder).as_deref() == Some(of);
        let mut listed = names(&folder)?;
        let first = listed.first().and_then(|name| parts(name)).map(|(_, number)| number);
        listed.pop();
        let older = listed
            .iter()
            .filter(|name| is_ours && parts(name).is_some_and(|(of, listed)| of == stem && listed < number));
        for name in older {
            for path in [folder.join(name), before(&folder, name)] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        let begins_later = is_ours && first.is_some_and(|first| first > number);
        if age > 0 && !begins_later && Ahead::in_stretch(&folder, stored)?.is_none() {
            fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["bin.999999", "bin.1000000", "bin.000002.before", "origin", "x", "bin.000002"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        assert_eq!(names(folder.path()).unwrap(), ["bin.000002", "bin.999999", "bin.1000000"]);
    }
}
