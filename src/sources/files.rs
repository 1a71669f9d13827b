//! Folders of the controller's host. The stream is a pax archive that every tar reads, in a fixed order, cut into
//! [runs](runs) so that a capture on a base reads only what may have changed.
//!
//! ```text
//! walk (sorted, no link followed) -> runs (what belongs together; its key) -> send (headers and content)
//! extract: the reverse, beneath one folder
//! ```
//!
//! Nothing is left out silently: what can't be archived (devices, sockets) or changed while it was read is named in
//! the artifact's details, and what can't be read fails the capture unless it is excluded.

mod extract;
mod runs;
mod send;
mod tally;
mod walk;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use globset::{Glob, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use tokio::io::AsyncRead;

use super::{
    CaptureRequest, Captured, Holds, Place, Probe, Restored, Run, Sink, Source, SourceError,
    aside::{self, Aside},
    beneath::Root,
    blocking::{Feed, Unwanted, consume, produce},
    grouping::Grouping,
    pax,
    selection::{Missing, Picks, Selection},
};
use crate::{
    artifact::{
        Kind,
        manifest::{Counts, Details, Moment},
    },
    spec,
    stores::Class,
};
use extract::Existing;
use runs::{Member, content_size};
use send::{Out, Sent};
use tally::{Omitted, Tally};
use walk::{Entry, Walk, What};

/// Folders and files of the controller's host.
#[derive(Clone, Debug)]
pub struct FilesSource {
    trees: Arc<Trees>,
}

#[derive(Debug)]
struct Trees {
    /// Absolute, sorted, none inside another.
    paths: Vec<PathBuf>,
    exclude: GlobSet,
}

impl FilesSource {
    /// The folders and files that `files` declares. Its globs are relative to each of its paths; `*` matches across
    /// folders, and an excluded folder is left out with all that it holds.
    ///
    /// # Errors
    /// A glob that is none.
    pub fn new(files: &spec::Files) -> Result<Self, SourceError> {
        let mut exclude = GlobSetBuilder::new();
        let mut paths = files.paths.clone();
        paths.sort_unstable();
        let invalid = |error| SourceError::new("read exclude of", named(&paths), Class::Stalled, error);
        for pattern in &files.exclude {
            exclude.add(Glob::new(pattern).map_err(invalid)?);
        }
        let exclude = exclude.build().map_err(invalid)?;
        Ok(Self { trees: Arc::new(Trees { paths, exclude }) })
    }

    /// A source whose paths nothing declares any more: what it captured is restored beside, never over the original.
    pub fn undeclared() -> Self {
        Self { trees: Arc::new(Trees { paths: Vec::new(), exclude: GlobSet::empty() }) }
    }

    fn subject(&self) -> String {
        named(&self.trees.paths)
    }
}

fn named(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return "a stream whose source is not declared".to_owned();
    }
    format!("files {}", paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))
}

#[async_trait]
impl Source for FilesSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        let missing = self.trees.paths.iter().find_map(|path| Some((path, path.symlink_metadata().err()?)));
        match missing {
            Some((path, error)) => Err(Failure::io("open", path, error).explain("probe", self.subject())),
            None => Ok(Probe { version: "pax archive (POSIX.1-2017)".to_owned() }),
        }
    }

    fn stream_name(&self) -> String {
        "files.tar".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        if request.kind == Kind::Log {
            return Err(SourceError::unsupported(&self.subject(), request.kind));
        }
        // What was written before is in it, and of what was written since some may not be.
        let began = request.now();
        let (trees, base_started) = (self.trees.clone(), request.base_started);
        let details =
            produce(sink, request.stall, move |feed| Capture::new(&trees, base_started, feed)?.run())
                .await
                .map_err(|why| SourceError::interrupted(&self.subject(), why))?
                .map_err(|failure| failure.explain("capture", self.subject()))?;
        Ok(Captured { moment: Moment::At { time: began, position: None }, details })
    }

    async fn holds(&self) -> Result<Holds, SourceError> {
        let paths = self.trees.paths.clone();
        let looked = tokio::task::spawn_blocking(move || paths.into_iter().find(|path| has_content(path)));
        let found = looked
            .await
            .map_err(|died| SourceError::new("look into", self.subject(), Class::Retry, died.to_string()))?;
        Ok(found.map_or(Holds::Nothing, |path| Holds::Data(path.display().to_string())))
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        let restored = match place {
            Place::File(path) => save(stream, path).await.map(|()| path.display().to_string()),
            Place::Folder(path) => self.extract(stream, Onto::Folder(path.clone()), None).await,
            Place::Original => self.extract(stream, Onto::Original, None).await,
            Place::Database(_) | Place::Bucket { .. } => Err(Failure::strange_place()),
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }

    async fn restore_selected(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
        selection: &Selection,
    ) -> Result<Restored, SourceError> {
        let picks = Some(Picks::of(selection.paths()));
        let restored = match place {
            Place::File(_) => Err(Failure::Refused("a part of an archive goes into a folder".to_owned())),
            Place::Folder(path) => self.extract(stream, Onto::Folder(path.clone()), picks).await,
            Place::Original => self.extract(stream, Onto::Original, picks).await,
            Place::Database(_) | Place::Bucket { .. } => Err(Failure::strange_place()),
        };
        restored.map(|place| Restored { place }).map_err(|failure| failure.explain("restore", self.subject()))
    }
}

/// Whether anything is at `path`; a folder counts where something is in it. What can't be looked into counts.
fn has_content(path: &Path) -> bool {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => {
            std::fs::read_dir(path).map_or(true, |mut entries| entries.next().is_some())
        }
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

enum Onto {
    Folder(PathBuf),
    Original,
}

impl FilesSource {
    async fn extract(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        onto: Onto,
        picks: Option<Picks>,
    ) -> Result<String, Failure> {
        let (place, new, root, existing) = match onto {
            Onto::Folder(path) => {
                let new = aside::Vacancy::of(&path);
                (path.display().to_string(), Some(new), extract::new_folder(&path)?, Existing::Refuse)
            }
            Onto::Original => {
                (self.subject(), None, filesystem()?, Existing::Replace(self.trees.paths.clone()))
            }
        };
        let extracted = consume(stream, move |archive| extract::extract(archive, root, existing, picks))
            .await
            .unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))));
        if let (Err(Failure::Missing(Missing { others_found: false, .. })), Some(new)) = (&extracted, new) {
            new.restore();
        }
        extracted.map(|()| place)
    }
}

async fn save(stream: &mut (dyn AsyncRead + Send + Unpin), path: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::io("write", path, error);
    let mut aside = Aside::begin(path).map_err(failed)?;
    aside.fill(stream, |_| {}).await.map_err(failed)?;
    aside.place().map_err(failed)
}

fn filesystem() -> Result<Root, Failure> {
    Root::open(Path::new("/")).map_err(|error| Failure::io("open", Path::new("/"), error))
}

/// One capture under way.
struct Capture<'a> {
    trees: &'a Trees,
    base_started: Option<Timestamp>,
    root: Root,
    feed: &'a Feed,
    out: Out<'a>,
    tallies: Vec<Tally>,
    omitted: Omitted,
    /// The first member of each file that has several names, by device and inode.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

impl<'a> Capture<'a> {
    fn new(trees: &'a Trees, base_started: Option<Timestamp>, feed: &'a Feed) -> Result<Self, Failure> {
        let tallies = vec![Tally::default(); trees.paths.len()];
        let (omitted, first_names) = (Omitted::default(), HashMap::new());
        let root = filesystem()?;
        Ok(Self { trees, base_started, root, feed, out: Out::new(feed), tallies, omitted, first_names })
    }

    fn run(mut self) -> Result<Details, Failure> {
        let root = filesystem()?;
        let mut grouping = Grouping::default();
        for entry in Walk::new(&root, &self.trees.paths, &self.trees.exclude) {
            let Some(member) = self.admit(entry?)? else { continue };
            let name = member.entry.path.as_os_str().as_bytes().to_vec();
            let size = content_size(&member);
            for run in grouping.add(member, &name, size) {
                self.send(&run)?;
            }
        }
        if let Some(run) = grouping.finish() {
            self.send(&run)?;
        }
        self.close()?;
        Ok(self.details())
    }

    /// What of the walk becomes a member.
    fn admit(&mut self, entry: Entry) -> Result<Option<Member>, Failure> {
        match entry.what {
            // `/` itself, which has no name in the archive.
            What::Folder if entry.path.as_os_str().is_empty() => {}
            What::Special(what) => self.omitted.add(&entry.path, what),
            What::Vanished => self.omitted.add(&entry.path, "it vanished during the capture"),
            What::File if entry.status.links > 1 => {
                let inode = (entry.status.device, entry.status.inode);
                let name = entry.path.as_os_str().as_bytes();
                let first = self.first_names.get(&inode).cloned();
                if first.is_none() {
                    self.first_names.insert(inode, name.to_vec());
                }
                return Ok(Some(Member { entry, link_to: first }));
            }
            What::File | What::Folder | What::Link(_) => return Ok(Some(Member { entry, link_to: None })),
        }
        Ok(None)
    }

    fn send(&mut self, run: &[Member]) -> Result<(), Failure> {
        if self.feed.run(runs::key(run, self.base_started))? == Run::Reused {
            run.iter().for_each(|member| self.tally(member, Sent::Whole(content_size(member))));
            return Ok(());
        }
        for member in run {
            let sent = send::send(&self.root, member, &mut self.out)?;
            self.tally(member, sent);
        }
        Ok(self.out.flush()?)
    }

    fn close(&mut self) -> Result<(), Failure> {
        if self.feed.run(Some(runs::trailer_key()))? == Run::Wanted {
            self.out.write(&pax::TRAILER)?;
            self.out.flush()?;
        }
        Ok(())
    }

    fn tally(&mut self, member: &Member, sent: Sent) {
        let tally = &mut self.tallies[member.entry.declared];
        let bytes = match sent {
            Sent::Whole(bytes) => bytes,
            Sent::Changed(bytes) => {
                self.omitted.add(&member.entry.path, "it changed while it was read");
                bytes
            }
            Sent::Vanished => return self.omitted.add(&member.entry.path, "it vanished during the capture"),
        };
        match member.entry.what {
            What::Folder => tally.folders += 1,
            What::Link(_) => tally.symlinks += 1,
            _ => {
                tally.files += 1;
                tally.bytes += bytes;
            }
        }
    }

    fn details(self) -> Details {
        let counts = self.trees.paths.iter().zip(&self.tallies).flat_map(|(path, tally)| tally.named(path));
        Details {
            counts: Counts::Captured(counts.collect::<BTreeMap<_, _>>()),
            omitted: self.omitted.told(),
            ..Details::default()
        }
    }
}

/// What went wrong, before it is known with what.
#[derive(Debug)]
enum Failure {
    Unwanted,
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// A declared path is neither folder nor file.
    NoTree(PathBuf),
    /// A file vanished to which other members are hard links.
    LinksLost(PathBuf),
    /// The stream that is restored failed or is no archive.
    Stream(io::Error),
    /// What was asked would overwrite something or escape.
    Refused(String),
    /// The archive does not hold what was selected.
    Missing(Missing),
}

impl From<Unwanted> for Failure {
    fn from(_: Unwanted) -> Self {
        Failure::Unwanted
    }
}

impl Failure {
    fn io(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Failure::Io { doing, path: path.to_owned(), error }
    }

    fn strange_place() -> Self {
        Failure::Refused("files go into a folder, or as an archive into a file".to_owned())
    }

    fn explain(self, operation: &'static str, subject: String) -> SourceError {
        let error = |class, reason: String| SourceError::new(operation, subject, class, reason);
        match self {
            Failure::Unwanted => error(Class::Retry, super::SinkClosed.to_string()),
            Failure::Stream(why) => error(Class::Retry, why.to_string()),
            Failure::Refused(why) => error(Class::Stalled, why),
            Failure::Missing(missing) => error(Class::Stalled, missing.told()),
            Failure::LinksLost(path) => {
                error(Class::Retry, format!("{} vanished, and other names link to it", path.display()))
            }
            Failure::NoTree(path) => {
                error(Class::Stalled, format!("{} is neither folder nor file", path.display()))
                    .with_hint("declare the path that it leads to")
            }
            Failure::Io { doing, path, error: why } => {
                let reason = format!("can't {doing} {}: {why}", path.display());
                match (why.kind(), why.raw_os_error()) {
                    (io::ErrorKind::PermissionDenied, _) => {
                        error(Class::Stalled, reason).with_hint("let the controller read it, or exclude it")
                    }
                    (_, Some(code)) if code == rustix::io::Errno::LOOP.raw_os_error() => {
                        error(Class::Stalled, reason)
                            .with_hint("a symbolic link is in the path; give the path that it leads to")
                    }
                    (io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists, _) => {
                        error(Class::Stalled, reason)
                    }
                    _ => error(Class::Retry, reason),
                }
            }
        }
    }
}
