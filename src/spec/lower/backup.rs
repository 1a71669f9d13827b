//! Backups and their sources.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Lower, below, line, show, store::secret, word};
use crate::artifact::{Kind, manifest::Counting};
use crate::spec::{
    Accounts, Backup, BinaryLogs, ClientCertificate, Dynamodb, Etcd, Files, Influxdb, Influxdb2, Jobs,
    LogFrom, Login, Mongodb, Mysql, MysqlMethod, Policy, Postgres, PostgresMethod, Protection, Rds, Redis,
    SelfHeal, Server, SlotName, Source, TableMethod, Tls,
    names::{BackupName, INFRA, PolicyName},
    places::{Path, path},
    schema,
    values::{Line, Name, Text, Word},
};

/// Where MariaDB's packages keep its data.
const DATA_DIR: &str = "/var/lib/mysql";
/// Where InfluxDB's backup service listens by default.
const RPC_PORT: u16 = 8088;
/// Where Redis listens by default.
const REDIS_PORT: u16 = 6379;

impl Lower<'_> {
    pub(super) fn backup(
        &mut self,
        name: &BackupName,
        mut backup: schema::Backup,
        policies: &BTreeMap<PolicyName, Policy>,
    ) -> Option<Backup> {
        let at = path(["backup", name.as_str()]);
        if name.is_infra() {
            let message = format!("[backup.{INFRA}] takes the name of the infra repo's own backup");
            self.error("invalid-name", &at, message, "use [infra] for that, or another name");
        }
        let stores = self.stores(&at, backup.stores.take());
        let keep_in = self.keep_in(&at, std::mem::take(&mut backup.keep_in), &stores);
        let contact = backup
            .contact
            .take()
            .and_then(|Text(Name(contact))| self.reference("contact", &below(&at, ["contact"]), &contact));
        let policy: Option<PolicyName> = backup
            .policy
            .take()
            .and_then(|Text(Name(policy))| self.reference("policy", &below(&at, ["policy"]), &policy));
        let description = line(backup.description.take());
        let self_heal = SelfHeal::declared(backup.self_heal);
        let accounts = match backup.accounts {
            Some(schema::Accounts::Elsewhere) => Accounts::Elsewhere,
            None => Accounts::Undeclared,
        };
        let source = self.source(&at, name, backup)?;
        let mut policy = policies.get(&policy?)?.clone();
        if source.leaves_its_log() {
            policy.schedules.remove(&Kind::Log);
        }
        let name = name.clone();
        Some(Backup { name, description, source, policy, stores, keep_in, contact, self_heal, accounts })
    }

    fn source(&mut self, at: &Path, name: &BackupName, backup: schema::Backup) -> Option<Source> {
        match backup {
            schema::Backup { files: Some(files), .. } => self.files(&below(at, ["files", "paths"]), files),
            schema::Backup { sqlite: Some(sqlite), .. } => Some(Source::Sqlite { path: sqlite.path?.0.0 }),
            schema::Backup { mysql: Some(mysql), .. } => {
                self.mysql(&below(at, ["mysql"]), mysql).map(Source::Mysql)
            }
            schema::Backup { postgres: Some(postgres), .. } => {
                self.postgres(&below(at, ["postgres"]), name, postgres).map(Source::Postgres)
            }
            schema::Backup { mongodb: Some(mongodb), .. } => mongodb_of(mongodb).map(Source::Mongodb),
            schema::Backup { influxdb: Some(influxdb), .. } => {
                self.influxdb(&below(at, ["influxdb"]), influxdb).map(Source::Influxdb)
            }
            schema::Backup { influxdb2: Some(influxdb2), .. } => {
                self.influxdb2(&below(at, ["influxdb2"]), influxdb2).map(Source::Influxdb2)
            }
            schema::Backup { redis: Some(redis), .. } => {
                self.redis(&below(at, ["redis"]), redis).map(Source::Redis)
            }
            schema::Backup { etcd: Some(etcd), .. } => {
                self.etcd(&below(at, ["etcd"]), etcd).map(Source::Etcd)
            }
            schema::Backup { dynamodb: Some(it), .. } => {
                self.dynamodb(&below(at, ["dynamodb"]), it).map(Source::Dynamodb)
            }
            schema::Backup { rds: Some(it), .. } => self.rds(&below(at, ["rds"]), it).map(Source::Rds),
            schema::Backup { atlas: Some(it), .. } => {
                self.atlas(&below(at, ["atlas"]), it).map(Source::Atlas)
            }
            schema::Backup { s3: Some(s3), .. } => self.s3(&below(at, ["s3"]), s3).map(Source::S3),
            _ => None,
        }
    }

    fn dynamodb(&mut self, at: &Path, dynamodb: schema::Dynamodb) -> Option<Dynamodb> {
        let schema::Dynamodb { region, table, endpoint, access_key_id, secret_access_key, .. } = dynamodb;
        let point_in_time = dynamodb.point_in_time.map(|Text(point_in_time)| point_in_time);
        Some(Dynamodb {
            protection: Protection { point_in_time, ..Protection::default() },
            method: match dynamodb.method {
                None | Some(schema::TableMethod::Logical) => TableMethod::Logical,
                Some(schema::TableMethod::Native) => TableMethod::Native,
            },
            credentials: self.access_key(at, access_key_id, secret_access_key),
            region: word(region)?,
            table: word(table)?,
            endpoint: endpoint.map(|url| url.0.0),
        })
    }

    fn rds(&mut self, at: &Path, rds: schema::Rds) -> Option<Rds> {
        let schema::Rds { region, instance, endpoint, access_key_id, secret_access_key, .. } = rds;
        Some(Rds {
            credentials: self.access_key(at, access_key_id, secret_access_key),
            region: word(region)?,
            instance: word(instance)?,
            endpoint: endpoint.map(|url| url.0.0),
            protection: Protection {
                point_in_time: rds.point_in_time.map(|Text(point_in_time)| point_in_time),
                backup_window: rds.backup_window.map(|Text(window)| window),
                ..Protection::default()
            },
        })
    }

    fn mysql(&mut self, at: &Path, mysql: schema::Mysql) -> Option<Mysql> {
        let schema::Mysql { host, port, socket, user, password, databases, tls, method, data_dir, .. } =
            mysql;
        let method = match method {
            None | Some(schema::Method::Logical) => MysqlMethod::Logical,
            Some(schema::Method::Physical) => MysqlMethod::Physical {
                data_dir: data_dir.clone().map_or_else(|| PathBuf::from(DATA_DIR), |data_dir| data_dir.0.0),
            },
        };
        if method == MysqlMethod::Logical && data_dir.is_some() {
            let message = "only a physical capture reads the server's data folder".to_owned();
            let hint = "remove it, or use method = \"physical\"";
            self.error("data-dir-without-physical", &below(at, ["data_dir"]), message, hint);
        }
        if method != MysqlMethod::Logical && databases.is_some() {
            self.physical_databases(at, "server");
        }
        let binary_logs = match mysql.purge_binary_logs {
            Some(true) => BinaryLogs::Purged,
            Some(false) | None => BinaryLogs::Left,
        };
        if method != MysqlMethod::Logical && mysql.checksums.is_some() {
            self.checksums_of_files(at);
        }
        let counting = counting(mysql.checksums);
        let server = schema::Server { host, port, socket, user, password, databases, tls };
        Some(Mysql { server: server_of(server)?, method, binary_logs, counting })
    }

    fn checksums_of_files(&mut self, at: &Path) {
        let message =
            "a physical capture reads files, and no rows of which it could take checksums".to_owned();
        let hint = "remove it, or use method = \"logical\"";
        self.error("checksums-of-files", &below(at, ["checksums"]), message, hint);
    }

    fn physical_databases(&mut self, at: &Path, whole: &str) {
        let message = format!("a physical capture holds the whole {whole}, not some of its databases");
        let hint = "remove `databases`, or use method = \"logical\"";
        self.error("physical-databases", &below(at, ["databases"]), message, hint);
    }

    fn postgres(&mut self, at: &Path, name: &BackupName, postgres: schema::Postgres) -> Option<Postgres> {
        let schema::Postgres {
            host,
            port,
            socket,
            user,
            password,
            databases,
            tls,
            method,
            slot,
            log_from,
            data_dir,
            jobs,
            checksums,
        } = postgres;
        let has_data_dir = data_dir.is_some();
        let method = match method {
            None | Some(schema::Method::Logical) => PostgresMethod::Logical,
            Some(schema::Method::Physical) => PostgresMethod::Physical {
                log: match log_from {
                    None | Some(schema::LogFrom::Slot) => {
                        LogFrom::Slot(slot.clone().map_or_else(|| SlotName::of(name), |Text(slot)| slot))
                    }
                    Some(schema::LogFrom::Archive) => LogFrom::Archive,
                },
                data_dir: data_dir.map(|data_dir| data_dir.0.0),
            },
        };
        if method == PostgresMethod::Logical && has_data_dir {
            let message = "a data folder is replaced by a physical capture only".to_owned();
            let hint = "remove it, or use method = \"physical\"";
            self.error("data-dir-without-physical", &below(at, ["data_dir"]), message, hint);
        }
        if method == PostgresMethod::Logical && log_from.is_some() {
            let message = "a log goes on from physical captures only".to_owned();
            let hint = "remove it, or use method = \"physical\"";
            self.error("log-from-without-log", &below(at, ["log_from"]), message, hint);
        }
        if log_from == Some(schema::LogFrom::Archive) && slot.is_some() {
            let message = "a log that comes from the server's archive has no slot".to_owned();
            self.error("slot-with-archive", &below(at, ["slot"]), message, "remove it, or `log_from`");
        }
        if method == PostgresMethod::Logical && slot.is_some() {
            let message = "a slot keeps the log, which goes on from physical captures only".to_owned();
            self.error(
                "slot-without-log",
                &below(at, ["slot"]),
                message,
                "remove it, or use method = \"physical\"",
            );
        }
        if method != PostgresMethod::Logical && databases.is_some() {
            self.physical_databases(at, "cluster");
        }
        let is_one = databases.as_ref().is_some_and(|databases| databases.len() == 1);
        if jobs.is_some() && (method != PostgresMethod::Logical || !is_one) {
            let message = "only the dump of a single database is made by several jobs".to_owned();
            let hint = "remove it, or declare one database in `databases`, without method = \"physical\"";
            self.error("jobs-of-one-database", &below(at, ["jobs"]), message, hint);
        }
        if method != PostgresMethod::Logical && checksums.is_some() {
            self.checksums_of_files(at);
        }
        let (jobs, counting) = (jobs.unwrap_or(Jobs::ONE), counting(checksums));
        let server = schema::Server { host, port, socket, user, password, databases, tls };
        Some(Postgres { server: server_of(server)?, method, jobs, counting })
    }

    fn influxdb(&mut self, at: &Path, influxdb: schema::Influxdb) -> Option<Influxdb> {
        let schema::Influxdb { host, port, rpc_port, user, password, databases, retention_policy, tls } =
            influxdb;
        if retention_policy.is_some() && databases.as_ref().is_none_or(|databases| databases.len() != 1) {
            let message = "a retention policy is one of a single database".to_owned();
            let hint = "declare that database alone in `databases`, or remove `retention_policy`";
            self.error("policy-databases", &below(at, ["retention_policy"]), message, hint);
        }
        let server = schema::Server { host, port, socket: None, user, password, databases, tls };
        Some(Influxdb {
            server: server_of(server)?,
            rpc_port: rpc_port.unwrap_or(RPC_PORT),
            retention_policy: word(retention_policy),
        })
    }

    fn influxdb2(&mut self, at: &Path, influxdb2: schema::Influxdb2) -> Option<Influxdb2> {
        let schema::Influxdb2 { url, org, token, buckets, tls: declared } = influxdb2;
        let url = url?.0.0;
        if declared.is_some() && !url.starts_with("https://") {
            let message = format!("`tls` is declared, but `{url}` does not use it");
            let hint = "begin the URL with https://, or remove `tls`";
            self.error("tls-without-https", &below(at, ["url"]), message, hint);
        }
        let mut names: Vec<String> = Vec::new();
        for (number, Text(Line(name))) in buckets.unwrap_or_default().into_iter().enumerate() {
            let item = below(at, ["buckets", &number.to_string()]);
            if name.starts_with('_') {
                let message = format!("bucket `{name}` is the engine's own");
                self.error("own-bucket", &item, message, "leave it out: a server makes its own");
            } else if names.contains(&name) {
                self.error("duplicate", &item, format!("bucket `{name}` is named twice"), "leave one out");
            } else {
                names.push(name);
            }
        }
        Some(Influxdb2 { url, org: line(org)?, token: secret(token?)?, buckets: names, tls: tls(declared)? })
    }

    fn redis(&mut self, at: &Path, redis: schema::Redis) -> Option<Redis> {
        if redis.user.is_some() && redis.password.is_none() {
            let message = format!("[{}] names a user, but no password", show(at));
            self.error("missing-key", &below(at, ["user"]), message, "add `password`, or remove `user`");
        }
        Some(Redis {
            host: word(redis.host)?,
            port: redis.port.unwrap_or(REDIS_PORT),
            user: word(redis.user),
            password: redis.password.and_then(secret),
            tls: tls(redis.tls)?,
        })
    }

    fn etcd(&mut self, at: &Path, etcd: schema::Etcd) -> Option<Etcd> {
        let schema::Etcd { endpoints, user, password, tls } = etcd;
        let endpoints: Vec<String> = endpoints?.into_iter().map(|endpoint| endpoint.0.0).collect();
        let is_secured = tls.is_some();
        let schema::EtcdTls { ca, cert, key } = tls.unwrap_or_default();
        self.both(at, ("user", user.is_some()), ("password", password.is_some()));
        self.both(&below(at, ["tls"]), ("cert", cert.is_some()), ("key", key.is_some()));
        if let Some(plain) = endpoints.iter().position(|url| is_secured && !url.starts_with("https://")) {
            let item = below(at, ["endpoints", &plain.to_string()]);
            let message = format!("`tls` is declared, but `{}` does not use it", endpoints[plain]);
            self.error("tls-without-https", &item, message, "begin the URL with https://, or remove `tls`");
        }
        let login =
            word(user).zip(password.and_then(secret)).map(|(user, password)| Login { user, password });
        let certificate = cert.zip(key.and_then(secret));
        let certificate = certificate.map(|(cert, key)| ClientCertificate { path: cert.0.0, key });
        Some(Etcd { endpoints, login, ca: ca.map(|ca| ca.0.0), certificate })
    }

    /// Two keys that only make sense together.
    fn both(&mut self, at: &Path, one: (&str, bool), other: (&str, bool)) {
        let ((there, _), (missing, _)) = match (one.1, other.1) {
            (true, false) => (one, other),
            (false, true) => (other, one),
            _ => return,
        };
        let message = format!("[{}] has `{there}`, but no `{missing}`", show(at));
        self.error(
            "missing-key",
            &below(at, [there]),
            message,
            format!("add `{missing}`, or remove `{there}`"),
        );
    }

    fn files(&mut self, at: &Path, files: schema::Files) -> Option<Source> {
        let paths: Vec<PathBuf> = files.paths?.into_iter().map(|path| path.0.0).collect();
        for (number, inner) in paths.iter().enumerate() {
            let outer = paths.iter().enumerate().find(|(other, outer)| {
                *other != number && inner.starts_with(outer) && (inner != *outer || *other < number)
            });
            if let Some((_, outer)) = outer {
                let message = format!("`{}` is inside `{}`", inner.display(), outer.display());
                let item = below(at, [&number.to_string()]);
                self.error("nested-paths", &item, message, "leave it out: what is inside is captured, too");
            }
        }
        let exclude = files.exclude.unwrap_or_default().into_iter().map(|glob| glob.0.0).collect();
        Some(Source::Files(Files { paths, exclude }))
    }
}

fn counting(checksums: Option<bool>) -> Counting {
    match checksums {
        Some(false) => Counting::Rows,
        Some(true) | None => Counting::RowsAndChecksums,
    }
}

fn server_of(server: schema::Server) -> Option<Server> {
    let socket = server.socket.map(|socket| socket.0.0);
    Some(Server {
        host: match (word(server.host), &socket) {
            (Some(host), _) => host,
            (None, Some(_)) => String::new(),
            (None, None) => return None,
        },
        port: server.port,
        socket,
        user: word(server.user),
        password: server.password.and_then(secret),
        databases: words(server.databases),
        tls: tls(server.tls)?,
    })
}

/// Where users are made unless they are told otherwise.
const AUTH_DATABASE: &str = "admin";

fn mongodb_of(mongodb: schema::Mongodb) -> Option<Mongodb> {
    let schema::Mongodb { host, port, socket, user, password, auth_database, databases, tls } = mongodb;
    let server = schema::Server { host, port, socket, user, password, databases, tls };
    let auth_database = word(auth_database).unwrap_or_else(|| AUTH_DATABASE.to_owned());
    Some(Mongodb { server: server_of(server)?, auth_database })
}

fn tls(tls: Option<schema::Tls>) -> Option<Tls> {
    match tls {
        None => Some(Tls::Default),
        Some(tls) => Some(Tls::Verified { ca: tls.ca?.0.0 }),
    }
}

fn words(words: Option<Vec<Text<Word>>>) -> Vec<String> {
    words.unwrap_or_default().into_iter().map(|word| word.0.0).collect()
}
