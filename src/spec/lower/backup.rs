//! Backups and their sources.

use std::{collections::BTreeMap, path::PathBuf};

use super::{Lower, below, line, store::secret, word};
use crate::spec::{
    Backup, Files, Mongodb, Mysql, Policy, Postgres, PostgresMethod, SelfHeal, Server, SlotName, Source, Tls,
    names::{BackupName, INFRA, PolicyName},
    places::{Path, path},
    schema,
    values::{Name, Text, Word},
};

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
        let source = self.source(&at, name, backup);
        Some(Backup {
            name: name.clone(),
            description,
            source: source?,
            policy: policies.get(&policy?)?.clone(),
            stores,
            keep_in,
            contact,
            self_heal,
        })
    }

    fn source(&mut self, at: &Path, name: &BackupName, backup: schema::Backup) -> Option<Source> {
        match backup {
            schema::Backup { files: Some(files), .. } => self.files(&below(at, ["files", "paths"]), files),
            schema::Backup { sqlite: Some(sqlite), .. } => Some(Source::Sqlite { path: sqlite.path?.0.0 }),
            schema::Backup { mysql: Some(server), .. } => {
                Some(Source::Mysql(Mysql { server: server_of(server)? }))
            }
            schema::Backup { postgres: Some(postgres), .. } => {
                self.postgres(&below(at, ["postgres"]), name, postgres).map(Source::Postgres)
            }
            schema::Backup { mongodb: Some(mongodb), .. } => mongodb_of(mongodb).map(Source::Mongodb),
            schema::Backup { influxdb: Some(influxdb), .. } => influxdb_of(influxdb),
            schema::Backup { dynamodb: Some(it), .. } => {
                Some(Source::Dynamodb { region: word(it.region)?, table: word(it.table)? })
            }
            schema::Backup { rds: Some(it), .. } => {
                Some(Source::Rds { region: word(it.region)?, instance: word(it.instance)? })
            }
            schema::Backup { s3: Some(s3), .. } => self.s3(&below(at, ["s3"]), s3).map(Source::S3),
            _ => None,
        }
    }

    fn postgres(&mut self, at: &Path, name: &BackupName, postgres: schema::Postgres) -> Option<Postgres> {
        let schema::Postgres { host, port, socket, user, password, databases, tls, method, slot } = postgres;
        let method = match method {
            None | Some(schema::PostgresMethod::Logical) => PostgresMethod::Logical,
            Some(schema::PostgresMethod::Physical) => PostgresMethod::Physical {
                slot: slot.clone().map_or_else(|| SlotName::of(name), |Text(slot)| slot),
            },
        };
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
            let message = "a physical capture holds the whole cluster, not some of its databases".to_owned();
            let hint = "remove `databases`, or use method = \"logical\"";
            self.error("physical-databases", &below(at, ["databases"]), message, hint);
        }
        let server = schema::Server { host, port, socket, user, password, databases, tls };
        Some(Postgres { server: server_of(server)?, method })
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

fn influxdb_of(influxdb: schema::Influxdb) -> Option<Source> {
    let server = Server {
        host: word(influxdb.host)?,
        port: influxdb.port,
        socket: None,
        user: word(influxdb.user),
        password: influxdb.password.and_then(secret),
        databases: words(influxdb.databases),
        tls: tls(influxdb.tls)?,
    };
    Some(Source::Influxdb { server, retention_policies: words(influxdb.retention_policies) })
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
