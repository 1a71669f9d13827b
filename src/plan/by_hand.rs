//! What a person types to do by hand what a recovery does: with the recovery kit and the engines' own programs, without Backstay.
//!
//! The same lines stand in runbooks and are run by drills: as text for a shell, and as programs that are started without one.
//!
//! ```text
//! fetch, bring   a backup out of a store: here
//! load           into its source, each engine's own way
//! replay         its log over that
//! connection     how engines' programs are told of a server
//! reach          machines: ssh, playbooks, and waiting for what must be there
//! switch         traffic
//! renewal        what a provider keeps
//! ```
//!
//! What makes a machine tells its own lines: [`MadeByHand`].

mod connection;
pub mod load;
pub mod reach;
pub mod renewal;
pub mod replay;
pub mod switch;

use std::fmt;

use crate::{
    artifact::{ArtifactId, manifest::Moment},
    spec::{
        StorePlace,
        names::{FleetName, FolderName},
    },
};

/// A program with its arguments, its input from a file and its output into one where they are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The program and its arguments.
    pub program: Vec<String>,
    /// The file that it reads.
    pub input: Option<String>,
    /// The file that it writes, over one that is there.
    pub output: Option<String>,
}

impl Line {
    /// A program with its arguments.
    pub fn of<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { program: words.into_iter().map(Into::into).collect(), input: None, output: None }
    }

    /// The same, reading a file.
    #[must_use]
    pub fn reading(self, file: impl Into<String>) -> Self {
        Self { input: Some(file.into()), ..self }
    }

    /// The same, writing a file.
    #[must_use]
    pub fn writing(self, file: impl Into<String>) -> Self {
        Self { output: Some(file.into()), ..self }
    }
}

/// `mariadb --user=root shop < out/01-shop.sql`
impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.program.iter().map(|word| quoted(word)).collect();
        f.write_str(&words.join(" "))?;
        self.input.as_ref().map_or(Ok(()), |file| write!(f, " < {}", quoted(file)))?;
        self.output.as_ref().map_or(Ok(()), |file| write!(f, " > {}", quoted(file)))
    }
}

/// A word as a POSIX shell reads it back (Shell Command Language, 2.2 Quoting).
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A step that is done by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hand {
    /// This is typed.
    Type(Line),
    /// This is typed again and again until it succeeds.
    Await(Line),
    /// This is to be known or done first.
    Know(String),
}

/// As it is typed in a shell, or read.
impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hand::Type(line) => line.fmt(f),
            Hand::Await(line) => write!(f, "until {line}; do sleep {AGAIN}; done"),
            Hand::Know(text) => f.write_str(text),
        }
    }
}

/// How long is waited before a line is typed again, seconds.
const AGAIN: u32 = 5;

/// A file that what is typed reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Where it must lie, from the folder in which is typed.
    pub path: String,
    /// What it must hold.
    pub content: String,
}

/// How something is made by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeByHand {
    /// The files that are needed for it. None holds a secret.
    pub files: Vec<Prepared>,
    /// What is typed, in this order.
    pub hands: Vec<Hand>,
}

/// What a manifest tells of an artifact that is brought out by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The name of its stream.
    pub stream: String,
    /// What it represents.
    pub moment: Moment,
    /// The version of the server that it is of, where that is told and can be read.
    pub server: Option<String>,
}

/// An artifact that was brought out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    /// The file that holds its stream.
    pub file: String,
    /// What it is.
    pub stored: Stored,
}

/// The files that [`bring`] writes into `out` for these artifacts, each with those that it requires before it.
pub fn brought(out: &str, artifacts: impl IntoIterator<Item = Stored>) -> Vec<Brought> {
    let named = |(number, stored): (usize, Stored)| {
        let file = format!("{out}/{:02}-{}", number + 1, stored.stream);
        Brought { file, stored }
    };
    artifacts.into_iter().enumerate().map(named).collect()
}

/// Where what is restored by hand lies, and what is needed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// The new folder for what becomes files.
    pub data: String,
    /// The new folder for logs and what is made of them.
    pub log: String,
    /// The file of [`MadeByHand::files`] that what is typed reads.
    pub prepared: String,
    /// The file that a person puts there for a program to log in with.
    pub login: String,
}

fn line<const N: usize>(program: [&str; N]) -> Line {
    Line::of(program)
}

fn typed(program: Vec<String>, input: Option<&str>) -> Hand {
    Hand::Type(Line { input: input.map(str::to_owned), ..Line::of(program) })
}

/// Where what is needed lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The kit's `restore.sh`.
    pub script: String,
    /// The kit's `allowed_signers`.
    pub signers: String,
    /// The age identity of one of the recipients.
    pub identity: String,
    /// The folder that holds the store's content.
    pub store: String,
    /// The new folder for what comes out.
    pub out: String,
}

/// What brings a backup's objects from a store into the folder `to`.
pub fn fetch(store: &StorePlace, fleet: &FleetName, backup: &FolderName, to: &str) -> Vec<Hand> {
    let target = format!("{to}/{fleet}");
    let fetched = match store {
        StorePlace::Local { path } => {
            let text = format!("the store is {}: use that folder as {to}, or a copy of it", path.display());
            return vec![Hand::Know(text)];
        }
        StorePlace::Sftp(sftp) => {
            let root = sftp.path.trim_end_matches('/');
            let from = format!("{}@{}:{root}/{fleet}/{backup}", sftp.user, sftp.host);
            // Into a folder that is there it makes the backup's own.
            Hand::Type(line(["sftp", "-r", "-P", &sftp.port.to_string(), &from, &format!("{target}/")]))
        }
        StorePlace::S3(s3) => {
            let prefix = [s3.prefix.as_str(), fleet.as_str(), backup.as_str()];
            let key = prefix.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            let from = format!("s3://{}/{key}", s3.bucket);
            let mut words = line(["aws", "s3", "sync", &from, &format!("{target}/{backup}")]);
            words.program.extend(["--region".to_owned(), s3.region.clone()]);
            words
                .program
                .extend(s3.endpoint.iter().flat_map(|url| ["--endpoint-url".to_owned(), url.clone()]));
            Hand::Type(words)
        }
        StorePlace::Azblob { account, container, .. } => Hand::Know(format!(
            "download {fleet}/{backup} of container {container} of {account} into {target}"
        )),
        StorePlace::Gcs { bucket, .. } => {
            Hand::Know(format!("download {fleet}/{backup} of bucket {bucket} into {target}"))
        }
    };
    vec![made(&target), fetched]
}

/// What checks and decrypts an artifact, with those that it requires; and behind it its logs.
pub fn bring(
    place: &Place,
    fleet: &FleetName,
    backup: &FolderName,
    artifact: ArtifactId,
    logs: &[ArtifactId],
) -> Line {
    let head = ["sh", &place.script, "-s", &place.signers, "-i", &place.identity, &place.store];
    let names = [fleet.as_str(), backup.as_str()];
    let words = head.into_iter().chain(names).map(str::to_owned);
    let artifacts = std::iter::once(&artifact).chain(logs).map(ToString::to_string);
    Line::of(words.chain(artifacts).chain([place.out.clone()]))
}

fn made(folder: &str) -> Hand {
    Hand::Type(line(["mkdir", "-p", "-m", "700", folder]))
}

/// Makes a folder that must not be there: what it holds would be mixed with what comes.
fn made_new(folder: &str) -> Hand {
    Hand::Type(line(["mkdir", "-m", "700", folder]))
}

fn unpacked(archive: &str, folder: &str) -> Hand {
    Hand::Type(line(["tar", "-xf", archive, "-C", folder]))
}
