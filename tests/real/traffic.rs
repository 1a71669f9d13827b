//! Traffic that a recovery leads elsewhere, at a real BIND.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use backstay::{
    plan::by_hand::{Hand, reach::Folders, switch::by_hand},
    secrets::Secret,
    spec::{
        Fleet, SecretRef, Spec,
        traffic::{DynamicDns, LedBy, Record, RecordKind, Side, Traffic, TsigAlgorithm},
    },
    traffic::{Switch, dns::DnsSwitch},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::lab::{Server, free_port, run, schedules};

const KEY: &str = "c2VjcmV0IG9mIHRoZSBuYW1lIHNlcnZlciBmb3IgdGVzdHM=";
const OTHER_KEY: &str = "YW5vdGhlciBrZXkgdGhhbiB0aGUgb25lIG9mIHRoZSBzZXJ2ZXI=";

/// A name server for one zone, which takes updates that are signed.
struct NameServer {
    folder: TempDir,
    port: u16,
    _server: Server,
}

impl NameServer {
    fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let zone = "$TTL 60\n@ IN SOA ns1 admin 1 60 60 60 60\n@ IN NS ns1\nns1 IN A 127.0.0.1\nwww IN A 192.0.2.10\n\
                    www IN A 192.0.2.11\nalias IN CNAME www\n";
        fs::write(path("zone"), zone).unwrap();
        let config = format!(
            "options {{ directory \"{folder}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion no; \
             pid-file none; session-keyfile none; dnssec-validation no; notify no; }};\ncontrols {{ }};\n\
             key \"backstay\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n\
             zone \"example.org\" {{ type primary; file \"zone\"; allow-update {{ key backstay; }}; }};\n",
            folder = folder.path().display(),
        );
        fs::write(path("named.conf"), config).unwrap();
        let mut named = Command::new("/usr/sbin/named");
        named.args(["-f", "-c", &path("named.conf"), "-L", &path("log")]);
        let mut server = Server::start(&mut named);
        // It listens before it has its zone.
        let question =
            ["-r", "@127.0.0.1", "-p", &port.to_string(), "+short", "+time=1", "example.org", "SOA"]
                .map(str::to_owned);
        server.wait_until("it has its zone", || {
            Command::new("dig")
                .args(&question)
                .output()
                .is_ok_and(|told| told.stdout.starts_with(b"ns1.example.org."))
        });
        Self { folder, port, _server: server }
    }

    fn traffic(&self, record: &str, kind: RecordKind, sides: [&[&str]; 2]) -> Traffic {
        let set = |values: &[&str]| values.iter().map(ToString::to_string).collect();
        let dns = DynamicDns {
            zone: "example.org".to_owned(),
            server: "127.0.0.1".to_owned(),
            port: self.port,
            key: "backstay".to_owned(),
            algorithm: TsigAlgorithm::HmacSha256,
            secret: SecretRef::File("/etc/backstay/secrets/tsig".into()),
        };
        Traffic {
            name: "www".parse().unwrap(),
            primary: set(sides[0]),
            standby: set(sides[1]),
            led_by: LedBy::Dns(Record { name: record.to_owned(), kind, ttl: 5 }, dns),
        }
    }

    fn www(&self) -> Traffic {
        self.traffic("www.example.org", RecordKind::A, [&["192.0.2.10", "192.0.2.11"], &["198.51.100.1"]])
    }

    /// What the server answers, asked without a key.
    fn answer(&self, name: &str, kind: &str) -> Vec<String> {
        let port = self.port.to_string();
        let output = Command::new("dig")
            .args(["-r", "@127.0.0.1", "-p", &port, "+short", "+time=5", name, kind])
            .output()
            .unwrap();
        let mut lines: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn switch(traffic: &Traffic, key: &str) -> DnsSwitch {
    switch_with(traffic, key, |_, _| ())
}

/// The same, after `alter` has changed how it is declared.
fn switch_with(traffic: &Traffic, key: &str, alter: fn(&mut Record, &mut DynamicDns)) -> DnsSwitch {
    let LedBy::Dns(mut record, mut dns) = traffic.led_by.clone() else { panic!("{traffic:?}") };
    alter(&mut record, &mut dns);
    DnsSwitch::new(&traffic.name, record, dns, Secret::new(key.to_owned())).unwrap()
}

fn nothing() -> BTreeSet<String> {
    BTreeSet::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_led_to_the_other_side_and_back() {
    let server = NameServer::start();
    let www = server.www();
    let it = switch(&www, KEY);
    assert_eq!(it.observe().await.as_ref(), Ok(&www.primary));
    it.set(&www.primary, &www.standby).await.unwrap();
    assert_eq!(it.observe().await.as_ref(), Ok(&www.standby));
    assert_eq!(server.answer("www.example.org", "A"), ["198.51.100.1"]);
    // Somebody has changed it since it was looked at.
    let raced = it.set(&www.primary, &www.standby).await.unwrap_err();
    assert!(raced.to_string().contains("NXRRSET"), "{raced}");
    it.set(&www.standby, &www.primary).await.unwrap();
    assert_eq!(server.answer("www.example.org", "A"), ["192.0.2.10", "192.0.2.11"]);

    for (kind, record, sides) in [
        (RecordKind::Aaaa, "six.example.org", [&["2001:db8::1"][..], &["2001:db8::2"][..]]),
        (RecordKind::Cname, "app.example.org", [&["www.example.org"][..], &["spare.example.net"][..]]),
    ] {
        let traffic = server.traffic(record, kind, sides);
        let it = switch(&traffic, KEY);
        assert_eq!(it.observe().await, Ok(nothing()), "nothing of that name is there");
        it.set(&nothing(), &traffic.primary).await.unwrap();
        it.set(&traffic.primary, &traffic.standby).await.unwrap();
        assert_eq!(it.observe().await.as_ref(), Ok(&traffic.standby), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_does_not_take_or_tell_is_an_error_without_the_key() {
    let server = NameServer::start();
    let www = server.www();
    let wrong = switch(&www, OTHER_KEY);
    for error in
        [wrong.observe().await.unwrap_err().into(), wrong.set(&www.primary, &www.standby).await.unwrap_err()]
    {
        assert!(!error.to_string().contains(OTHER_KEY), "{error}");
    }
    assert_eq!(server.answer("www.example.org", "A"), ["192.0.2.10", "192.0.2.11"]);
    let alias = server.traffic("alias.example.org", RecordKind::A, [&["192.0.2.1"], &["192.0.2.2"]]);
    let error = switch(&alias, KEY).observe().await.unwrap_err().to_string();
    assert!(error.contains("another kind"), "{error}");
    let elsewhere = switch_with(&www, KEY, |record, dns| {
        dns.zone = "example.net".to_owned();
        record.name = "www.example.net".to_owned();
    });
    assert!(elsewhere.observe().await.is_err(), "the server does not decide of that zone");
    assert!(switch_with(&www, KEY, |_, dns| dns.port = free_port()).observe().await.is_err());
}

#[test]
fn a_switch_by_hand_does_the_same() {
    let server = NameServer::start();
    let fleet =
        Fleet { name: "f".parse().unwrap(), time_zone: jiff::tz::TimeZone::UTC, recipients: Vec::new() };
    let mut spec = Spec::of(fleet);
    spec.traffic.insert("www".parse().unwrap(), server.www());
    let made = by_hand(&spec, &"www".parse().unwrap(), Side::Standby, &Folders::of(&"site".parse().unwrap()));
    let folder: &Path = server.folder.path();
    for file in &made.files {
        let path: PathBuf = folder.join(&file.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &file.content).unwrap();
    }
    let key = format!("key \"backstay\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};\n");
    fs::write(folder.join("tsig.key"), key).unwrap();
    let typed = made.hands.iter().filter(|hand| !matches!(hand, Hand::Know(_)));
    let typed: Vec<String> = typed.map(ToString::to_string).collect();
    let script = typed.join("\n");
    run(Command::new("sh").args(["-euc", &script]).current_dir(folder));
    assert_eq!(server.answer("www.example.org", "A"), ["198.51.100.1"]);
    // It does not lead there any more: what stands there now may be meant.
    let again = Command::new("sh").args(["-euc", &script]).current_dir(folder).output().unwrap();
    assert!(!again.status.success(), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("NXRRSET"), "{again:?}");
    assert_eq!(server.answer("www.example.org", "A"), ["198.51.100.1"]);
}

/// An infra repo with a recovery that leads users away, and a controller.
struct Site {
    server: NameServer,
}

impl Site {
    fn new(allowed: &str) -> Self {
        let site = Self { server: NameServer::start() };
        let recipient = backstay::keys::identity::generate(jiff::Timestamp::now()).recipient;
        let (root, port) = (site.root(), site.server.port);
        let nightly = schedules::nightly();
        let declared = format!(
            r#"
            [fleet]
            name = "pavroto"
            recipients = ["{recipient}"]
            [store.here.local]
            path = "{root}/store"
            [policy.nightly]
            full = "{nightly}"
            [backup.data]
            policy = "nightly"
            stores = ["here"]
            files = {{ paths = ["{root}/data"] }}
            [traffic.www]
            record = "www.example.org"
            ttl = "5s"
            primary = ["192.0.2.10", "192.0.2.11"]
            standby = ["198.51.100.1"]
            dns = {{ zone = "example.org", server = "127.0.0.1", port = {port}, key = {{ name = "backstay", secret = {{ file = "{root}/tsig" }} }} }}
            [recovery.away]
            steps = [{{ switch = "www", to = "standby" }}]
            [recovery.back]
            steps = [{{ switch = "www", to = "primary" }}]
            "#
        );
        let config = format!(
            r#"
            state_dir = "{root}/state"
            [repo]
            url = "{root}/infra"
            path = "backup"
            [keys]
            dir = "{root}/keys"
            [allow]
            read = ["{root}/data"]
            write = ["{root}/store"]
            secrets = [{{ path = "{root}/tsig", hosts = ["127.0.0.1"] }}]
            traffic = [{allowed}]
            "#
        );
        for folder in ["store", "data", "infra/backup"] {
            fs::create_dir_all(site.server.folder.path().join(folder)).unwrap();
        }
        for (name, content) in [
            ("infra/backup/fleet.toml", declared.as_str()),
            ("backstay.toml", &config),
            ("tsig", KEY),
            ("data/a", "a"),
        ] {
            fs::write(site.server.folder.path().join(name), content).unwrap();
        }
        let tsig = site.server.folder.path().join("tsig");
        fs::set_permissions(tsig, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let git = |arguments: &[&str]| {
            let author = ["-c", "user.name=A", "-c", "user.email=a@example.org"];
            run(Command::new("git").arg("-C").arg(format!("{root}/infra")).args(author).args(arguments));
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "--all"]);
        git(&["commit", "-q", "-m", "Declare traffic"]);
        site
    }

    fn root(&self) -> String {
        self.server.folder.path().display().to_string()
    }

    fn rebuild(&self, arguments: &[&str], code: i32) -> (String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.args(["rebuild", "--recovery"]).args(arguments);
        let output = command.arg("--config").arg(format!("{}/backstay.toml", self.root())).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{out}\n{err}");
        assert!(!out.contains(KEY) && !err.contains(KEY), "the key is told");
        (out.into_owned(), err.into_owned())
    }
}

#[test]
fn a_recovery_leads_users_away_and_another_one_back() {
    // Nothing but that record.
    let site = Site::new("\"www.example.org\"");
    let (planned, _) = site.rebuild(&["away", "--dry-run"], 0);
    assert!(planned.contains("switch traffic www to standby (198.51.100.1)"), "{planned}");
    assert_eq!(site.server.answer("www.example.org", "A").len(), 2, "a dry run changes nothing");
    let (told, _) = site.rebuild(&["away", "-o", "json"], 0);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert!(report["worked"]["switch"].is_u64(), "{report:#}");
    assert_eq!(site.server.answer("www.example.org", "A"), ["198.51.100.1"]);
    // What is so already stays.
    let (told, _) = site.rebuild(&["away", "--anew"], 0);
    assert!(told.contains("198.51.100.1 already"), "{told}");
    site.rebuild(&["back"], 0);
    assert_eq!(site.server.answer("www.example.org", "A"), ["192.0.2.10", "192.0.2.11"]);
}

#[test]
fn a_commit_switches_only_what_the_host_allows() {
    // The record of that name, and not the zone.
    let site = Site::new("\"example.org\"");
    let (_, err) = site.rebuild(&["away"], 1);
    assert!(err.contains("add \"www.example.org\" to `traffic` in [allow]"), "{err}");
    assert_eq!(site.server.answer("www.example.org", "A").len(), 2);
}
