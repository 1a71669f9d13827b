//! What a person types to do by hand what a recovery does: with the recovery kit and the engines' own programs, without Backstay.
//!
//! The same lines stand in runbooks and are run by drills: as text for a shell, and as programs that are started without one.
//!
//! ```text
//! fetch, bring, load   a backup out of a store and into its source
//! reach                machines: ssh, playbooks, and waiting for what must be there
//! switch               traffic
//! renewal              what a provider keeps
//! ```
//!
//! What makes a machine tells its own lines: [`MadeByHand`].

pub mod reach;
pub mod renewal;
pub mod switch;

use std::fmt;

use crate::{
    artifact::ArtifactId,
    spec::{
        Postgres, PostgresMethod, Server, Source, StorePlace,
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

/// What checks and decrypts an artifact, with those that it requires.
pub fn bring(place: &Place, fleet: &FleetName, backup: &FolderName, artifact: ArtifactId) -> Line {
    line([
        "sh",
        &place.script,
        "-s",
        &place.signers,
        "-i",
        &place.identity,
        &place.store,
        fleet.as_str(),
        backup.as_str(),
        &artifact.to_string(),
        &place.out,
    ])
}

/// What loads what came out, `files` in their order, into a source that is empty; for files and archives into the folder `folder`.
pub fn load(source: &Source, files: &[String], folder: &str) -> Vec<Hand> {
    let Some(file) = files.last() else { return Vec::new() };
    match source {
        Source::Mysql(mysql) if mysql.method == crate::spec::MysqlMethod::Logical => {
            mysql_dump(&mysql.server, file)
        }
        Source::Mysql(_) => vec![Hand::Know(
            "see \"By hand\" in docs/mysql.md: mbstream and mariabackup --prepare, once for each file".into(),
        )],
        Source::Postgres(postgres) => match (&postgres.method, postgres.server.databases.as_slice()) {
            (PostgresMethod::Logical, [one]) => postgres_archive(postgres, one, file),
            (PostgresMethod::Logical, _) => {
                let connection = postgres_connection(&postgres.server);
                let words = ["psql"].map(str::to_owned).into_iter().chain(connection);
                let rest = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname=postgres", "--file"];
                vec![typed(words.chain(rest.map(str::to_owned)).chain([file.clone()]).collect(), None)]
            }
            (PostgresMethod::Physical { .. }, _) => vec![
                Hand::Type(line(["mkdir", "-m", "700", folder])),
                Hand::Type(line(["tar", "-xf", file, "-C", folder])),
                Hand::Know(format!(
                    "give {folder} to the server's user, and start PostgreSQL of the same version on it"
                )),
            ],
        },
        Source::Sqlite { path } => {
            let name = path.file_name().map_or("database.sqlite".into(), |name| name.to_string_lossy());
            vec![made(folder), Hand::Type(line(["cp", "--no-clobber", file, &format!("{folder}/{name}")]))]
        }
        Source::Files(_) => vec![made(folder), Hand::Type(line(["tar", "-xpf", file, "-C", folder]))],
        Source::Influxdb(influxdb) => {
            let host = format!("{}:{}", influxdb.server.host, influxdb.rpc_port);
            let mut all = vec![made(folder), Hand::Type(line(["tar", "-xf", file, "-C", folder]))];
            all.extend(influxdb.server.databases.iter().map(|name| {
                let from = format!("{folder}/{name}");
                Hand::Type(line(["influxd", "restore", "-portable", "-host", &host, "-db", name, &from]))
            }));
            if influxdb.server.databases.is_empty() {
                all.push(Hand::Know(format!(
                    "influxd restore -portable -host {host} -db NAME {folder}/NAME, for each"
                )));
            }
            all
        }
        Source::Mongodb(_) => vec![Hand::Type(line(["mongorestore", &format!("--archive={file}")]))],
        Source::S3(s3) => vec![
            made(folder),
            Hand::Type(line(["tar", "-xf", file, "-C", folder])),
            Hand::Know("a version's name ends in ?versionId=…, the newest of a name comes first".into()),
            Hand::Type(line(["aws", "s3", "sync", folder, &format!("s3://{}", s3.bucket)])),
        ],
        Source::Redis(_) => {
            vec![Hand::Know(format!("start Redis with --dir and --dbfilename of {file}: docs/redis.md"))]
        }
        Source::Etcd(_) => {
            vec![Hand::Type(line(["etcdutl", "snapshot", "restore", file, "--data-dir", folder]))]
        }
        Source::Influxdb2(_) => vec![Hand::Know("see \"By hand\" in docs/influxdb2.md".into())],
        Source::Dynamodb(_) => vec![Hand::Know("see \"By hand\" in docs/dynamodb.md".into())],
        Source::Rds(_) => {
            vec![Hand::Know("see docs/providers.md: its snapshots become new instances".into())]
        }
        Source::Atlas(_) => {
            vec![Hand::Know("see docs/atlas.md: Atlas restores its snapshots into clusters".into())]
        }
    }
}

fn made(folder: &str) -> Hand {
    Hand::Type(line(["mkdir", "-p", "-m", "700", folder]))
}

fn mysql_dump(server: &Server, file: &str) -> Vec<Hand> {
    let client = |rest: Vec<String>| {
        ["mariadb".to_owned()].into_iter().chain(mysql_connection(server)).chain(rest).collect()
    };
    match server.databases.as_slice() {
        [one] => {
            let create = format!("--execute=CREATE DATABASE `{}`", one.replace('`', "``"));
            vec![typed(client(vec![create]), None), typed(client(vec![one.clone()]), Some(file))]
        }
        _ => vec![typed(client(Vec::new()), Some(file))],
    }
}

fn mysql_connection(server: &Server) -> Vec<String> {
    let user = server.user.iter().map(|user| format!("--user={user}"));
    // The client asks for it on the terminal.
    let password = server.password.iter().map(|_| "--password".to_owned());
    user.chain(address(server, "--socket")).chain(password).collect()
}

fn postgres_archive(postgres: &Postgres, database: &str, file: &str) -> Vec<Hand> {
    let server = &postgres.server;
    let connection = postgres_connection(server);
    let program = |name: &str, rest: Vec<String>| {
        typed([name.to_owned()].into_iter().chain(connection.clone()).chain(rest).collect(), None)
    };
    let into = format!("--dbname={database}");
    let restore = |more: &[&str]| {
        let words = ["--no-owner", "--no-privileges", "--exit-on-error", &into]
            .into_iter()
            .chain(more.iter().copied());
        program("pg_restore", words.map(str::to_owned).collect())
    };
    let mut all = vec![
        Hand::Know(
            "an archive of one database holds no roles: it comes back without owners and grants".into(),
        ),
        program("createdb", vec!["--maintenance-db=postgres".to_owned(), database.to_owned()]),
    ];
    match file.strip_suffix(".tar") {
        // What several jobs have made is a directory, which several can load.
        Some(folder) => all.extend([
            made(folder),
            Hand::Type(line(["tar", "-xf", file, "-C", folder])),
            restore(&[&format!("--jobs={}", postgres.jobs.count()), folder]),
        ]),
        None => all.push(restore(&[file])),
    }
    all
}

fn postgres_connection(server: &Server) -> Vec<String> {
    let user = server.user.iter().map(|user| format!("--username={user}"));
    let address = match &server.socket {
        // Its clients take the folder of the socket for the host.
        Some(socket) => {
            let folder = socket.parent().map(|folder| format!("--host={}", folder.display()));
            folder.into_iter().collect()
        }
        None => address(server, "--socket"),
    };
    user.chain(address).collect()
}

fn address(server: &Server, socket: &str) -> Vec<String> {
    match &server.socket {
        Some(path) => vec![format!("{socket}={}", path.display())],
        None => {
            let port = server.port.map(|port| format!("--port={port}"));
            [format!("--host={}", server.host)].into_iter().chain(port).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{BinaryLogs, Mysql, MysqlMethod, SecretRef, Tls};

    #[test]
    fn words_are_quoted_as_a_shell_reads_them_back_and_no_password_is_printed() {
        let server = Server {
            host: "pavroto-2".into(),
            port: Some(3306),
            socket: None,
            user: Some("backup".into()),
            password: Some(SecretRef::File("/etc/backstay/secrets/agama".into())),
            databases: vec!["a`b 'c".into()],
            tls: Tls::Default,
        };
        let mysql = Mysql { server, method: MysqlMethod::Logical, binary_logs: BinaryLogs::Left };
        let hands = load(&Source::Mysql(mysql), &["out/01-a b.sql".to_owned()], "out");
        let lines: Vec<String> = hands.iter().map(ToString::to_string).collect();
        let connection = "mariadb --user=backup --host=pavroto-2 --port=3306 --password";
        assert_eq!(
            lines,
            [
                format!(r"{connection} '--execute=CREATE DATABASE `a``b '\''c`'"),
                format!(r"{connection} 'a`b '\''c' < 'out/01-a b.sql'"),
            ]
        );
    }
}
