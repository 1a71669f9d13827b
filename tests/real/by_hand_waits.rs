//! Waits by hand: what a runbook prints for them, typed while what is waited for is there, and while it is not.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, http::StatusCode, routing::get};
use backstay::{
    plan::by_hand::{Hand, reach},
    spec::{self, Ready, Spec},
};

use crate::lab::{
    certificates::Certificates,
    etcd::{Etcd, Reached},
    influxdb::Influx,
    influxdb2::Influx2,
    mariadb::MariaDb,
    postgres::Postgres,
};

/// A fleet with one backup, of this source.
fn declaring(source: &str) -> Spec {
    let text = format!(
        "[fleet]\nname = \"pavroto\"\nrecipients = [\"age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p\"]\n\
         [store.here.local]\npath = \"/srv\"\n[policy.nightly]\nrpo = \"26h\"\nfull = \"0 1 * * *\"\n\
         [backup.it]\npolicy = \"nightly\"\nstores = [\"here\"]\n{source}\n"
    );
    let parsed = spec::parse::parse(&[("fleet.toml".to_owned(), text.into_bytes())].into());
    parsed.spec.unwrap_or_else(|| panic!("{:?}", parsed.diagnostics))
}

/// The one line that is typed to wait until something is there.
fn line(spec: &Spec, until: &Ready) -> String {
    let hands = reach::wait(spec, until);
    let [typed @ Hand::Await(_)] = hands.as_slice() else { panic!("{hands:?}") };
    typed.to_string()
}

fn of_source(source: &str) -> String {
    line(&declaring(source), &Ready::Source("it".parse().unwrap()))
}

/// Types a line; whether it came to its end within so many seconds.
fn ends(line: &str, seconds: u32) -> bool {
    let mut shell = Command::new("timeout");
    shell.args([&seconds.to_string(), "sh", "-euc", line]);
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        shell.env_remove(proxy);
    }
    shell.output().unwrap().status.success()
}

/// The line waits for as long as `gone` has taken away what it waits for, and not before.
fn waits(line: &str, gone: impl FnOnce()) {
    assert!(ends(line, 60), "it is there: {line}");
    gone();
    let asked = line.strip_prefix("until ").and_then(|rest| rest.strip_suffix("; do sleep 5; done"));
    let asked = asked.unwrap_or_else(|| panic!("{line}"));
    assert!(!ends(asked, 60), "it is gone: {asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_is_waited_for_until_it_answers_well() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    // As an application that comes up: it answers, and is not ready yet.
    let answer = move || async move {
        match count.fetch_add(1, Ordering::SeqCst) {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::NO_CONTENT,
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health?of=it&all", listener.local_addr().unwrap());
    let serving =
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/health", get(answer))).await });
    let typed = line(&declaring("sqlite = { path = \"/o\" }"), &Ready::Http(url));
    let waited = tokio::task::spawn_blocking(move || {
        assert!(ends(&typed, 60), "{typed}");
        typed
    });
    let typed = waited.await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2, "{typed}");
    serving.abort();
    let _ = serving.await;
    tokio::task::spawn_blocking(move || waits_no_more(&typed)).await.unwrap();
}

fn waits_no_more(line: &str) {
    assert!(!ends(line, 7), "nobody answers any more: {line}");
}

#[test]
fn databases_are_waited_for_without_a_password() {
    let mut mariadb = MariaDb::start();
    let declared = |port: u16| {
        format!(
            "host = \"127.0.0.1\", port = {port}, user = \"backup\", password = {{ file = \"/nowhere\" }}"
        )
    };
    let mysql = format!("mysql = {{ {}, databases = [\"shop\"] }}", declared(mariadb.port()));
    waits(&of_source(&mysql), || mariadb.kill());
    let mut postgres = Postgres::start();
    let source = format!("postgres = {{ {}, databases = [\"shop\"] }}", declared(postgres.port()));
    waits(&of_source(&source), || postgres.kill());
}

#[test]
fn servers_of_http_are_waited_for_plainly_and_by_their_own_authority() {
    for mut influx in [Influx::start(), Influx::start_with_tls()] {
        let tls = influx.authority().map(|ca| format!(", tls = {{ ca = \"{}\" }}", ca.display()));
        let (http, rpc) = (influx.http(), influx.rpc());
        let source = format!(
            "influxdb = {{ host = \"127.0.0.1\", port = {http}, rpc_port = {rpc}, databases = [\"tele\"]{} }}",
            tls.unwrap_or_default()
        );
        waits(&of_source(&source), || influx.kill());
    }
    for mut influx in [Influx2::start(), Influx2::start_with_tls()] {
        let tls = influx.authority().map(|ca| format!(", tls = {{ ca = \"{}\" }}", ca.display()));
        let source = format!(
            "influxdb2 = {{ url = \"{}\", org = \"o\", token = {{ file = \"/nowhere\" }}{} }}",
            influx.url(),
            tls.unwrap_or_default()
        );
        waits(&of_source(&source), || influx.kill());
    }
    let certificates = Certificates::make();
    let mut secured = Etcd::reached(Reached::Mutually(certificates.clone()));
    let file = |name: &str| certificates.file(name).display().to_string();
    let source = format!(
        "etcd = {{ endpoints = [\"{}\"], tls = {{ ca = \"{}\", cert = \"{}\", key = {{ file = \"{}\" }} }} }}",
        secured.url(),
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    waits(&of_source(&source), || secured.kill());
    let mut plain = Etcd::start();
    waits(&of_source(&format!("etcd = {{ endpoints = [\"{}\"] }}", plain.url())), || plain.kill());
}

#[test]
fn what_lies_in_files_is_waited_for_by_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("it's here");
    for source in ["sqlite = { path = \"PATH\" }", "files = { paths = [\"PATH\"] }"] {
        std::fs::write(&path, "").unwrap();
        let source = source.replace("PATH", path.to_str().unwrap());
        waits(&of_source(&source), || std::fs::remove_file(&path).unwrap());
    }
}
