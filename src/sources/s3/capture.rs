//! The stream: every object below the prefix, in the order of keys, as members of a pax archive.

use std::{collections::BTreeMap, mem};

use bytes::Bytes;
use futures::{StreamExt, stream};
use jiff::Timestamp;

use super::{
    Failure,
    about::About,
    fetch::{Object, Opened, open, shown},
    listing::{Depth, Listed, Listing, What},
    names::{self, Places},
    reach::Reach,
    runs::{self, Member},
};
use crate::{
    artifact::manifest::{Counts, Details},
    sources::{
        Run, Sink,
        grouping::{Grouping, LARGEST},
        pax::{TRAILER, padding},
    },
};

/// Objects of one run that are read at once.
const AT_ONCE: usize = 16;

/// How many things left out are named; the others are counted.
const NAMED: usize = 1000;

/// Captures what lies below `prefix`, which ends in a slash or is empty.
pub(super) async fn capture(
    reach: &Reach,
    prefix: &str,
    depth: Depth,
    base_started: Option<Timestamp>,
    sink: &mut dyn Sink,
) -> Result<Details, Failure> {
    let mut capture = Capture { reach, base_started, sink, tally: Tally::default() };
    let mut listing = Listing::new(reach, prefix.to_owned(), depth);
    let mut members = Members::default();
    let mut grouping = Grouping::default();
    while let Some(listed) = listing.next().await? {
        let numbered = members.admit(listed);
        let (name, size) = (numbered.0.path.as_bytes().to_vec(), numbered.0.listed.size());
        for run in grouping.add(numbered, &name, size) {
            capture.send(run).await?;
        }
    }
    if let Some(run) = grouping.finish() {
        capture.send(run).await?;
    }
    capture.close().await?;
    if members.is_empty() {
        capture.tally.omit(format!("nothing lies below s3://{}/{prefix}", reach.bucket));
    }
    Ok(capture.tally.details(depth))
}

/// Whether a version is what stands under its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Current,
    Former,
}

/// Gives what is listed its place in the archive.
#[derive(Default)]
struct Members {
    places: Places,
    last_key: Option<String>,
}

impl Members {
    fn admit(&mut self, listed: Listed) -> (Member, Standing) {
        let path = match &listed.version {
            None => self.places.place(&listed.key),
            Some(id) => names::version(
                &listed.key,
                id,
                match listed.what {
                    What::Object { .. } => names::Version::Object,
                    What::Marker => names::Version::Marker,
                },
            ),
        };
        let standing = match &self.last_key {
            Some(last) if *last == listed.key => Standing::Former,
            _ => Standing::Current,
        };
        self.last_key = Some(listed.key.clone());
        (Member { listed, path }, standing)
    }

    fn is_empty(&self) -> bool {
        self.last_key.is_none()
    }
}

struct Capture<'a> {
    reach: &'a Reach,
    base_started: Option<Timestamp>,
    sink: &'a mut dyn Sink,
    tally: Tally,
}

/// A member that is ready to be sent.
enum Fetched {
    Marker(About),
    /// All of its content.
    Small(About, u64, Vec<Bytes>),
    /// What is too large to wait in memory.
    Large(Box<Object>),
    Gone,
    Archived,
}

impl Capture<'_> {
    async fn send(&mut self, run: Vec<(Member, Standing)>) -> Result<(), Failure> {
        let (members, standings): (Vec<Member>, Vec<Standing>) = run.into_iter().unzip();
        if self.sink.run(runs::key(&members, self.base_started)).await? == Run::Reused {
            for (member, standing) in members.iter().zip(&standings) {
                self.tally.count(&member.listed.what, *standing, member.listed.size());
            }
            return Ok(());
        }
        let reach = self.reach;
        let reads: Vec<_> = members.iter().map(|member| fetch(reach, &member.listed)).collect();
        let mut fetched = stream::iter(reads).buffered(AT_ONCE);
        for (member, standing) in members.iter().zip(standings) {
            let Some(one) = fetched.next().await else { break };
            match one? {
                Fetched::Gone => self.tally.left_out(&member.listed, "it was deleted during the capture"),
                Fetched::Archived if standing == Standing::Former && member.listed.is_archived() => {
                    self.tally
                        .left_out(&member.listed, "it is in an archive class, from where it can't be read");
                }
                Fetched::Archived => return Err(Failure::Archived(shown(&member.listed.key))),
                fetched => {
                    let size = write(self.sink, &member.path, fetched).await?;
                    self.tally.count(&member.listed.what, standing, size);
                }
            }
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), Failure> {
        if self.sink.run(Some(runs::trailer_key())).await? == Run::Wanted {
            self.sink.write(Bytes::from_static(&TRAILER)).await?;
        }
        Ok(())
    }
}

async fn fetch(reach: &Reach, listed: &Listed) -> Result<Fetched, Failure> {
    if listed.what == What::Marker {
        return Ok(Fetched::Marker(About::marker(listed)));
    }
    let mut object = match open(reach, listed).await? {
        Opened::Object(object) => object,
        Opened::Gone => return Ok(Fetched::Gone),
        Opened::Archived => return Ok(Fetched::Archived),
    };
    if object.size > LARGEST {
        return Ok(Fetched::Large(object));
    }
    let mut pieces = Vec::new();
    while let Some(piece) = object.content.next().await? {
        pieces.push(piece);
    }
    Ok(Fetched::Small(mem::take(&mut object.about), object.size, pieces))
}

/// What fills a member's last block.
static ZEROS: [u8; 512] = [0; 512];

/// Writes a member, and returns the bytes of its content.
async fn write(sink: &mut dyn Sink, path: &str, fetched: Fetched) -> Result<u64, Failure> {
    let size = match fetched {
        Fetched::Marker(about) => {
            sink.write(about.blocks(path, 0).into()).await?;
            0
        }
        Fetched::Small(about, size, pieces) => {
            sink.write(about.blocks(path, size).into()).await?;
            for piece in pieces {
                sink.write(piece).await?;
            }
            size
        }
        Fetched::Large(mut object) => {
            sink.write(object.about.blocks(path, object.size).into()).await?;
            while let Some(piece) = object.content.next().await? {
                sink.write(piece).await?;
            }
            object.size
        }
        Fetched::Gone | Fetched::Archived => return Ok(0),
    };
    let padding = padding(size);
    if padding > 0 {
        sink.write(Bytes::from_static(&ZEROS[..padding])).await?;
    }
    Ok(size)
}

/// What the archive holds, and what it does not.
#[derive(Debug, Default)]
struct Tally {
    objects: u64,
    bytes: u64,
    former: u64,
    markers: u64,
    omitted: Vec<String>,
    omitted_more: usize,
}

impl Tally {
    fn count(&mut self, what: &What, standing: Standing, size: u64) {
        match (what, standing) {
            (What::Marker, _) => self.markers += 1,
            (What::Object { .. }, Standing::Former) => self.former += 1,
            (What::Object { .. }, Standing::Current) => {
                self.objects += 1;
                self.bytes += size;
            }
        }
    }

    fn left_out(&mut self, listed: &Listed, why: &str) {
        let version = listed.version.as_ref().map(|id| format!(" version {id}")).unwrap_or_default();
        self.omit(format!("{}{version}: {why}", shown(&listed.key)));
    }

    fn omit(&mut self, what: String) {
        if self.omitted.len() < NAMED {
            self.omitted.push(what);
        } else {
            self.omitted_more += 1;
        }
    }

    fn details(mut self, depth: Depth) -> Details {
        if self.omitted_more > 0 {
            self.omitted.push(format!("and {} more", self.omitted_more));
        }
        let mut counts =
            BTreeMap::from([("objects".to_owned(), self.objects), ("bytes".to_owned(), self.bytes)]);
        if depth == Depth::Versions {
            counts.insert("former versions".to_owned(), self.former);
            counts.insert("delete markers".to_owned(), self.markers);
        }
        Details { counts: Counts::Captured(counts), omitted: self.omitted, ..Details::default() }
    }
}
