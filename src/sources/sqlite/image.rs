//! The image of a database: its pages in one read transaction.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Read, Seek, Write},
    path::Path,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use rusqlite::Connection;

use super::{Failure, open_to_read};
use crate::{
    artifact::manifest::{Counts, Details},
    sources::blocking::{Feed, Unwanted},
};

/// The size of the pieces that are handed on, bytes.
const CHUNK: usize = 128 * 1024;

/// Feeds the image of the database at `path`, and tells what is in it, and when it was as it is.
pub(super) fn send(path: &Path, scratch: &Path, feed: &Feed) -> Result<(Details, Instant), Failure> {
    let mut connection = open_to_read(path)?;
    let view = connection.transaction()?;
    // A transaction that has read nothing has no view yet.
    let user_version: i64 = view.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let opened = Instant::now();
    let journal: String = view.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let details = Details {
        versions: BTreeMap::from([
            ("sqlite".to_owned(), rusqlite::version().to_owned()),
            ("user_version".to_owned(), user_version.to_string()),
            ("journal_mode".to_owned(), journal.clone()),
        ]),
        counts: Counts::Captured(count_rows(&view, || Ok(feed.alive()?))?),
        ..Details::default()
    };
    if journal == "wal" {
        read_pages(&view, |bytes| Ok(feed.write(bytes)?))?;
    } else {
        let mut copy = copy_pages(&view, scratch, feed)?;
        view.finish()?;
        send_copy(&mut copy, feed)?;
    }
    Ok((details, opened))
}

/// The rows of each table that holds rows of its own; those of virtual tables are in such tables.
/// Stops where `go_on` fails.
pub(super) fn count_rows(
    view: &Connection,
    go_on: impl Fn() -> Result<(), Failure>,
) -> Result<BTreeMap<String, u64>, Failure> {
    let mut tables = view.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         AND sql NOT LIKE 'CREATE VIRTUAL%' ORDER BY name",
    )?;
    let names = tables.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut counts = BTreeMap::new();
    for name in names {
        let query = format!("SELECT count(*) FROM \"{}\"", name.replace('"', "\"\""));
        let rows: i64 = view.query_row(&query, [], |row| row.get(0))?;
        counts.insert(name, rows.unsigned_abs());
        go_on()?;
    }
    Ok(counts)
}

/// Hands on every page in order, and proves that none was missing.
fn read_pages(view: &Connection, mut give: impl FnMut(Bytes) -> Result<(), Failure>) -> Result<(), Failure> {
    let pages: u64 = pragma(view, "page_count")?;
    let page_size: u64 = pragma(view, "page_size")?;
    let mut statement = view.prepare("SELECT data FROM sqlite_dbpage ORDER BY pgno")?;
    let mut rows = statement.query([])?;
    let (mut chunk, mut length) = (BytesMut::with_capacity(CHUNK), 0);
    while let Some(row) = rows.next()? {
        let page = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        length += page.len() as u64;
        chunk.extend_from_slice(page);
        if chunk.len() >= CHUNK {
            give(chunk.split().freeze())?;
            chunk.reserve(CHUNK);
        }
    }
    if !chunk.is_empty() {
        give(chunk.freeze())?;
    }
    if length != pages * page_size {
        return Err(Failure::Damaged(format!(
            "it gave {length} bytes for {pages} pages of {page_size} bytes"
        )));
    }
    Ok(())
}

fn pragma(view: &Connection, name: &str) -> Result<u64, Failure> {
    let value: i64 = view.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))?;
    Ok(value.unsigned_abs())
}

/// Copies every page into a file that has no name, so that nothing is left of it whatever happens.
fn copy_pages(view: &Connection, scratch: &Path, feed: &Feed) -> Result<File, Failure> {
    let mut copy = BufWriter::with_capacity(CHUNK, tempfile::tempfile_in(scratch)?);
    read_pages(view, |bytes| {
        copy.write_all(&bytes)?;
        Ok(feed.alive()?)
    })?;
    Ok(copy.into_inner().map_err(std::io::IntoInnerError::into_error)?)
}

fn send_copy(copy: &mut File, feed: &Feed) -> Result<(), Failure> {
    copy.rewind()?;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&*copy).take(CHUNK as u64).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(());
        }
        feed.write(chunk.into()).map_err(|Unwanted| Failure::Unwanted)?;
    }
}
