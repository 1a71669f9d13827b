//! etcd's server: a cluster of one member.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use backstay::{
    secrets::Secret,
    sources::etcd::EtcdSource,
    spec::{self, ClientCertificate, Login, SecretRef},
};
use serde_json::Value;
use tempfile::TempDir;

use super::{Server, certificates::Certificates, free_port, run};

/// The password of `root`, which no request, log or message may trip over or show.
pub const PASSWORD: &str = r#"s3cr#t:"quoted"\back\slash'x'$HOME%dä"#;

/// How clients reach the member.
pub enum Reached {
    Plainly,
    /// With certificates on both sides.
    Mutually(Certificates),
}

pub struct Etcd {
    folder: TempDir,
    port: u16,
    peer: u16,
    reached: Reached,
    login: Option<String>,
    server: Server,
}

impl Etcd {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn reached(reached: Reached) -> Self {
        Self::on(
            tempfile::tempdir().expect("a temporary folder can be made"),
            reached,
            free_port(),
            None,
            &[],
        )
    }

    pub fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::on(folder, Reached::Plainly, free_port(), None, arguments)
    }

    /// A new cluster of what was restored, made as docs/etcd.md says.
    pub fn start_on(snapshot: &Path) -> Self {
        Self::made_of(snapshot, None)
    }

    /// As [`Etcd::start_on`], where users were captured as well.
    pub fn start_secured_on(snapshot: &Path) -> Self {
        Self::made_of(snapshot, Some("root"))
    }

    fn made_of(snapshot: &Path, login: Option<&str>) -> Self {
        let (folder, peer) = (tempfile::tempdir().expect("a temporary folder can be made"), free_port());
        let url = peer_url(peer);
        let mut restore = Command::new("etcdctl");
        restore.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(snapshot);
        restore.args(["--name", "one", "--initial-cluster", &format!("one={url}")]);
        restore.args(["--initial-advertise-peer-urls", &url, "--data-dir"]).arg(folder.path().join("data"));
        run(&mut restore);
        Self::on(folder, Reached::Plainly, peer, login, &[])
    }

    fn on(folder: TempDir, reached: Reached, peer: u16, login: Option<&str>, arguments: &[&str]) -> Self {
        let cluster = format!("one={}", peer_url(peer));
        let mut lab = Self::begin(
            "one",
            folder,
            reached,
            peer,
            &[&["--initial-cluster", &cluster], arguments].concat(),
        );
        let (url, reached) = (lab.url(), &lab.reached);
        lab.server.wait_until("it answers", || {
            client(&url, reached, login).args(["endpoint", "health"]).output().unwrap().status.success()
        });
        Self { login: login.map(str::to_owned), ..lab }
    }

    /// A member, `one` or `two`, of a cluster of two, which answers once the other is there.
    pub fn one_of(name: &str, peers: [u16; 2]) -> Self {
        let cluster = format!("one={},two={}", peer_url(peers[0]), peer_url(peers[1]));
        let own = peers[usize::from(name == "two")];
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        Self::begin(name, folder, Reached::Plainly, own, &["--initial-cluster", &cluster])
    }

    fn begin(name: &str, folder: TempDir, reached: Reached, peer: u16, arguments: &[&str]) -> Self {
        let port = free_port();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let (url, peers) = (url(&reached, port), peer_url(peer));
        let mut command = Command::new("etcd");
        command.args(["--name", name, "--data-dir"]).arg(folder.path().join("data"));
        command.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        command.args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers]).args(arguments);
        if let Reached::Mutually(certificates) = &reached {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(certificates.file("ca.pem"));
            command.arg("--cert-file").arg(certificates.file("server.pem"));
            command.arg("--key-file").arg(certificates.file("server.key"));
        }
        let server = Server::start(command.stdout(Stdio::null()).stderr(log));
        Self { folder, port, peer, reached, login: None, server }
    }

    pub fn url(&self) -> String {
        url(&self.reached, self.port)
    }

    /// A folder that lives as long as the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where members talk to each other.
    pub fn peer(&self) -> u16 {
        self.peer
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Lets it go on after [`Etcd::suspend`], where it still runs.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Stops it where it stands: its connections stay open, and nothing answers.
    pub fn suspend(&self) {
        self.server.suspend();
    }

    /// It waits for longer than by itself, which is too short where much else runs.
    fn etcdctl(&self) -> Command {
        let mut etcdctl = client(&self.url(), &self.reached, self.login.as_deref());
        etcdctl.env("ETCDCTL_DIAL_TIMEOUT", "60s").env("ETCDCTL_COMMAND_TIMEOUT", "60s");
        etcdctl
    }

    /// What `etcdctl` prints.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.etcdctl().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Puts keys `name1` to `nameN`, each with a value of so many bytes.
    pub fn fill(&self, name: &str, keys: u32, bytes: usize) {
        for number in 1..=keys {
            let value = format!("{number} tõõ ").repeat(bytes / 10 + 1);
            let mut cut = bytes;
            while !value.is_char_boundary(cut) {
                cut -= 1;
            }
            let file = self.folder.path().join("value");
            fs::write(&file, &value[..cut]).unwrap();
            let mut put = self.etcdctl();
            put.args(["put", &format!("{name}{number}")]).stdin(fs::File::open(&file).unwrap());
            run(&mut put);
        }
    }

    /// Every key with its value and revisions, as it was at `revision`; 0 is now.
    pub fn everything(&self, revision: u64) -> Value {
        let rev = format!("--rev={revision}");
        let all: Value =
            serde_json::from_str(&self.run(&["get", "", "--from-key", "--write-out=json", &rev])).unwrap();
        all["kvs"].clone()
    }

    /// The newest revision.
    pub fn revision(&self) -> u64 {
        let text = self.run(&["get", "x", "--write-out=json"]);
        serde_json::from_str::<Value>(&text).unwrap()["header"]["revision"].as_u64().unwrap()
    }

    /// Turns authentication on.
    pub fn enable_authentication(&mut self) {
        self.run(&["user", "add", &format!("root:{PASSWORD}"), "--interactive=false"]);
        self.run(&["user", "grant-role", "root", "root"]);
        self.run(&["user", "add", &format!("reader:{PASSWORD}"), "--interactive=false"]);
        self.run(&["auth", "enable"]);
        self.login = Some("root".to_owned());
    }

    pub fn source(&self) -> EtcdSource {
        source(&[&self.url()], None)
    }
}

/// Members as a user sees them; the user and its password.
pub fn source(endpoints: &[&str], login: Option<(&str, &str)>) -> EtcdSource {
    let nowhere = || SecretRef::Env("NOWHERE".to_owned());
    let cluster = spec::Etcd {
        endpoints: endpoints.iter().map(|url| url.to_string()).collect(),
        login: login.map(|(user, _)| Login { user: user.to_owned(), password: nowhere() }),
        ca: None,
        certificate: None,
    };
    EtcdSource::new(cluster, login.map(|(_, password)| Secret::new(password.to_owned())), None)
}

/// A member that wants certificates, seen with those of `certificates`.
pub fn secured(url: &str, certificates: &Certificates, shown: Option<&str>) -> EtcdSource {
    let key = shown.map(|name| fs::read_to_string(certificates.file(&format!("{name}.key"))).unwrap());
    let cluster = spec::Etcd {
        endpoints: vec![url.to_owned()],
        login: None,
        ca: Some(certificates.file("ca.pem")),
        certificate: shown.map(|name| ClientCertificate {
            path: certificates.file(&format!("{name}.pem")),
            key: SecretRef::Env("NOWHERE".to_owned()),
        }),
    };
    EtcdSource::new(cluster, None, key.map(Secret::new))
}

fn peer_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn url(reached: &Reached, port: u16) -> String {
    match reached {
        Reached::Plainly => format!("http://127.0.0.1:{port}"),
        Reached::Mutually(_) => format!("https://127.0.0.1:{port}"),
    }
}

fn client(url: &str, reached: &Reached, login: Option<&str>) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", url).stdin(Stdio::null());
    if let Reached::Mutually(certificates) = reached {
        command.env("ETCDCTL_CACERT", certificates.file("ca.pem"));
        command.env("ETCDCTL_CERT", certificates.file("client.pem"));
        command.env("ETCDCTL_KEY", certificates.file("client.key"));
    }
    if let Some(user) = login {
        command.env("ETCDCTL_USER", user).env("ETCDCTL_PASSWORD", PASSWORD);
    }
    command
}
