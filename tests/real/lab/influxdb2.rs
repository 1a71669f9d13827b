//! The server of InfluxDB 2, set up with an organization and an operator token.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use backstay::{
    secrets::Secret,
    sources::influxdb2::Influxdb2Source,
    spec::{self, SecretRef, Tls},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    Server, free_port,
    influxdb::{Points, certificates},
};

/// What no message may show.
pub const TOKEN: &str = r#"s3cr#t:"quoted"\$HOME%d=="#;

/// The organization.
pub const ORG: &str = "ops & more";

pub struct Influx2 {
    folder: TempDir,
    http: u16,
    authority: Option<PathBuf>,
    server: Server,
}

impl Influx2 {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), None)
    }

    /// One that speaks https, with a certificate that only [`Influx2::authority`] vouches for.
    pub fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = certificates(folder.path());
        Self::start_in(folder, Some(authority))
    }

    /// One that nobody has set up yet.
    pub fn start_new() -> Self {
        Self::begin_in(tempfile::tempdir().unwrap(), None)
    }

    fn start_in(folder: TempDir, authority: Option<PathBuf>) -> Self {
        let lab = Self::begin_in(folder, authority);
        let setup = json!({
            "username": "admin", "password": "long-pass-word", "org": ORG, "bucket": "first", "token": TOKEN,
        });
        lab.asked("POST", "/api/v2/setup", &setup.to_string());
        lab
    }

    fn begin_in(folder: TempDir, authority: Option<PathBuf>) -> Self {
        let http = free_port();
        let path = |name: &str| folder.path().join(name);
        let mut command = Command::new("influxd2");
        command.arg("--bolt-path").arg(path("bolt")).arg("--sqlite-path").arg(path("sqlite"));
        command.arg("--engine-path").arg(path("engine")).args([
            "--reporting-disabled",
            "--log-level",
            "error",
        ]);
        command.args(["--http-bind-address", &format!("127.0.0.1:{http}")]).env("HOME", folder.path());
        if authority.is_some() {
            command.arg("--tls-cert").arg(path("server.crt")).arg("--tls-key").arg(path("server.key"));
        }
        let log = fs::File::create(path("log")).unwrap();
        let mut server =
            Server::start(command.stdout(log.try_clone().unwrap()).stderr(log).stdin(Stdio::null()));
        server.wait_for_port(http);
        let header = format!("Authorization: Token {TOKEN}\n");
        fs::write(path("header"), header).unwrap();
        let mut lab = Self { folder, http, authority, server };
        lab.wait_until_ready();
        lab
    }

    fn wait_until_ready(&mut self) {
        let (url, folder) = (self.url(), self.folder.path().to_owned());
        let ready = || curl(&folder, &["-X", "GET", &format!("{url}/health")], b"").0 == 200;
        self.server.wait_until("it is ready", ready);
    }

    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    pub fn http(&self) -> u16 {
        self.http
    }

    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.http)
    }

    /// Where the token stands as a header, for clients.
    pub fn header(&self) -> PathBuf {
        self.folder.path().join("header")
    }

    /// Kills it as a loss of power would.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
    }

    /// Asks the API as the operator, and returns what it gives.
    pub fn asked(&self, method: &str, path: &str, body: &str) -> String {
        let (status, answer) = self.answered(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    fn answered(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let url = format!("{}{path}", self.url());
        let header = format!("@{}", self.header().display());
        let arguments = ["-X", method, "-H", &header, "--data-binary", "@-", &url];
        curl(self.folder.path(), &arguments, body.as_bytes())
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.asked("GET", path, "")).unwrap()
    }

    /// The number of the organization.
    pub fn organization(&self) -> String {
        self.json("/api/v2/orgs")["orgs"][0]["id"].as_str().unwrap().to_owned()
    }

    pub fn make_bucket(&self, name: &str) -> String {
        let bucket = json!({ "orgID": self.organization(), "name": name, "retentionRules": [] });
        let made: Value =
            serde_json::from_str(&self.asked("POST", "/api/v2/buckets", &bucket.to_string())).unwrap();
        made["id"].as_str().unwrap().to_owned()
    }

    pub fn remove_bucket(&self, name: &str) {
        let id = self.bucket(name).expect("there is such a bucket");
        self.asked("DELETE", &format!("/api/v2/buckets/{id}"), "");
    }

    /// A bucket's number.
    pub fn bucket(&self, name: &str) -> Option<String> {
        self.all_buckets().into_iter().find(|(it, _)| it == name).map(|(_, id)| id)
    }

    /// Names of all buckets but the engine's own, sorted.
    pub fn buckets(&self) -> Vec<String> {
        let names = self.all_buckets().into_iter().map(|(name, _)| name);
        let mut names: Vec<String> = names.filter(|name| !name.starts_with('_')).collect();
        names.sort_unstable();
        names
    }

    fn all_buckets(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = self.json("/api/v2/buckets?limit=100");
        let all = all["buckets"].as_array().unwrap();
        all.iter().map(|bucket| (text(&bucket["name"]), text(&bucket["id"]))).collect()
    }

    /// Writes points in the line protocol, with times in seconds.
    pub fn write(&self, bucket: &str, points: &str) {
        let path = format!("/api/v2/write?org={}&bucket={}&precision=s", encoded(ORG), encoded(bucket));
        self.asked("POST", &path, points);
    }

    /// Deletes points of some series, of all times.
    pub fn delete(&self, bucket: &str, predicate: &str) {
        let path = format!("/api/v2/delete?org={}&bucket={}", encoded(ORG), encoded(bucket));
        let body = json!({ "start": "2000-01-01T00:00:00Z", "stop": "2100-01-01T00:00:00Z", "predicate": predicate });
        self.asked("POST", &path, &body.to_string());
    }

    /// Every point of a bucket.
    pub fn points(&self, bucket: &str) -> Points {
        let bucket = bucket.replace('\\', "\\\\").replace('"', "\\\"");
        let flux = format!(
            "from(bucket: \"{bucket}\") |> range(start: 2000-01-01T00:00:00Z, stop: 2100-01-01T00:00:00Z) \
             |> drop(columns: [\"_start\", \"_stop\"]) |> toString() |> group() \
             |> sort(columns: [\"_measurement\", \"_field\", \"host\", \"_time\"])"
        );
        let question = json!({ "query": flux, "type": "flux" }).to_string();
        let path = format!("/api/v2/query?org={}", encoded(ORG));
        let header = format!("@{}", self.header().display());
        let url = format!("{}{path}", self.url());
        let arguments = [
            "-X",
            "POST",
            "-H",
            &header,
            "-H",
            "Content-Type: application/json",
            "--data-binary",
            "@-",
            &url,
        ];
        let (status, answer) = curl(self.folder.path(), &arguments, question.as_bytes());
        assert_eq!(status, 200, "{answer}");
        Points(answer)
    }

    /// Buckets as the operator sees them.
    pub fn source(&self, buckets: &[&str]) -> Influxdb2Source {
        source(self.declared(buckets), TOKEN)
    }

    pub fn declared(&self, buckets: &[&str]) -> spec::Influxdb2 {
        declared(self.url(), buckets, self.authority.as_deref())
    }
}

pub fn declared(url: String, buckets: &[&str], authority: Option<&Path>) -> spec::Influxdb2 {
    spec::Influxdb2 {
        url,
        org: ORG.to_owned(),
        token: SecretRef::File("/nowhere".into()),
        buckets: buckets.iter().map(|name| name.to_string()).collect(),
        tls: authority.map_or(Tls::Default, |ca| Tls::Verified { ca: ca.to_owned() }),
    }
}

pub fn source(declared: spec::Influxdb2, token: &str) -> Influxdb2Source {
    Influxdb2Source::new(declared, Secret::new(token.to_owned()), std::env::temp_dir()).unwrap()
}

/// A word of a query.
pub fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn curl(folder: &Path, arguments: &[&str], body: &[u8]) -> (u16, String) {
    use std::io::Write;
    let mut command = Command::new("curl");
    command.args(["-sk", "-w", "\n%{http_code}"]).args(arguments).env("HOME", folder);
    let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl is installed");
    let mut input = client.stdin.take().unwrap();
    // A server that refuses does not read.
    let _ = input.write_all(body);
    drop(input);
    let said = String::from_utf8_lossy(&client.wait_with_output().unwrap().stdout).into_owned();
    let (answer, status) = said.rsplit_once('\n').unwrap();
    (status.parse().unwrap_or_default(), answer.to_owned())
}
