//! Programs that dump database servers: which server, which databases, and as whom.

mod address;
mod grammars;

use super::{Dump, Source, wrapped::secret_seen};
use crate::adopt::{options::Options, values, words::Word};
use address::Address;

/// A kind of server, by the table of the declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    MySql,
    Postgres,
    MongoDb,
    InfluxDb,
    Redis,
}

impl Engine {
    /// The table that declares it.
    pub(crate) fn table(self) -> &'static str {
        match self {
            Engine::MySql => "mysql",
            Engine::Postgres => "postgres",
            Engine::MongoDb => "mongodb",
            Engine::InfluxDb => "influxdb",
            Engine::Redis => "redis",
        }
    }
}

/// A database server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub engine: Engine,
    /// Name or address.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// Where InfluxDB's backup service listens, if not at its default.
    pub rpc_port: Option<u16>,
    /// A path of this machine, instead of host and port.
    pub socket: Option<String>,
    pub user: Option<String>,
    /// Empty for all.
    pub databases: Vec<String>,
}

/// The programs that are read here.
pub(super) const PROGRAMS: [&str; 13] = [
    "mysqldump",
    "mariadb-dump",
    "mariabackup",
    "mariadb-backup",
    "xtrabackup",
    "pg_dump",
    "pg_dumpall",
    "pg_basebackup",
    "mongodump",
    "influxd",
    "influx",
    "redis-cli",
    "etcdctl",
];

/// What a program of that name dumps; `None` when it does not.
pub(super) fn dump(program: &str, arguments: &[Word]) -> Option<Dump> {
    match program {
        "mysqldump" | "mariadb-dump" => Some(mysqldump(arguments)),
        "mariabackup" | "mariadb-backup" | "xtrabackup" => mariabackup(arguments),
        "pg_dump" | "pg_dumpall" | "pg_basebackup" => Some(postgres(program, arguments)),
        "mongodump" => Some(mongodump(arguments)),
        "influxd" | "influx" => influx(program, arguments),
        "redis-cli" => redis(arguments),
        "etcdctl" => etcd(arguments),
        _ => None,
    }
}

/// A dump of a server as it grows.
struct Draft {
    server: Server,
    remarks: Vec<String>,
    /// Whether something that names the server or its databases could not be taken over.
    lost: bool,
}

impl Draft {
    fn new(engine: Engine, options: &Options) -> Self {
        let databases = Vec::new();
        let server =
            Server { engine, host: None, port: None, rpc_port: None, socket: None, user: None, databases };
        Self { server, remarks: Vec::new(), lost: options.has_doubtful }
    }

    /// The host, port, user and socket that options of these names give.
    fn connect(&mut self, options: &Options, [host, port, user, socket]: [&[&str]; 4]) {
        let user = options.value(user);
        self.server.user = user.and_then(values::word);
        self.server.port =
            options.value(port).and_then(|port| port.text.parse().ok()).filter(|port| *port > 0);
        self.server.socket = options.value(socket).and_then(values::path);
        self.lost |= user.is_some() && self.server.user.is_none();
        if let Some(host) = options.value(host) {
            self.reach(host);
        }
    }

    /// A host as it stands in an option: a name, a socket's folder, `host:port` or a URL.
    fn reach(&mut self, host: &Word) {
        match Address::of(host) {
            Some(address) => self.take(address),
            None => self.lost = true,
        }
    }

    fn take(&mut self, address: Address) {
        if address.has_secret {
            secret_seen(&mut self.remarks);
        }
        let server = &mut self.server;
        server.host = address.host.or(server.host.take());
        server.port = address.port.or(server.port);
        server.user = address.user.or(server.user.take());
        server.databases.extend(address.database);
        self.lost |= address.lost;
    }

    fn databases<'a>(&mut self, words: impl IntoIterator<Item = &'a Word>) {
        for word in words {
            match values::word(word) {
                Some(database) => self.server.databases.push(database),
                None => self.lost = true,
            }
        }
    }

    fn finish(mut self) -> Dump {
        let server = &mut self.server;
        if self.lost {
            let all = if server.databases.is_empty() { ": all databases are taken" } else { "" };
            self.remarks.push(format!("not all of its options could be taken over{all}; look at the line"));
        }
        if server.socket.is_none() && server.host.is_none() {
            server.host = Some("localhost".to_owned());
            self.remarks.push("no host is named in it: localhost is assumed".to_owned());
        }
        if server.socket.is_some() {
            (server.host, server.port) = (None, None);
        }
        server.databases.sort();
        server.databases.dedup();
        Dump { source: Source::Server(self.server), remarks: self.remarks }
    }
}

fn mysqldump(arguments: &[Word]) -> Dump {
    let options = Options::read(&grammars::MYSQL, arguments);
    let mut draft = mysql(&options);
    let several = options.has(&["databases", "B"]);
    let bare_password = options.has_bare(&["p", "password"]);
    // `-p secret` is a mistake that many make: the word behind it is no password then, and must not be shown either.
    let names = if bare_password { &[] } else { options.rest.as_slice() };
    draft.lost |= bare_password && !options.rest.is_empty();
    if !options.has(&["all-databases", "A"]) {
        draft.databases(if several { names } else { names.get(..1).unwrap_or_default() });
        if !several && names.len() > 1 {
            draft.remarks.push("it dumps some tables only; a backup has whole databases".to_owned());
        }
    }
    draft.finish()
}

fn mariabackup(arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(&grammars::MYSQL, arguments);
    options.has(&["backup"]).then(|| mysql(&options).finish())
}

fn mysql(options: &Options) -> Draft {
    let mut draft = Draft::new(Engine::MySql, options);
    draft.connect(options, [&["h", "host"], &["P", "port"], &["u", "user"], &["S", "socket"]]);
    if options.values(&["p", "password"]).any(|word| word.is_literal && !word.text.is_empty()) {
        secret_seen(&mut draft.remarks);
    }
    if options.has(&["defaults-file", "defaults-extra-file", "login-path", "defaults-group-suffix"]) {
        draft
            .remarks
            .push("it reads user and password from a file of MySQL's: name the user here".to_owned());
    }
    draft
}

fn postgres(program: &str, arguments: &[Word]) -> Dump {
    let grammar = if program == "pg_basebackup" { &grammars::PG_BASEBACKUP } else { &grammars::PG_DUMP };
    let options = Options::read(grammar, arguments);
    let mut draft = Draft::new(Engine::Postgres, &options);
    draft.connect(&options, [&["h", "host"], &["p", "port"], &["U", "username"], &[]]);
    let named = options.value(&["d", "dbname"]).or(options.rest.first().filter(|_| program == "pg_dump"));
    match named.map(|word| (word, Address::of_postgres(word))) {
        Some((_, Some(address))) => draft.take(address),
        Some((word, None)) => draft.databases([word]),
        None => {}
    }
    if program != "pg_dump" {
        draft.server.databases.clear();
    }
    if options.has(&["t", "table", "n", "schema", "T", "exclude-table", "N", "exclude-schema"]) {
        draft.remarks.push("it dumps some tables or schemas only; a backup has whole databases".to_owned());
    }
    draft.finish()
}

fn mongodump(arguments: &[Word]) -> Dump {
    let options = Options::read(&grammars::MONGODUMP, arguments);
    let mut draft = Draft::new(Engine::MongoDb, &options);
    draft.connect(&options, [&["h", "host", "uri"], &["port"], &["u", "username"], &[]]);
    if options.values(&["p", "password"]).any(|word| word.is_literal && !word.text.is_empty()) {
        secret_seen(&mut draft.remarks);
    }
    draft.databases(options.value(&["d", "db"]));
    // A connection string may be the only word that is no option.
    if let Some(uri) = options.rest.iter().find(|word| word.text.contains("://")) {
        draft.reach(uri);
    }
    if options.has(&["c", "collection", "q", "query"]) {
        draft.remarks.push("it dumps some collections only; a backup has whole databases".to_owned());
    }
    draft.finish()
}

fn influx(program: &str, arguments: &[Word]) -> Option<Dump> {
    let (first, arguments) = arguments.split_first()?;
    if first.text != "backup" {
        return None;
    }
    let grammar = if program == "influxd" { &grammars::INFLUXD } else { &grammars::INFLUX };
    let options = Options::read(grammar, arguments);
    let mut draft = Draft::new(Engine::InfluxDb, &options);
    draft.connect(&options, [&["host"], &[], &[], &[]]);
    if options.values(&["t", "token"]).any(|word| word.is_literal) {
        secret_seen(&mut draft.remarks);
    }
    draft.databases(options.value(&["database", "db", "b", "bucket"]));
    if program == "influxd" {
        // What it connects to is not the port of the API.
        draft.server.rpc_port = draft.server.port.take().filter(|port| *port != 8088);
    } else {
        draft.remarks.push(
            "it is of InfluxDB 2: declare it as `influxdb2`, with `url`, `org`, `token` and `buckets`"
                .to_owned(),
        );
    }
    Some(draft.finish())
}

fn redis(arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(&grammars::REDIS, arguments);
    options.value(&["rdb"])?;
    let mut draft = Draft::new(Engine::Redis, &options);
    draft.connect(&options, [&["h"], &["p"], &["user"], &[]]);
    if options.values(&["a", "pass"]).any(|word| word.is_literal && !word.text.is_empty()) {
        secret_seen(&mut draft.remarks);
    }
    if let Some(uri) = options.value(&["u"]) {
        draft.reach(uri);
    }
    draft.lost |= options.has(&["s"]);
    if options.has(&["tls", "cacert"]) {
        draft.remarks.push("it uses TLS: declare `tls` with the authority's certificate".to_owned());
    }
    // A file holds all databases of its server, whichever is named.
    draft.server.databases.clear();
    Some(draft.finish())
}

/// An engine whose source can't be read off its line: the file that it dumps into is backed up, and the line stays.
fn written_by(engine: &str, file: Option<&Word>) -> Option<Dump> {
    let file = file?;
    let remark = format!(
        "the file that it writes is backed up, so that line must go on; or declare {engine} itself as a source instead"
    );
    let source = match values::path(file) {
        Some(path) => Source::Files { paths: vec![path], exclude: Vec::new() },
        None => Source::Unclear,
    };
    Some(Dump { source, remarks: vec![remark] })
}

fn etcd(arguments: &[Word]) -> Option<Dump> {
    let options = Options::read(&grammars::ETCD, arguments);
    match options.rest.as_slice() {
        [snapshot, save, file, ..] if snapshot.text == "snapshot" && save.text == "save" => {
            written_by("etcd", Some(file))
        }
        _ => None,
    }
}
