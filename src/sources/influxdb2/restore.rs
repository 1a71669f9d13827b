//! The way back. Buckets are made beside what exists, each shard of the stream goes to the server as it comes, and what was
//! made counts once the stream was read to its closing blocks; until then all of it is removed where anything fails.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use bytes::BytesMut;
use tokio::{io::AsyncRead, runtime::Handle};

use super::{
    Failure, Influxdb2Source,
    api::{Api, Made},
    buckets::Bucket,
    exchange::exchange,
    inspect,
    layout::{self, CHUNK, Member, RECORD, Record},
    names::BucketName,
    setup::set_up,
    upload::Upload,
};
use crate::sources::{
    Holds,
    aside::{Aside, new_folder},
    blocking::consume,
    existing::{self, Existing},
    pax::{Reader, padding},
};

pub(super) type Stream<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Writes the stream into a new file.
pub(super) async fn to_file(stream: Stream<'_>, path: &Path) -> Result<String, Failure> {
    let refused = |error: io::Error| Failure::Refused(format!("{}: {error}", path.display()));
    let mut aside = Aside::begin(path).map_err(refused)?;
    aside.fill(stream, |_| {}).await.map_err(Failure::Stream)?;
    aside.place().map_err(refused)?;
    Ok(path.display().to_string())
}

/// Extracts the stream into a new or empty folder.
pub(super) async fn to_folder(stream: Stream<'_>, folder: &Path) -> Result<String, Failure> {
    new_folder(folder).map_err(|error| Failure::Refused(format!("{}: {error}", folder.display())))?;
    let root = folder.to_owned();
    let extracted = consume(stream, move |archive| {
        let extracted = extract(archive, &root);
        if extracted.is_err() {
            clear(&root);
        }
        extracted
    });
    joined(extracted.await)?;
    Ok(folder.display().to_string())
}

/// Makes a new bucket of the only one that the stream holds.
pub(super) async fn to_new_bucket(
    source: &Influxdb2Source,
    stream: Stream<'_>,
    name: &str,
) -> Result<String, Failure> {
    let new = BucketName::parse(name)?;
    source.api.version().await?;
    let organization = source.api.organization().await?;
    if source.api.bucket(&organization, &new).await?.is_some() {
        return Err(Failure::Refused(format!("bucket {new} exists")));
    }
    let named = new.clone();
    let plan = move |record: &Record| match record.buckets.as_slice() {
        [_] => Ok(vec![named.clone()]),
        several => {
            let why = "buckets were captured, each with its own name; restore them to a folder, or over the originals";
            Err(Failure::Refused(format!("{} {why}", several.len())))
        }
    };
    let restored = load(source, organization, stream, plan).await?;
    Ok(format!("bucket {new}{}", restored.deletions()))
}

/// Puts every bucket of the stream in its original's place.
pub(super) async fn over_originals(source: &Influxdb2Source, stream: Stream<'_>) -> Result<String, Failure> {
    source.api.version().await?;
    let set_up = set_up(source).await?;
    let organization = source.api.organization().await?;
    let declared = source.buckets.clone();
    let plan = move |record: &Record| {
        let names: Vec<_> =
            record.buckets.iter().map(|bucket| BucketName::parse(bucket.name())).collect::<Result<_, _>>()?;
        let undeclared = names.iter().find(|name| !declared.is_empty() && !declared.contains(name));
        match undeclared {
            None => Ok(names.iter().map(BucketName::beside).collect()),
            Some(name) => Err(Failure::Refused(format!(
                "the stream holds bucket {name}, which is not declared now; restore it to a folder"
            ))),
        }
    };
    let restored = load(source, organization.clone(), stream, plan).await?;
    must_have_stayed_empty(source, &restored.made).await?;
    let mut places = Vec::new();
    let mut left = restored.made.iter().zip(&restored.names);
    while let Some((made, name)) = left.next() {
        match exchange(source, &organization, name, made).await {
            Ok(tokens) => places.push(place(name, &tokens)),
            Err(why) => {
                // What went wrong is told; what is still beside its original is not needed any more.
                for (made, _) in left {
                    let _ = source.api.remove(&made.id).await;
                }
                return Err(leave(source, &organization, name, made, why).await);
            }
        }
    }
    Ok(format!("{}{}{set_up}", places.join(", "), restored.deletions()))
}

/// Removes what was made where somebody wrote into the originals meanwhile, which must not be replaced.
async fn must_have_stayed_empty(source: &Influxdb2Source, made: &[Made]) -> Result<(), Failure> {
    if source.existing == Existing::Replaced {
        return Ok(());
    }
    let why = match inspect::holds(source, made).await {
        Ok(Holds::Data(what)) => Failure::Refused(existing::by_now(&what)),
        Ok(Holds::Nothing | Holds::Untold) => return Ok(()),
        Err(why) => why,
    };
    for made in made {
        if source.api.remove(&made.id).await.is_err() {
            return Err(Failure::Remains { bucket: made.id.clone(), why: why.reason() });
        }
    }
    Err(why)
}

fn place(name: &BucketName, tokens: &[String]) -> String {
    match tokens {
        [] => format!("bucket {name}"),
        tokens => format!(
            "bucket {name} (tokens that were made for the bucket that it replaces do not reach it, make new ones: {})",
            tokens.join(", ")
        ),
    }
}

/// Removes a bucket that did not get its original's name.
async fn leave(
    source: &Influxdb2Source,
    organization: &str,
    name: &BucketName,
    made: &Made,
    why: Failure,
) -> Failure {
    match source.api.bucket(organization, name).await {
        // The original has its name: what stands beside it is a copy.
        Ok(Some(standing)) if standing.id != made.id => match source.api.remove(&made.id).await {
            Ok(()) => why,
            Err(_) => Failure::Remains { bucket: made.id.clone(), why: why.reason() },
        },
        _ => why,
    }
}

/// Buckets that were made of a stream, all of them whole.
struct Loaded {
    made: Vec<Made>,
    /// What the captured buckets are called, in the same order.
    names: Vec<BucketName>,
    /// How many shards have deletions that the server did not take.
    undeleted: usize,
}

impl Loaded {
    fn deletions(&self) -> String {
        match self.undeleted {
            0 => String::new(),
            shards => format!(
                "; {shards} shards held deletions that the server had not worked into its files: what they deleted is back, \
                 delete it again"
            ),
        }
    }
}

/// Makes a bucket of every captured one, called as `plan` says for all of them before anything is made.
async fn load(
    source: &Influxdb2Source,
    organization: String,
    stream: Stream<'_>,
    plan: impl Fn(&Record) -> Result<Vec<BucketName>, Failure> + Send + 'static,
) -> Result<Loaded, Failure> {
    let mut loader = Loader::new(source.api.clone(), organization);
    let loaded = consume(stream, move |archive| {
        let loaded = loader.load(archive, plan);
        match loaded {
            Ok(()) => {
                Ok(Loaded { made: loader.made, names: loader.names, undeleted: loader.undeleted.len() })
            }
            Err(why) => Err(loader.undo(why)),
        }
    });
    joined(loaded.await)
}

/// What fills buckets with what a stream holds, on a thread that may block.
struct Loader {
    api: Api,
    organization: String,
    runtime: Handle,
    made: Vec<Made>,
    names: Vec<BucketName>,
    /// The new numbers of shards.
    shards: HashMap<u64, u64>,
    /// Shards with deletions that the server does not take.
    undeleted: BTreeSet<u64>,
}

impl Loader {
    fn new(api: Api, organization: String) -> Self {
        Self {
            api,
            organization,
            runtime: Handle::current(),
            made: Vec::new(),
            names: Vec::new(),
            shards: HashMap::new(),
            undeleted: BTreeSet::new(),
        }
    }

    fn load(
        &mut self,
        archive: impl Read,
        plan: impl Fn(&Record) -> Result<Vec<BucketName>, Failure>,
    ) -> Result<(), Failure> {
        let mut archive = Reader::new(archive);
        let record = Record::read(&mut archive)?;
        for (bucket, new) in record.buckets.iter().zip(plan(&record)?) {
            self.make(bucket, &new)?;
        }
        self.fill(&mut archive)
    }

    fn make(&mut self, bucket: &Bucket, new: &BucketName) -> Result<(), Failure> {
        self.names.push(BucketName::parse(bucket.name())?);
        let manifest = bucket.as_another(new.as_str(), &self.organization);
        let made = self.runtime.block_on(self.api.make(&manifest))?;
        self.shards.extend(made.shard_mappings.iter().map(|shard| (shard.old_id, shard.new_id)));
        self.made.push(made);
        Ok(())
    }

    fn fill(&mut self, archive: &mut Reader<impl Read>) -> Result<(), Failure> {
        let mut current: Option<(u64, Upload)> = None;
        while let Some(member) = archive.next().map_err(Failure::Stream)? {
            let member = Member::parse(&member)?;
            let (shard, name, size) = match &member {
                Member::Shard(_) | Member::Own { .. } => continue,
                Member::File { shard, name, size, .. } => (*shard, name, *size),
            };
            if name.is_deletions() {
                self.undeleted.insert(shard);
            }
            if !name.is_data() {
                continue;
            }
            let mut upload = match current.take() {
                Some((of, upload)) if of == shard => upload,
                other => {
                    other.map_or(Ok(()), |(_, upload)| upload.finish())?;
                    let new = self.new_number(shard)?;
                    Upload::begin(&self.api, new, &self.runtime)
                }
            };
            upload.write(member.head(0).into())?;
            points(archive, shard, size, &mut upload)?;
            upload.write(vec![0; padding(size)].into())?;
            current = Some((shard, upload));
        }
        current.map_or(Ok(()), |(_, upload)| upload.finish())
    }

    /// The number of the shard that takes what was captured of another; each takes it once.
    fn new_number(&mut self, shard: u64) -> Result<u64, Failure> {
        let none = || {
            Failure::Incomplete(format!(
                "the stream's record does not tell of shard {shard}, or it comes twice"
            ))
        };
        self.shards.remove(&shard).ok_or_else(none)
    }

    /// Removes what was made. The failure that made it incomplete is the one to tell.
    fn undo(&self, why: Failure) -> Failure {
        let removed = self.made.iter().map(|made| (made, self.runtime.block_on(self.api.remove(&made.id))));
        let left: Vec<&str> =
            removed.filter(|(_, done)| done.is_err()).map(|(made, _)| made.id.as_str()).collect();
        match left.as_slice() {
            [] => why,
            left => Failure::Remains { bucket: left.join(", "), why: why.reason() },
        }
    }
}

/// What a file of points begins with (InfluxDB's `tsdb/engine/tsm1/reader.go`): a number and a version.
const MAGIC: [u8; 5] = [0x16, 0xd1, 0x16, 0xd1, 1];

/// Hands on a file of points. The server says nothing of one that it can't read, and leaves it out.
fn points(archive: &mut impl Read, shard: u64, size: u64, upload: &mut Upload) -> Result<(), Failure> {
    let mut begun = false;
    let none = || Failure::Incomplete(format!("what shard {shard} holds is no file of points"));
    content(archive, size, |piece| {
        if !begun && !piece.starts_with(&MAGIC) {
            return Err(none());
        }
        begun = true;
        upload.write(piece.freeze())
    })?;
    // An empty one has no piece.
    if begun { Ok(()) } else { Err(none()) }
}

/// Reads all of a member, by pieces.
fn content(
    archive: &mut impl Read,
    size: u64,
    mut take: impl FnMut(BytesMut) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut left = size;
    while left > 0 {
        let mut piece = BytesMut::zeroed(left.min(CHUNK as u64) as usize);
        archive.read_exact(&mut piece).map_err(Failure::Stream)?;
        left -= piece.len() as u64;
        take(piece)?;
    }
    Ok(())
}

fn extract(archive: impl Read, root: &Path) -> Result<(), Failure> {
    let mut archive = Reader::new(archive);
    let record = Record::read(&mut archive)?;
    let text = serde_json::to_vec_pretty(&record).map_err(|error| Failure::Folder(error.into()))?;
    io::Write::write_all(&mut new_file(&root.join(RECORD))?, &text).map_err(Failure::Folder)?;
    while let Some(member) = archive.next().map_err(Failure::Stream)? {
        match Member::parse(&member)? {
            Member::Shard(number) => DirBuilder::new()
                .mode(0o700)
                .create(root.join(number.to_string()))
                .map_err(Failure::Folder)?,
            Member::Own { own, size } => write(&mut archive, size, &root.join(layout::file_of(own)))?,
            Member::File { shard, name, size, .. } => {
                write(&mut archive, size, &root.join(shard.to_string()).join(name.as_str()))?;
            }
        }
    }
    let opened = File::open(root).map_err(Failure::Folder)?;
    rustix::fs::syncfs(&opened).map_err(|error| Failure::Folder(error.into()))
}

fn write(archive: &mut impl Read, size: u64, path: &Path) -> Result<(), Failure> {
    let mut file = new_file(path)?;
    content(archive, size, |piece| io::Write::write_all(&mut file, &piece).map_err(Failure::Folder))
}

fn new_file(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(Failure::Folder)
}

/// Removes what a failed extraction left in a folder that was empty before. The failure is the one to tell.
fn clear(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let _ = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(entry.path()),
            _ => fs::remove_file(entry.path()),
        };
    }
}

fn joined<T>(ended: Result<Result<T, Failure>, tokio::task::JoinError>) -> Result<T, Failure> {
    ended.unwrap_or_else(|died| Err(Failure::Stream(io::Error::other(died))))
}
