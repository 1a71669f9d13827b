//! An archive read back as a stream: nothing counts until its checksum fits, and the whole only when nothing is missing.

use std::collections::BTreeMap;

use bson::{RawDocument, RawDocumentBuf};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    Failure,
    archive::{Checksum, MAGIC, Part, TERMINATOR},
    depth,
    metadata::{Collection, Shape},
};

pub(super) type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// The longest document of an archive, bytes: the engine's own limit and what it may add (mongo-tools, `db.MaxBSONSize`).
const LONGEST: usize = (16 * 1024 + 16) * 1024;

/// The most that an archive may say before its first document, bytes: hundreds of thousands of collections.
const LONGEST_PRELUDE: usize = 256 * 1024 * 1024;

/// How much is read at once, bytes.
const CHUNK: usize = 128 * 1024;

/// An archive behind its prelude.
pub(super) struct Archive<'a> {
    items: Items<'a>,
    /// Every collection that the prelude tells, in its order.
    pub collections: Vec<Collection>,
    /// Their numbers in it.
    numbers: BTreeMap<Namespace, usize>,
    /// How much was seen of each.
    seen: Vec<Progress>,
    /// Whose block is open.
    current: Option<usize>,
}

/// The names of a database and of a collection in it.
type Namespace = (String, String);

enum Progress {
    Open(Box<Checksum>),
    /// There is no more, or there are no documents of its own.
    Closed,
}

/// What comes next, of the collection of this number.
pub(super) enum Event {
    Document(usize, RawDocumentBuf),
    /// It has no more, and what it had is undamaged.
    Closed(usize),
}

impl<'a> Archive<'a> {
    /// Reads the prelude, so that nothing is touched for a stream that fails at once or is no archive.
    pub async fn open(stream: Stream<'a>) -> Result<Self, Failure> {
        let mut items = Items::of(stream);
        if items.take(MAGIC.len()).await?.as_deref() != Some(&MAGIC) {
            return Err(Failure::Refused("the stream is no archive of MongoDB".to_owned()));
        }
        let mut collections = Vec::new();
        let (mut number, mut length) = (0_usize, 0);
        while let Item::Document(entry) = items.expected().await? {
            length += entry.len();
            if length > LONGEST_PRELUDE {
                return Err(Failure::Incomplete("the archive's prelude does not end".to_owned()));
            }
            // The first is the header: whose archive it is, which does not matter here.
            if number > 0 {
                collections.push(listed(&entry)?);
            }
            number += 1;
        }
        let numbers = numbers(&collections)?;
        let seen = collections.iter().map(Progress::begin).collect();
        Ok(Self { items, collections, numbers, seen, current: None })
    }

    /// The next document or end of a collection; `None` where the archive ends and every collection has ended.
    pub async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            if let Some(current) = self.current {
                match self.items.expected().await? {
                    Item::Terminator => self.current = None,
                    Item::Document(document) => return self.document(current, &document).map(Some),
                }
                continue;
            }
            match self.items.next().await? {
                None => return self.whole().map(|()| None),
                Some(Item::Terminator) => return Err(damaged("a block without a header")),
                Some(Item::Document(header)) => {
                    if let Some(closed) = self.begin(&header).await? {
                        return Ok(Some(closed));
                    }
                }
            }
        }
    }

    fn whole(&self) -> Result<(), Failure> {
        match self.unread().next() {
            None => Ok(()),
            Some((_, open)) => {
                Err(Failure::Incomplete(format!("the archive ends before all of {} was seen", open.name())))
            }
        }
    }

    /// Refuses an archive in which there is more of other collections than this one.
    pub fn must_be_read_but(&self, number: usize) -> Result<(), Failure> {
        match self.unread().find(|(other, _)| *other != number) {
            None => Ok(()),
            Some((_, open)) => Err(Failure::Refused(format!(
                "the archive's oplog stands before documents of {}; only archives that Backstay made can be restored",
                open.name()
            ))),
        }
    }

    /// The collections of which there is more, with their numbers.
    fn unread(&self) -> impl Iterator<Item = (usize, &Collection)> {
        let all = self.collections.iter().zip(&self.seen).enumerate();
        all.filter(|(_, (_, progress))| matches!(progress, Progress::Open(_)))
            .map(|(number, (collection, _))| (number, collection))
    }

    async fn begin(&mut self, header: &Bytes) -> Result<Option<Event>, Failure> {
        let (namespace, part) = namespace(header)?;
        let Some(&number) = self.numbers.get(&namespace) else {
            return Err(damaged("documents of a collection that its prelude does not tell"));
        };
        let Progress::Open(checksum) = &self.seen[number] else { return Err(behind_the_end()) };
        let Part::End(crc) = part else {
            self.current = Some(number);
            return Ok(None);
        };
        if checksum.finish() != crc {
            return Err(damaged(&format!("{}.{}, whose checksum does not fit", namespace.0, namespace.1)));
        }
        self.seen[number] = Progress::Closed;
        match self.items.expected().await? {
            Item::Terminator => Ok(Some(Event::Closed(number))),
            Item::Document(_) => Err(behind_the_end()),
        }
    }

    fn document(&mut self, number: usize, document: &Bytes) -> Result<Event, Failure> {
        let Progress::Open(checksum) = &mut self.seen[number] else { return Err(behind_the_end()) };
        checksum.update(document);
        let document = RawDocumentBuf::from_bytes(document.to_vec());
        let document = document.map_err(|error| damaged(&format!("a document that is none: {error}")))?;
        depth::must_be_shallow(&document).map_err(|error| damaged(&error.to_string()))?;
        Ok(Event::Document(number, document))
    }
}

impl Progress {
    fn begin(collection: &Collection) -> Self {
        match collection.shape {
            Shape::Documents { .. } | Shape::Oplog => Progress::Open(Box::new(Checksum::new())),
            Shape::View => Progress::Closed,
        }
    }
}

fn numbers(collections: &[Collection]) -> Result<BTreeMap<Namespace, usize>, Failure> {
    let mut numbers = BTreeMap::new();
    for (number, collection) in collections.iter().enumerate() {
        let namespace = (collection.database.clone(), collection.name.clone());
        if numbers.insert(namespace, number).is_some() {
            return Err(damaged("a collection twice"));
        }
    }
    Ok(numbers)
}

fn behind_the_end() -> Failure {
    damaged("documents of a collection behind its end")
}

fn listed(entry: &Bytes) -> Result<Collection, Failure> {
    let entry = raw(entry)?;
    let text =
        |key| entry.get_str(key).map_err(|error| damaged(&format!("a collection without {key}: {error}")));
    Collection::read(text("db")?, text("collection")?, text("metadata")?)
}

fn namespace(header: &Bytes) -> Result<(Namespace, Part), Failure> {
    let header = raw(header)?;
    let wrong = |error: bson::error::Error| damaged(&format!("a block's header: {error}"));
    let name = (
        header.get_str("db").map_err(wrong)?.to_owned(),
        header.get_str("collection").map_err(wrong)?.to_owned(),
    );
    let part = match header.get_bool("EOF").map_err(wrong)? {
        true => Part::End(header.get_i64("CRC").map_err(wrong)?),
        false => Part::Documents,
    };
    Ok((name, part))
}

fn raw(bytes: &Bytes) -> Result<&RawDocument, Failure> {
    RawDocument::from_bytes(bytes).map_err(|error| damaged(&format!("a document that is none: {error}")))
}

pub(super) fn damaged(what: &str) -> Failure {
    Failure::Incomplete(format!("the stream is damaged: it holds {what}"))
}

/// Documents and terminators, in a row.
pub(super) struct Items<'a> {
    stream: Stream<'a>,
    buffer: BytesMut,
}

pub(super) enum Item {
    Document(Bytes),
    Terminator,
}

impl<'a> Items<'a> {
    pub fn of(stream: Stream<'a>) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// The next item, where the archive must not end.
    async fn expected(&mut self) -> Result<Item, Failure> {
        self.next()
            .await?
            .ok_or_else(|| Failure::Incomplete("the archive ends in the middle of a block".to_owned()))
    }

    /// The next item; `None` where the stream ends behind one.
    pub async fn next(&mut self) -> Result<Option<Item>, Failure> {
        let Some(head) = self.peek::<4>().await? else { return Ok(None) };
        if head == TERMINATOR {
            let _ = self.buffer.split_to(TERMINATOR.len());
            return Ok(Some(Item::Terminator));
        }
        let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if !(5..=LONGEST).contains(&length) {
            return Err(damaged(&format!("a document of {length} bytes")));
        }
        let document = self.take(length).await?;
        let document = document.ok_or_else(|| damaged("a document without its end"))?;
        Ok(Some(Item::Document(document)))
    }

    /// The next bytes, which stay; `None` where the stream ended before them.
    async fn peek<const N: usize>(&mut self) -> Result<Option<[u8; N]>, Failure> {
        match self.fill(N).await? {
            Filled::Enough => Ok(self.buffer.first_chunk::<N>().copied()),
            Filled::Ended => Ok(None),
        }
    }

    async fn take(&mut self, length: usize) -> Result<Option<Bytes>, Failure> {
        match self.fill(length).await? {
            Filled::Enough => Ok(Some(self.buffer.split_to(length).freeze())),
            Filled::Ended => Ok(None),
        }
    }

    /// Reads until there are `length` bytes. A stream that ends within them is damaged.
    async fn fill(&mut self, length: usize) -> Result<Filled, Failure> {
        while self.buffer.len() < length {
            self.buffer.reserve(CHUNK);
            if self.stream.read_buf(&mut self.buffer).await.map_err(Failure::Stream)? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(Filled::Ended),
                    false => {
                        Err(Failure::Incomplete("the stream ends in the middle of a document".to_owned()))
                    }
                };
            }
        }
        Ok(Filled::Enough)
    }
}

enum Filled {
    Enough,
    Ended,
}

#[cfg(test)]
mod tests {
    use bson::{Document, doc};

    use super::*;
    use crate::sources::mongodb::archive;

    fn collection(name: &str, shape: Shape) -> Collection {
        let options = if shape == Shape::View {
            doc! { "viewOn": "a" }
        } else {
            doc! {}
        };
        Collection { database: "shop".to_owned(), name: name.to_owned(), options, uuid: None, shape }
    }

    fn sample() -> (Vec<Collection>, Vec<Document>) {
        let documents = || Shape::Documents { indexes: Vec::new() };
        let collections = [("a", documents()), ("empty", documents()), ("v", Shape::View)];
        let collections = collections.map(|(name, shape)| collection(name, shape)).to_vec();
        (collections, vec![doc! { "_id": 1 }, doc! { "_id": "ä", "z": { "b": 1, "a": [1, {}] } }])
    }

    fn archived() -> Vec<u8> {
        let (collections, documents) = sample();
        let mut bytes = archive::prelude("7.0.5", &collections).unwrap();
        for (number, collection) in collections[..2].iter().enumerate() {
            let mut checksum = Checksum::new();
            bytes.extend(archive::opening(collection).unwrap());
            for document in documents.iter().filter(|_| number == 0) {
                let document = document.to_vec().unwrap();
                checksum.update(&document);
                bytes.extend(document);
            }
            bytes.extend(archive::closing(collection, &checksum).unwrap());
        }
        bytes
    }

    async fn read(mut bytes: &[u8]) -> Result<(Vec<Collection>, Vec<Document>, Vec<usize>), Failure> {
        let mut archive = Archive::open(&mut bytes).await?;
        let (mut documents, mut closed) = (Vec::new(), Vec::new());
        while let Some(event) = archive.next().await? {
            match event {
                Event::Document(0, document) => documents.push(Document::try_from(&document).unwrap()),
                Event::Document(other, _) => panic!("a document of {other}"),
                Event::Closed(number) => closed.push(number),
            }
        }
        Ok((archive.collections, documents, closed))
    }

    #[tokio::test]
    async fn an_archive_comes_back_as_it_was_written() {
        let (collections, documents) = sample();
        assert_eq!(read(&archived()).await.unwrap(), (collections, documents, vec![0, 1]));
    }

    #[tokio::test]
    async fn an_archive_that_ends_anywhere_before_its_end_is_not_whole() {
        let bytes = archived();
        for length in 0..bytes.len() {
            read(&bytes[..length]).await.expect_err("it is cut short");
        }
    }

    #[tokio::test]
    async fn a_changed_document_is_found_by_its_checksum() {
        let bytes = archived();
        let value = bytes.windows(2).rposition(|pair| pair == "ä".as_bytes()).unwrap();
        let mut changed = bytes.clone();
        changed[value..value + 2].copy_from_slice("õ".as_bytes());
        let Err(Failure::Incomplete(why)) = read(&changed).await else { panic!("the change counts") };
        assert!(why.contains("shop.a, whose checksum does not fit"), "{why}");
    }

    #[tokio::test]
    async fn what_is_no_archive_is_refused_and_no_length_is_believed() {
        assert!(matches!(read(b"-- SQL").await, Err(Failure::Refused(_))));
        let long = [&MAGIC[..], &0x7fff_ffff_u32.to_le_bytes()].concat();
        assert!(matches!(read(&long).await, Err(Failure::Incomplete(_))));
        let behind =
            [archived(), archived()[archive::prelude("7.0.5", &sample().0).unwrap().len()..].to_vec()]
                .concat();
        assert!(matches!(read(&behind).await, Err(Failure::Incomplete(_))));
    }
}
