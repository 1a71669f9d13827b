//! What is captured, and from where.

use std::path::PathBuf;

use super::{Change, Draft, Weight, words};
use crate::artifact::manifest::Counting;
use crate::spec::{
    Atlas, BinaryLogs, Dynamodb, Etcd, Jobs, LogFrom, Mysql, MysqlMethod, PostgresMethod, Rds, Redis, S3,
    SecretRef, Server, Sftp, Source, StorePlace, TableMethod, Tls,
};

/// The keys of a declared place or source and their values, and the secrets that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Keys and values, in the order of keys.
    pub values: Vec<(&'static str, String)>,
    /// Keys and references.
    pub secrets: Vec<(&'static str, SecretRef)>,
}

impl Traits {
    fn of(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self { values: values.into_iter().collect(), secrets: Vec::new() }
    }

    fn with(mut self, key: &'static str, secret: Option<&SecretRef>) -> Self {
        self.secrets.extend(secret.map(|secret| (key, secret.clone())));
        self
    }

    fn value(&self, key: &str) -> Option<&str> {
        self.values.iter().find(|(name, _)| *name == key).map(|(_, value)| value.as_str())
    }

    fn secret(&self, key: &str) -> Option<&SecretRef> {
        self.secrets.iter().find(|(name, _)| *name == key).map(|(_, secret)| secret)
    }
}

/// Notes every key in which two differ. `weight` is that of a changed value.
pub fn compare(
    subject: [&str; 2],
    (weight, code): (Weight, &'static str),
    (before, after): (&Traits, &Traits),
    draft: &mut Draft,
) {
    for key in keys(before.values.iter().chain(&after.values).map(|(key, _)| *key)) {
        let (old, new) = (before.value(key), after.value(key));
        if old != new {
            both(draft.note(weight, code, subject, words::quoted(key)), old, new);
        }
    }
    for key in keys(before.secrets.iter().chain(&after.secrets).map(|(key, _)| *key)) {
        let (old, new) = (before.secret(key).map(words::secret), after.secret(key).map(words::secret));
        if old != new {
            let change = draft.note(Weight::Notice, "secret-changed", subject, format!("secret `{key}`"));
            both(change, old.as_deref(), new.as_deref());
            change.detail(
                "the controller's `allow.secrets` must bind the new reference to the host it is sent to",
            );
        }
    }
}

fn both(change: &mut Change, old: Option<&str>, new: Option<&str>) {
    change.from(old.unwrap_or("none")).to(new.unwrap_or("none"));
}

fn keys(all: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut keys: Vec<_> = all.collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What a source is.
pub fn source(source: &Source) -> Traits {
    match source {
        Source::Files(files) => Traits::of([
            ("paths", list(files.paths.iter().map(|path| path.to_string_lossy()))),
            ("exclude", list(files.exclude.iter().map(String::as_str))),
        ]),
        Source::Sqlite { path } => Traits::of([("path", words::plain(&path.to_string_lossy()))]),
        Source::Mysql(it) => mysql(it),
        Source::Postgres(postgres) => {
            let mut traits = server(&postgres.server);
            match &postgres.method {
                PostgresMethod::Logical => {
                    traits.values.push(("method", words::plain("logical")));
                    let jobs = (postgres.jobs != Jobs::ONE).then(|| postgres.jobs.count().to_string());
                    traits.values.extend(jobs.map(|jobs| ("jobs", jobs)));
                    traits.values.extend(checksums(postgres.counting));
                }
                PostgresMethod::Physical { log, data_dir } => {
                    traits.values.push(("method", words::plain("physical")));
                    traits.values.push(match log {
                        LogFrom::Slot(slot) => ("slot", words::plain(slot.as_str())),
                        LogFrom::Archive => ("log_from", words::plain("archive")),
                    });
                    let data_dir = data_dir.as_ref().map(|path| words::plain(&path.to_string_lossy()));
                    traits.values.extend(data_dir.map(|path| ("data_dir", path)));
                }
            }
            traits
        }
        Source::Mongodb(mongodb) => {
            let mut traits = server(&mongodb.server);
            traits.values.push(("auth_database", words::plain(&mongodb.auth_database)));
            traits
        }
        Source::Influxdb(it) => {
            let mut traits = server(&it.server);
            traits.values.push(("rpc_port", it.rpc_port.to_string()));
            traits.values.push(("retention_policy", optional(it.retention_policy.as_deref())));
            traits
        }
        Source::Influxdb2(it) => Traits::of([
            ("url", words::plain(&it.url)),
            ("org", words::plain(&it.org)),
            ("buckets", if it.buckets.is_empty() { "all".to_owned() } else { list(it.buckets.iter()) }),
            ("tls", tls(&it.tls)),
        ])
        .with("token", Some(&it.token)),
        Source::Redis(it) => redis(it),
        Source::Etcd(it) => etcd(it),
        Source::Dynamodb(it) => dynamodb(it),
        Source::Rds(it) => rds(it),
        Source::Atlas(it) => atlas(it),
        Source::S3(it) => bucket(it),
    }
}

/// What a store's place is.
pub fn place(place: &StorePlace) -> Traits {
    match place {
        StorePlace::Local { path } => Traits::of([("path", words::plain(&path.to_string_lossy()))]),
        StorePlace::Sftp(it) => sftp(it),
        StorePlace::S3(it) => bucket(it),
        StorePlace::Azblob { account, container, prefix, endpoint, key } => Traits::of([
            ("account", words::plain(account)),
            ("container", words::plain(container)),
            ("prefix", words::plain(prefix)),
            ("endpoint", optional(endpoint.as_deref())),
        ])
        .with("key", key.as_ref()),
        StorePlace::Gcs { bucket, prefix, endpoint, credential } => Traits::of([
            ("bucket", words::plain(bucket)),
            ("prefix", words::plain(prefix)),
            ("endpoint", optional(endpoint.as_deref())),
        ])
        .with("credential", credential.as_ref()),
    }
}

fn server(server: &Server) -> Traits {
    let socket = server.socket.as_ref().map(|path| path.to_string_lossy().into_owned());
    let databases = match server.databases.as_slice() {
        [] => "all".to_owned(),
        some => list(some.iter().map(String::as_str)),
    };
    Traits::of([
        ("host", words::plain(&server.host)),
        ("port", server.port.map_or_else(|| "default".to_owned(), |port| port.to_string())),
        ("socket", optional(socket.as_deref())),
        ("user", optional(server.user.as_deref())),
        ("databases", databases),
        ("tls", tls(&server.tls)),
    ])
    .with("password", server.password.as_ref())
}

fn mysql(it: &Mysql) -> Traits {
    let mut traits = server(&it.server);
    match &it.method {
        MysqlMethod::Logical => {
            traits.values.push(("method", words::plain("logical")));
            traits.values.extend(checksums(it.counting));
        }
        MysqlMethod::Physical { data_dir } => {
            traits.values.push(("method", words::plain("physical")));
            traits.values.push(("data_dir", words::plain(&data_dir.to_string_lossy())));
        }
    }
    let purged = if it.binary_logs == BinaryLogs::Purged { "true" } else { "false" };
    traits.values.push(("purge_binary_logs", words::plain(purged)));
    traits
}

fn checksums(counting: Counting) -> Option<(&'static str, String)> {
    (counting == Counting::Rows).then(|| ("checksums", words::plain("false")))
}

fn redis(it: &Redis) -> Traits {
    Traits::of([
        ("host", words::plain(&it.host)),
        ("port", it.port.to_string()),
        ("user", optional(it.user.as_deref())),
        ("tls", tls(&it.tls)),
    ])
    .with("password", it.password.as_ref())
}

fn etcd(it: &Etcd) -> Traits {
    let path = |path: Option<&PathBuf>| optional(path.map(|path| path.to_string_lossy()).as_deref());
    Traits::of([
        ("endpoints", list(it.endpoints.iter().map(String::as_str))),
        ("user", optional(it.login.as_ref().map(|login| login.user.as_str()))),
        ("ca", path(it.ca.as_ref())),
        ("cert", path(it.certificate.as_ref().map(|certificate| &certificate.path))),
    ])
    .with("password", it.login.as_ref().map(|login| &login.password))
    .with("key", it.certificate.as_ref().map(|certificate| &certificate.key))
}

fn dynamodb(it: &Dynamodb) -> Traits {
    Traits::of([
        ("region", words::plain(&it.region)),
        ("table", words::plain(&it.table)),
        ("endpoint", optional(it.endpoint.as_deref())),
        ("method", words::plain(if it.method == TableMethod::Native { "native" } else { "logical" })),
        ("point_in_time", optional(it.protection.point_in_time.map(|it| it.to_string()).as_deref())),
    ])
    .with("access_key_id", it.credentials.as_ref().map(|keys| &keys.access_key_id))
    .with("secret_access_key", it.credentials.as_ref().map(|keys| &keys.secret_access_key))
}

fn rds(it: &Rds) -> Traits {
    Traits::of([
        ("region", words::plain(&it.region)),
        ("instance", words::plain(&it.instance)),
        ("endpoint", optional(it.endpoint.as_deref())),
        ("point_in_time", optional(it.protection.point_in_time.map(|it| it.to_string()).as_deref())),
        ("backup_window", optional(it.protection.backup_window.as_ref().map(|it| it.as_str()))),
    ])
    .with("access_key_id", it.credentials.as_ref().map(|keys| &keys.access_key_id))
    .with("secret_access_key", it.credentials.as_ref().map(|keys| &keys.secret_access_key))
}

fn atlas(it: &Atlas) -> Traits {
    let protection = &it.protection;
    let snapshots = protection.snapshots.iter().flatten().map(ToString::to_string);
    Traits::of([
        ("url", words::plain(&it.url)),
        ("project", words::plain(&it.project)),
        ("cluster", words::plain(&it.cluster)),
        ("point_in_time", optional(protection.point_in_time.map(|it| it.to_string()).as_deref())),
        ("snapshots", list(snapshots)),
        ("snapshot_time", optional(protection.snapshot_time.map(|it| it.to_string()).as_deref())),
    ])
    .with("client_id", Some(&it.account.client_id))
    .with("client_secret", Some(&it.account.client_secret))
}

fn tls(tls: &Tls) -> String {
    match tls {
        Tls::Default => "default".to_owned(),
        Tls::Verified { ca } => format!("verified by {}", words::plain(&ca.to_string_lossy())),
    }
}

fn sftp(it: &Sftp) -> Traits {
    Traits::of([
        ("host", words::plain(&it.host)),
        ("port", it.port.to_string()),
        ("user", words::plain(&it.user)),
        ("path", words::plain(&it.path)),
        ("host_key", words::plain(&it.host_key)),
    ])
    .with("identity", Some(&it.identity))
}

fn bucket(it: &S3) -> Traits {
    Traits::of([
        ("bucket", words::plain(&it.bucket)),
        ("region", words::plain(&it.region)),
        ("endpoint", optional(it.endpoint.as_deref())),
        ("prefix", words::plain(&it.prefix)),
    ])
    .with("access_key_id", it.credentials.as_ref().map(|keys| &keys.access_key_id))
    .with("secret_access_key", it.credentials.as_ref().map(|keys| &keys.secret_access_key))
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), words::plain)
}

fn list<T: AsRef<str>>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| words::plain(item.as_ref())).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}
