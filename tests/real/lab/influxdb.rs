//! InfluxDB's server, with an administrator and a user that only reads, and a way to its backup service that breaks.

use std::{
    fmt, fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    thread,
};

use backstay::{
    secrets::Secret,
    sources::influxdb::InfluxdbSource,
    spec::{self, Tls},
};
use tempfile::TempDir;

use super::{Server, free_port, run};

/// What no header, address or message may trip over or show.
pub const PASSWORD: &str = r#"s3cr#t:"quoted" \back\slash $HOME %d ä"#;

/// The administrator, and the user that may only read what it is granted.
pub const ADMIN: &str = "admin";
pub const READER: &str = "reader";

/// Points as the client prints them.
#[derive(Clone, PartialEq)]
pub struct Points(pub String);

impl fmt::Debug for Points {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.0.chars().take(300).collect();
        write!(f, "{} lines: {start}…", self.0.lines().count())
    }
}

pub struct Influx {
    folder: TempDir,
    rpc: u16,
    http: u16,
    authority: Option<PathBuf>,
    server: Server,
}

impl Influx {
    /// A server that asks for a password.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder can be made"), None)
    }

    /// One whose API speaks https, with a certificate that only [`Influx::authority`] vouches for.
    pub fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let authority = certificates(folder.path());
        Self::start_in(folder, Some(authority))
    }

    fn start_in(folder: TempDir, authority: Option<PathBuf>) -> Self {
        let (rpc, http) = (free_port(), free_port());
        let root = folder.path().display();
        let tls = match &authority {
            Some(_) => format!(
                "https-enabled = true\nhttps-certificate = \"{root}/server.crt\"\nhttps-private-key = \"{root}/server.key\"\n"
            ),
            None => String::new(),
        };
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n\
             [meta]\ndir = \"{root}/meta\"\n\
             [data]\ndir = \"{root}/data\"\nwal-dir = \"{root}/wal\"\nquery-log-enabled = false\n\
             [http]\nbind-address = \"127.0.0.1:{http}\"\nauth-enabled = true\nlog-enabled = false\n{tls}"
        );
        let file = folder.path().join("influxdb.conf");
        fs::write(&file, config).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(influxd());
        command.args(["run", "-config"]).arg(&file).env("HOME", folder.path());
        let mut server = Server::start(command.stdout(Stdio::null()).stderr(log));
        server.wait_for_port(http);
        server.wait_for_port(rpc);
        let lab = Self { folder, rpc, http, authority, server };
        let password = PASSWORD.replace('\\', "\\\\").replace('\'', "\\'");
        lab.query(&format!("CREATE USER {ADMIN} WITH PASSWORD '{password}' WITH ALL PRIVILEGES"));
        lab.query(&format!("CREATE USER {READER} WITH PASSWORD '{password}'"));
        lab
    }

    /// Who vouches for the server's certificate.
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    pub fn rpc(&self) -> u16 {
        self.rpc
    }

    pub fn http(&self) -> u16 {
        self.http
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Runs a statement as the administrator and returns what it gives, as CSV.
    pub fn query(&self, statement: &str) -> String {
        self.run(&[], statement).unwrap_or_else(|why| panic!("{statement}: {why}"))
    }

    /// Runs a statement that names no database in this one.
    pub fn execute_in(&self, database: &str, statement: &str) {
        self.run(&["-database", database], statement).unwrap_or_else(|why| panic!("{statement}: {why}"));
    }

    fn run(&self, more: &[&str], statement: &str) -> Result<String, String> {
        let mut client = Command::new("influx");
        client.args(["-host", "127.0.0.1", "-port", &self.http.to_string(), "-format", "csv"]);
        client.args(["-precision", "ns", "-execute", statement]).args(more);
        if self.authority.is_some() {
            client.args(["-ssl", "-unsafeSsl"]);
        }
        client.env("INFLUX_USERNAME", ADMIN).env("INFLUX_PASSWORD", PASSWORD).env("HOME", self.folder.path());
        let output = client.output().expect("influxdb-client is installed");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() && !said.contains("ERR:") {
            true => Ok(said),
            false => Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Writes points in the line protocol, with times in seconds.
    pub fn write(&self, database: &str, policy: &str, points: &str) {
        let encoded = |name: &str| name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let query = format!("db={}&rp={}&precision=s", encoded(database), encoded(policy));
        use base64::Engine;
        let user = base64::engine::general_purpose::STANDARD.encode(format!("{ADMIN}:{PASSWORD}"));
        let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http)).unwrap();
        let head = format!(
            "POST /write?{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Basic {user}\r\n\
             Content-Length: {}\r\n\r\n",
            points.len()
        );
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(points.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// Every point of a database, by retention policy and series.
    pub fn points(&self, database: &str) -> Points {
        self.points_now(database).unwrap_or_else(|why| panic!("points of {database}: {why}"))
    }

    /// As [`Influx::points`], of a database that the server may be taking in.
    pub fn points_now(&self, database: &str) -> Result<Points, String> {
        let name = identifier(database);
        let policies = self.run(&[], &format!("SHOW RETENTION POLICIES ON {name}"))?;
        let policies = policies.lines().skip(1).filter_map(|line| line.split(',').next());
        let points = policies.map(|policy| {
            let from = format!("{name}.{}./.*/", identifier(policy));
            let points = self.run(&[], &format!("SELECT * FROM {from} GROUP BY *"))?;
            Ok(format!("policy {policy}\n{points}"))
        });
        points.collect::<Result<String, String>>().map(Points)
    }

    /// Names of all databases but the engine's own.
    pub fn databases(&self) -> Vec<String> {
        let names = self.query("SHOW DATABASES");
        let names = names.lines().filter_map(|line| line.strip_prefix("databases,"));
        names.filter(|name| *name != "_internal").map(str::to_owned).collect()
    }

    /// Databases as the administrator sees them.
    pub fn source(&self, databases: &[&str], scratch: &Path) -> InfluxdbSource {
        source(self.declared(databases), PASSWORD, scratch)
    }

    pub fn declared(&self, databases: &[&str]) -> spec::Influxdb {
        let server = spec::Server {
            host: "127.0.0.1".to_owned(),
            port: Some(self.http),
            socket: None,
            user: Some(ADMIN.to_owned()),
            password: None,
            databases: databases.iter().map(|name| name.to_string()).collect(),
            tls: match &self.authority {
                Some(ca) => Tls::Verified { ca: ca.clone() },
                None => Tls::Default,
            },
        };
        spec::Influxdb { server, rpc_port: self.rpc, retention_policy: None }
    }
}

/// Makes a certificate for the server in `folder`, and returns the authority that signed it.
pub fn certificates(folder: &Path) -> PathBuf {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        run(command.args(arguments.split_ascii_whitespace()).current_dir(folder));
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(&format!("req -x509 {key} -days 2 -subj /CN=lab -keyout ca.key -out ca.crt"));
    openssl(&format!("req {key} -subj /CN=127.0.0.1 -keyout server.key -out server.csr"));
    fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
    folder.join("ca.crt")
}

pub fn source(declared: spec::Influxdb, password: &str, scratch: &Path) -> InfluxdbSource {
    InfluxdbSource::new(declared, Some(Secret::new(password.to_owned())), scratch.to_owned()).unwrap()
}

/// A name as InfluxQL writes it.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The engine's program.
pub fn influxd() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&folders).map(|folder| folder.join("influxd")).find(|path| path.is_file());
    found.expect("influxdb is installed")
}

/// A folder with a program `influxd` that is `script`; the real one is `$REAL`.
pub fn fake(script: &str) -> TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("influxd");
    fs::write(&place, format!("#!/bin/sh\nREAL={}\n{script}\n", influxd().display())).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Takes connections to a server's port and hands them on. A connection on which the server has sent `limit` bytes is
/// held until `then` has returned, and then closed as if the server had ended it.
pub fn break_after(limit: usize, port: u16, then: impl Fn() + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let own = listener.local_addr().unwrap().port();
    let then = Arc::new(then);
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            let then = then.clone();
            let (mut asked, mut handed) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || {
                // What the client sends has no end of its own where the server has closed.
                let _ = std::io::copy(&mut asked, &mut handed);
                let _ = handed.shutdown(Shutdown::Write);
            });
            thread::spawn(move || hand_on(server, client, limit, &*then));
        }
    });
    own
}

fn hand_on(mut server: TcpStream, mut client: TcpStream, limit: usize, then: &dyn Fn()) {
    let (mut piece, mut sent) = ([0; 4096], 0);
    while sent < limit {
        match server.read(&mut piece) {
            Ok(0) | Err(_) => {
                let _ = client.shutdown(Shutdown::Write);
                return;
            }
            Ok(length) if client.write_all(&piece[..length]).is_ok() => sent += length,
            Ok(_) => return,
        }
    }
    then();
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
