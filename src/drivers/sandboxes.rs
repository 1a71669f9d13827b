//! Sandboxes: what each kind of them is made of.

use std::path::PathBuf;

use super::{Drivers, Refusal, Registry as _};
use crate::{
    artifact::manifest::Counting,
    plan::action::SandboxKind,
    sandboxes::{
        IsolationMode, Sandbox, SandboxError,
        etcd::{self, EtcdSandbox, Ports},
        folder::FolderSandbox,
        home::Home,
        influxdb::{Doors, InfluxdbSandbox},
        influxdb2::{Door, Influxdb2Sandbox},
        mariadb::{self, Engine, MariadbFilesSandbox, MysqlSandbox},
        postgres::{self, ClusterSandbox, PostgresSandbox},
        redis::{self, RedisSandbox},
    },
    sources::{
        Source, etcd::EtcdSource, influxdb::InfluxdbSource, influxdb2::Influxdb2Source, mysql::MysqlSource,
        postgres::PostgresSource, redis::RedisSource, sqlite::SqliteSource,
    },
    spec,
};

impl From<SandboxError> for Refusal {
    fn from(error: SandboxError) -> Self {
        Refusal::Settings(error.to_string())
    }
}

impl Drivers {
    pub(super) async fn sandbox_of(
        &self,
        kind: SandboxKind,
        declared: &spec::Source,
    ) -> Result<Box<dyn Sandbox>, Refusal> {
        let (home, mode) = (Home::make(&self.config.sandboxes)?, self.config.isolation);
        Ok(match (kind, declared) {
            (SandboxKind::Mariadb, spec::Source::Mysql(mysql)) => {
                server_of(Engine::MariaDb, home, mysql, mode)
            }
            (SandboxKind::Mysql, spec::Source::Mysql(mysql)) => server_of(Engine::MySql, home, mysql, mode),
            (SandboxKind::MariadbFiles, spec::Source::Mysql(mysql)) => mariadb_files_of(home, mysql, mode),
            (SandboxKind::Postgres, spec::Source::Postgres(postgres)) => postgres_of(home, postgres, mode),
            (SandboxKind::PostgresCluster, spec::Source::Postgres(postgres)) => {
                cluster_of(home, postgres, mode)
            }
            (SandboxKind::Influxdb, spec::Source::Influxdb(influxdb)) => influxdb_of(home, influxdb, mode)?,
            (SandboxKind::Redis, spec::Source::Redis(declared)) => {
                let loader = RedisSource::new(declared.clone(), None);
                let inspector = RedisSource::new(declared.clone(), None).at_socket(redis::socket(&home));
                let stands_for = spec::Source::Redis(declared.clone());
                Box::new(RedisSandbox::new(home, Box::new(loader), Box::new(inspector), stands_for, mode))
            }
            (SandboxKind::Influxdb2, spec::Source::Influxdb2(influxdb2)) => {
                influxdb2_of(home, influxdb2, mode)?
            }
            (SandboxKind::Etcd, spec::Source::Etcd(etcd)) => etcd_of(home, etcd, mode)?,
            (SandboxKind::Sqlite, declared @ spec::Source::Sqlite { path }) => {
                let loader = SqliteSource::new(path.clone(), self.scratch.clone());
                let restored = FolderSandbox::files_of(&home).join(loader.stream_name());
                let inspector = SqliteSource::new(restored, self.scratch.clone());
                let sandbox = FolderSandbox::new(home, Box::new(loader), declared.clone(), mode);
                Box::new(sandbox.asking(Box::new(inspector)))
            }
            (SandboxKind::Folder, declared) => {
                let loader = self.source(declared).await?;
                Box::new(FolderSandbox::new(home, loader, declared.clone(), mode))
            }
            (kind, declared) => {
                let what = format!("sandboxes of kind {kind:?} for sources of kind `{}`", declared.kind());
                return Err(Refusal::NotBuilt(what));
            }
        })
    }
}

fn server_of(engine: Engine, home: Home, declared: &spec::Mysql, mode: IsolationMode) -> Box<dyn Sandbox> {
    let inner = dumped(in_sandbox(&declared.server, mariadb::socket(&home), mariadb::ROOT));
    let source = MysqlSource::new(inner.clone(), None);
    Box::new(MysqlSandbox::new(engine, home, Box::new(source), spec::Source::Mysql(inner), mode))
}

fn mariadb_files_of(home: Home, declared: &spec::Mysql, mode: IsolationMode) -> Box<dyn Sandbox> {
    let inner = dumped(in_sandbox(&declared.server, mariadb::socket(&home), MariadbFilesSandbox::USER));
    let reached = spec::Mysql { method: declared.method.clone(), ..inner.clone() };
    let inspector = MysqlSource::new(inner, None);
    // The files are unpacked without asking their server anything.
    let loader = MysqlSource::new(declared.clone(), None);
    let reached = spec::Source::Mysql(reached);
    Box::new(MariadbFilesSandbox::new(home, Box::new(loader), Box::new(inspector), reached, mode))
}

fn postgres_of(home: Home, declared: &spec::Postgres, mode: IsolationMode) -> Box<dyn Sandbox> {
    let server = in_sandbox(&declared.server, postgres::socket(&home), postgres::SUPERUSER);
    let first = logical(spec::Server { databases: Vec::new(), ..server.clone() });
    let source = loaded_by(server.clone(), declared.jobs).staging_in(home.path().to_owned()).without_owners();
    let inner = spec::Postgres { server, method: spec::PostgresMethod::Logical, ..declared.clone() };
    let inner = spec::Source::Postgres(inner);
    Box::new(PostgresSandbox::new(home, Box::new(first), Box::new(source), inner, mode))
}

fn cluster_of(home: Home, declared: &spec::Postgres, mode: IsolationMode) -> Box<dyn Sandbox> {
    let socket = postgres::socket(&home);
    let asks = |user: &str| -> (String, Box<dyn Source>) {
        let server = in_sandbox(&declared.server, socket.clone(), user);
        (user.to_owned(), Box::new(logical(spec::Server { databases: Vec::new(), ..server })))
    };
    let own = declared.server.user.as_deref();
    let asking = std::iter::once("postgres").chain(own).map(asks).collect();
    // The files of a cluster are unpacked without asking its server anything.
    let loader = PostgresSource::new(declared.clone(), None);
    let loader = loader.keep_data_folder("a drill touches nothing but its sandbox");
    let stands_for = spec::Source::Postgres(declared.clone());
    Box::new(ClusterSandbox::new(home, Box::new(loader), asking, stands_for, mode))
}

fn influxdb_of(
    home: Home,
    declared: &spec::Influxdb,
    mode: IsolationMode,
) -> Result<Box<dyn Sandbox>, Refusal> {
    let doors = Doors::new()?;
    let server = spec::Server {
        host: "127.0.0.1".to_owned(),
        port: Some(doors.http),
        user: Some(Doors::USER.to_owned()),
        password: None,
        tls: spec::Tls::Default,
        ..declared.server.clone()
    };
    let inner = spec::Influxdb { server, rpc_port: doors.rpc, ..declared.clone() };
    let stands_for = spec::Source::Influxdb(inner.clone());
    let source = InfluxdbSource::new(inner, Some(doors.password.clone()), home.path().to_owned())?;
    Ok(Box::new(InfluxdbSandbox::new(home, Box::new(source), stands_for, doors, mode)))
}

fn influxdb2_of(
    home: Home,
    declared: &spec::Influxdb2,
    mode: IsolationMode,
) -> Result<Box<dyn Sandbox>, Refusal> {
    let door = Door::new()?;
    let inner = spec::Influxdb2 { url: door.url(), tls: spec::Tls::Default, ..declared.clone() };
    let stands_for = spec::Source::Influxdb2(inner.clone());
    let source = Influxdb2Source::new(inner, door.token.clone(), home.path().to_owned())?;
    let organization = declared.org.clone();
    Ok(Box::new(Influxdb2Sandbox::new(home, Box::new(source), stands_for, organization, door, mode)))
}

fn etcd_of(home: Home, declared: &spec::Etcd, mode: IsolationMode) -> Result<Box<dyn Sandbox>, Refusal> {
    let ports = Ports::new()?;
    // No secret is needed: what its users may do nobody asks there.
    let inner = spec::Etcd { endpoints: vec![ports.url()], login: None, ca: None, certificate: None };
    let loader = EtcdSource::new(declared.clone(), None, None);
    let snapshot = etcd::files(&home).join(loader.stream_name());
    let inspector = EtcdSource::new(inner, None, None).made_of(snapshot);
    let stands_for = spec::Source::Etcd(declared.clone());
    Ok(Box::new(EtcdSandbox::new(home, Box::new(loader), Box::new(inspector), stands_for, ports, mode)))
}

/// The declared databases on the server of a sandbox.
fn in_sandbox(declared: &spec::Server, socket: PathBuf, user: &str) -> spec::Server {
    spec::Server {
        host: String::new(),
        port: None,
        socket: Some(socket),
        user: Some(user.to_owned()),
        password: None,
        databases: declared.databases.clone(),
        tls: spec::Tls::Default,
    }
}

/// What is loaded into, or asked on, a server of MariaDB or MySQL.
fn dumped(server: spec::Server) -> spec::Mysql {
    let method = spec::MysqlMethod::Logical;
    spec::Mysql { server, method, binary_logs: spec::BinaryLogs::Left, counting: Counting::default() }
}

fn logical(server: spec::Server) -> PostgresSource {
    loaded_by(server, spec::Jobs::ONE)
}

fn loaded_by(server: spec::Server, jobs: spec::Jobs) -> PostgresSource {
    let (method, counting) = (spec::PostgresMethod::Logical, Counting::default());
    PostgresSource::new(spec::Postgres { server, method, jobs, counting }, None)
}
