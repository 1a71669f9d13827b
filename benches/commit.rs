//! From `git commit` in a repository of 10,000 commits to its bundle, durable in two local stores, against
//! `git bundle create` in the same run: `cargo bench --bench commit`.
//!
//! Prints medians and ratios; fails only when something does not work.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use backstay::{
    artifact::{Kind, layout::ObjectName},
    clock::SystemClock,
    git::{Mirror, RepoUrl, Tips},
    sources::{CaptureRequest, Captured, Run, RunKey, Sink, SinkClosed, Source, git::GitSource},
    stores::{Store, local::LocalStore},
};
use bytes::Bytes;

const COMMITS: usize = 10_000;
const FILES: usize = 500;
const ROUNDS: usize = 15;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    runtime.block_on(run());
}

async fn run() {
    let root = tempfile::tempdir().expect("a temporary folder is made");
    let infra = root.path().join("infra.git");
    git(root.path(), &["init", "-q", "--bare", "-b", "main", "infra.git"], "");
    git(&infra, &["fast-import", "--quiet"], &history());
    let url = RepoUrl::parse(infra.to_str().expect("the path is UTF-8")).expect("the path is a URL");
    let mirror = Mirror::open(&root.path().join("state"), url, "main").expect("a mirror is made");
    let stores = ["one", "two"].map(|name| {
        let path = root.path().join(name);
        backstay::stores::local::create(&path).expect("a store's folder is made");
        LocalStore::new(path)
    });

    let (first, took) = timed(mirror.fetch()).await;
    first.expect("the repository is fetched");
    report("first fetch", took, None);
    let (full, took) = timed(bundle(&mirror, None)).await;
    let theirs = create(root.path(), &["--all"]);
    report("complete bundle", took, Some(theirs));
    println!("  {} bytes, git's has {}", full.1.len(), length(root.path()));

    let (mut tips, mut ours, mut theirs) = (Tips(full.0.details.tips), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let before = git(&infra, &["rev-parse", "main"], "");
        commit(&infra, &before, round);
        let began = Instant::now();
        mirror.fetch().await.expect("the commit is fetched");
        let fetched = began.elapsed();
        let (captured, bytes) = bundle(&mirror, Some(tips)).await;
        let bundled = began.elapsed();
        put(&stores, round, &bytes).await;
        ours.push((began.elapsed(), fetched, bundled - fetched));
        tips = Tips(captured.details.tips);
        theirs.push(create(root.path(), &["main", &format!("^{before}")]));
    }
    let theirs = median(theirs);
    report("one commit: fetch", median(ours.iter().map(|took| took.1).collect()), None);
    report("one commit: bundle", median(ours.iter().map(|took| took.2).collect()), Some(theirs));
    report(
        "one commit: durable in two stores",
        median(ours.iter().map(|took| took.0).collect()),
        Some(theirs),
    );
}

/// A history for git-fast-import(1): each commit changes one of the files.
fn history() -> String {
    let mut stream = String::new();
    for n in 0..COMMITS {
        let (file, content) = (n * 7919 % FILES, declaration(n));
        let when = 1_700_000_000 + n;
        writeln!(
            stream,
            "commit refs/heads/main\ncommitter Kai <kai@example.org> {when} +0000\ndata 6\nChange"
        )
        .and_then(|()| writeln!(stream, "M 644 inline backup/{}/{file}.toml", file % 20))
        .and_then(|()| writeln!(stream, "data {}\n{content}", content.len()))
        .expect("a String takes everything");
    }
    stream
}

fn declaration(n: usize) -> String {
    let lines = (0..40).map(|line| format!("[backup.b{line}]\npolicy = \"p{}\"\n", (n * 31 + line) % 977));
    lines.collect()
}

fn commit(infra: &Path, parent: &str, round: usize) {
    let content = declaration(COMMITS + round);
    let stream = format!(
        "commit refs/heads/main\ncommitter Kai <kai@example.org> {} +0000\ndata 3\nNew\nfrom {parent}\nM 644 inline backup/3/3.toml\ndata {}\n{content}\n",
        1_800_000_000 + round,
        content.len()
    );
    git(infra, &["fast-import", "--quiet"], &stream);
}

async fn bundle(mirror: &Mirror, known: Option<Tips>) -> (Captured, Vec<u8>) {
    let kind = if known.is_some() { Kind::Incremental } else { Kind::Full };
    let request = CaptureRequest {
        kind,
        clock: &SystemClock,
        base_started: None,
        continues: None,
        stall: Duration::from_secs(60),
        spool: None,
    };
    let mut sink = Memory::default();
    let source = GitSource::new(mirror.path().to_owned(), known);
    let captured = source.capture(&request, &mut sink).await.expect("the repository is bundled");
    (captured, sink.0)
}

async fn put(stores: &[LocalStore], round: usize, bytes: &[u8]) {
    let name = ObjectName::parse(&format!("bench/infra/packs/{round}")).expect("it is a name");
    for store in stores {
        store.put_if_absent(&name, Bytes::copy_from_slice(bytes)).await.expect("the bundle is stored");
    }
}

fn create(root: &Path, revisions: &[&str]) -> Duration {
    let mut arguments = vec!["bundle", "create", "-q", "../git.bundle"];
    arguments.extend(revisions);
    let began = Instant::now();
    git(&root.join("infra.git"), &arguments, "");
    began.elapsed()
}

fn length(root: &Path) -> u64 {
    fs::metadata(root.join("git.bundle")).expect("git made a bundle").len()
}

fn git(folder: &Path, arguments: &[&str], input: &str) -> String {
    use std::io::Write as _;
    let mut command = Command::new("git");
    command.current_dir(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("git is installed");
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("git reads");
    let output = child.wait_with_output().expect("git ends");
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let began = Instant::now();
    (work.await, began.elapsed())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn report(what: &str, took: Duration, against: Option<Duration>) {
    let ratio = against.map_or(String::new(), |git| {
        let ratio = took.as_secs_f64() / git.as_secs_f64();
        format!("   git bundle create {:.1} ms   ratio {ratio:.2}", git.as_secs_f64() * 1e3)
    });
    println!("{what:36} {:8.1} ms{ratio}", took.as_secs_f64() * 1e3);
}

#[derive(Default)]
struct Memory(Vec<u8>);

#[async_trait]
impl Sink for Memory {
    async fn write(&mut self, bytes: Bytes) -> Result<(), SinkClosed> {
        self.0.extend_from_slice(&bytes);
        Ok(())
    }

    async fn run(&mut self, _: Option<RunKey>) -> Result<Run, SinkClosed> {
        Ok(Run::Wanted)
    }
}
