//! FerretDB with its SQLite backend: a server that speaks MongoDB's wire protocol. MongoDB itself is in no package registry.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use backstay::{
    secrets::Secret,
    sources::mongodb::MongodbSource,
    spec::{self, Tls},
};
use bson::{Document, RawDocumentBuf, doc};
use mongodb::{
    Client, Collection, Database,
    options::{ClientOptions, Credential, ServerAddress},
};
use tempfile::TempDir;

use super::{Server, free_port, run};

/// What no message may show, and no file or shell may trip over.
pub const PASSWORD: &str = r#"s3cr#t:"quoted" \back\slash 'x' $HOME %d/?&@ ä"#;

/// The user that backs up.
pub const USER: &str = "backup";

const ROOT_PASSWORD: &str = "of-the-lab";

pub struct Mongodb {
    folder: TempDir,
    port: u16,
    tls_port: u16,
    server: Server,
}

impl Mongodb {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts it with further arguments.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        certificates(folder.path());
        let (port, tls_port, data) = (free_port(), free_port(), folder.path().join("data"));
        fs::create_dir(&data).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new("ferretdb");
        command.args(["--handler=sqlite", "--debug-addr=-", "--telemetry=disable", "--log-level=ERROR"]);
        command.arg(format!("--sqlite-url=file:{}/", data.display()));
        command.arg(format!("--state-dir={}", folder.path().display()));
        command.arg(format!("--listen-addr=127.0.0.1:{port}"));
        command.arg(format!("--listen-unix={}", file("socket")));
        command.arg(format!("--listen-tls=127.0.0.1:{tls_port}"));
        command.arg(format!("--listen-tls-cert-file={}", file("server.pem")));
        command.arg(format!("--listen-tls-key-file={}", file("server.key")));
        command.args(["--test-enable-new-auth", "--setup-database=admin", "--setup-username=root"]);
        command.arg(format!("--setup-password={ROOT_PASSWORD}")).args(arguments);
        let mut server = Server::start(command.stdout(Stdio::null()).stderr(log));
        server.wait_for_port(port);
        server.wait_for_port(tls_port);
        let lab = Self { folder, port, tls_port, server };
        let user = doc! { "createUser": USER, "pwd": PASSWORD, "roles": [] };
        lab.database("admin").run_command(user).await.expect("the user is made");
        lab
    }

    /// As a member of a replica set, whose oplog somebody has made.
    pub async fn start_with_oplog() -> Self {
        let server = Self::start_with(&["--repl-set-name=rs0"]).await;
        let oplog = doc! { "create": "oplog.rs", "capped": true, "size": 256 << 20 };
        server.database("local").run_command(oplog).await.expect("the oplog is made");
        server
    }

    /// Waits for the server's clock to come to another second, and returns it.
    pub async fn next_second(&self) -> jiff::Timestamp {
        let now = async || {
            let hello = self.database("admin").run_command(doc! { "hello": 1 }).await.unwrap();
            hello.get_datetime("localTime").unwrap().timestamp_millis() / 1000
        };
        let (before, deadline) = (now().await, Instant::now() + Duration::from_secs(10));
        while now().await == before {
            assert!(Instant::now() < deadline, "the server's clock stands still");
        }
        jiff::Timestamp::from_second(before + 1).unwrap()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// It stays connected, and answers nothing.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// A database as the administrator sees it.
    pub fn database(&self, name: &str) -> Database {
        let root = Credential::builder().username("root".to_owned()).password(ROOT_PASSWORD.to_owned());
        let address = ServerAddress::Tcp { host: "127.0.0.1".to_owned(), port: Some(self.port) };
        let options = ClientOptions::builder().hosts(vec![address]).direct_connection(true);
        let options = options.credential(root.source("admin".to_owned()).build()).build();
        Client::with_options(options).unwrap().database(name)
    }

    pub fn collection(&self, database: &str, name: &str) -> Collection<RawDocumentBuf> {
        self.database(database).collection(name)
    }

    /// Databases as the user that backs up sees them.
    pub fn source(&self, databases: &[&str]) -> MongodbSource {
        self.source_with(databases, PASSWORD)
    }

    pub fn source_with(&self, databases: &[&str], password: &str) -> MongodbSource {
        let server = spec::Server { databases: names(databases), ..self.server() };
        source(server, password)
    }

    /// Over the server's socket.
    pub fn over_socket(&self, databases: &[&str]) -> MongodbSource {
        let socket = Some(self.folder.path().join("socket"));
        source(
            spec::Server {
                host: String::new(),
                port: None,
                socket,
                databases: names(databases),
                ..self.server()
            },
            PASSWORD,
        )
    }

    /// Over TLS, to a server whose certificate the authority in `ca` must have signed.
    pub fn over_tls(&self, host: &str, ca: &str) -> MongodbSource {
        let tls = Tls::Verified { ca: self.folder.path().join(ca) };
        let (host, port) = (host.to_owned(), Some(self.tls_port));
        source(spec::Server { host, port, tls, databases: names(&["shop"]), ..self.server() }, PASSWORD)
    }

    fn server(&self) -> spec::Server {
        spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(self.port),
            socket: None,
            user: Some(USER.to_owned()),
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        }
    }

    /// Everything that a database is: its collections, their options and indexes, and their documents in order.
    pub async fn everything(&self, database: &str) -> Vec<(Document, Vec<Document>, Vec<RawDocumentBuf>)> {
        let database = self.database(database);
        let mut listed = all(&database, doc! { "listCollections": 1 }).await;
        listed.sort_by_key(|it| it.get_str("name").unwrap().to_owned());
        let mut everything = Vec::new();
        for mut collection in listed {
            collection.remove("info");
            let name = collection.get_str("name").unwrap().to_owned();
            let indexes = all(&database, doc! { "listIndexes": &name }).await;
            let mut cursor = database.collection::<RawDocumentBuf>(&name).find(doc! {}).await.unwrap();
            let mut documents = Vec::new();
            while cursor.advance().await.unwrap() {
                documents.push(cursor.current().to_owned());
            }
            everything.push((collection, indexes, documents));
        }
        everything
    }
}

async fn all(database: &Database, command: Document) -> Vec<Document> {
    let mut cursor = database.run_cursor_command(command).await.unwrap();
    let mut all = Vec::new();
    while cursor.advance().await.unwrap() {
        all.push(cursor.deserialize_current().unwrap());
    }
    all
}

fn source(server: spec::Server, password: &str) -> MongodbSource {
    let mongodb = spec::Mongodb { server, auth_database: "admin".to_owned() };
    MongodbSource::new(mongodb, Some(Secret::new(password.to_owned())))
}

fn names(databases: &[&str]) -> Vec<String> {
    databases.iter().map(|name| name.to_string()).collect()
}

/// `ca.pem` signed `server.pem`, which names `localhost`; `other.pem` signed nothing.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder).stderr(Stdio::null()));
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=lab -keyout ca.key -out ca.pem"));
    openssl(&format!("{new} -subj /CN=other -keyout other.key -out other.pem"));
    openssl(&format!(
        "{new} -subj /CN=server -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
         -CA ca.pem -CAkey ca.key -keyout server.key -out server.pem"
    ));
}
