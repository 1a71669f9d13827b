//! Captures and a restore of a SQL-like stream against `zstd -3 -T2 | age`, restic and borg in the same run:
//! `BACKSTAY_BENCH_MIB=2048 cargo bench --bench capture`.
//!
//! Prints wall time, processor time and peak memory of every program, and the ratio of its time to that of
//! `zstd | age`. Fails only when something does not work. Each capture is a process of its own, as the others are.

use std::{
    env, fs,
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    sync::Arc,
};

use async_trait::async_trait;
use backstay::{
    apply::{
        capture::{CaptureOrder, Means, STALL, capture},
        restore::{Logs, restore},
        segment::Recipients,
    },
    artifact::{
        ArtifactId, Kind,
        manifest::{Details, Moment},
    },
    clock::SystemClock,
    committed::{self, BackupFolder},
    keys::{Keys, identity},
    plan::action::Capture,
    progress::{Progress, Unseen},
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Sink, Source, SourceError},
    stores::local::{self, LocalStore},
};
use jiff::Timestamp;
use measure::{Took, measure, run};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::io::{AsyncRead, AsyncReadExt};

mod measure;

fn main() {
    let arguments: Vec<String> = env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("capture") => child(capture_once(Path::new(&arguments[2]), &arguments[3..])),
        Some("restore") => child(restore_once(Path::new(&arguments[2]), &arguments[3])),
        _ => compare(),
    }
}

// ── The comparison ─────────────────────────────────────────────────────────────────────────────────────────────────

/// One row: what is done, by whom.
struct Row {
    what: &'static str,
    program: &'static str,
    took: Took,
}

fn compare() {
    let mib: u64 = env::var("BACKSTAY_BENCH_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(2048);
    let lab = Lab::new(mib << 20);
    let mut rows = Vec::new();
    let mut add = |what, program, took| rows.push(Row { what, program, took });

    lab.write_stream(|_| Version::Old);
    add("first", "zstd | age", lab.zstd_age());
    let (full, took) = lab.backstay("full", None);
    add("first", "backstay", took);
    add("first", "restic", lab.restic());
    add("first", "borg", lab.borg("first"));
    add("unchanged", "backstay", lab.backstay("incremental", Some(&full)).1);
    add("unchanged", "restic", lab.restic());
    add("unchanged", "borg", lab.borg("unchanged"));
    add("restore", "zstd | age", lab.unzstd_age());
    add("restore", "backstay", lab.backstay_restore(&full));
    add("restore", "restic", lab.restic_restore());
    add("restore", "borg", lab.borg_restore("first"));

    lab.write_stream(|share| if (share * 10.0).fract() < 0.01 { Version::New } else { Version::Old });
    add("1 % clustered", "backstay", lab.backstay("incremental", Some(&full)).1);
    add("1 % clustered", "restic", lab.restic());
    add("1 % clustered", "borg", lab.borg("clustered"));

    // The same share of the rows, in 2,000 places.
    lab.write_stream(|share| if (share * 2000.0).fract() < 0.01 { Version::New } else { Version::Old });
    add("1 % evenly", "backstay", lab.backstay("incremental", Some(&full)).1);
    add("1 % evenly", "restic", lab.restic());
    add("1 % evenly", "borg", lab.borg("evenly"));
    print(&rows, mib, &lab);
}

fn print(rows: &[Row], mib: u64, lab: &Lab) {
    let limit = |what: &str| {
        let what = if what == "restore" { "restore" } else { "first" };
        let row = rows.iter().find(|row| (row.what, row.program) == (what, "zstd | age"));
        row.map_or(f64::NAN, |row| row.took.wall.as_secs_f64())
    };
    let stored = fs::metadata(lab.at("limit.age")).map_or(0, |found| found.len());
    println!("{mib} MiB, {:.1} times smaller by zstd -3", (mib << 20) as f64 / stored as f64);
    println!("{:14} {:11} {:>7} {:>7} {:>7} {:>9} {:>7}", "", "", "wall s", "cpu s", "MiB", "MB/s", "ratio");
    for Row { what, program, took } in rows {
        let wall = took.wall.as_secs_f64();
        println!(
            "{what:14} {program:11} {wall:7.2} {:7.2} {:7} {:9.0} {:7.2}",
            took.processor.as_secs_f64(),
            took.memory,
            (mib << 20) as f64 / 1e6 / wall,
            wall / limit(what),
        );
    }
}

/// A folder with the stream, everybody's repository, and an identity.
struct Lab {
    dir: tempfile::TempDir,
    recipient: String,
    length: u64,
}

impl Lab {
    fn new(length: u64) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder is made");
        let generated = identity::generate(Timestamp::now());
        let path = dir.path().join("identity.txt");
        let mut file = tempfile::NamedTempFile::new_in(dir.path()).expect("a file is made");
        file.write_all(generated.file.as_bytes()).expect("the identity is written");
        file.persist(path).expect("the identity has its name");
        local::create(&dir.path().join("store")).expect("a store is made");
        let lab = Self { dir, recipient: generated.recipient, length };
        run(lab.quiet("restic").arg("init"));
        run(lab.quiet("borg").args(["init", "-e", "repokey-blake2"]).arg(lab.at("borg")));
        lab
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn stream(&self) -> Stdio {
        File::open(self.at("stream")).expect("the stream is there").into()
    }

    /// Writes the stream; `version` chooses by the place, in 0..1, in which version a row is.
    fn write_stream(&self, version: impl Fn(f64) -> Version) {
        let file = File::create(self.at("stream")).expect("the stream's file is made");
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let mut written = 0;
        for number in 0.. {
            let row = row(number, version(written as f64 / self.length as f64));
            out.write_all(row.as_bytes()).expect("the stream is written");
            written += row.len() as u64;
            if written >= self.length {
                break;
            }
        }
        out.flush().expect("the stream is written");
    }

    fn quiet(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("RESTIC_REPOSITORY", self.at("restic"))
            .env("RESTIC_PASSWORD", "bench")
            .env("RESTIC_CACHE_DIR", self.at("restic-cache"))
            .env("BORG_PASSPHRASE", "bench")
            .env("BORG_BASE_DIR", self.at("borg-base"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    fn zstd_age(&self) -> Took {
        measure(|| {
            let mut zstd = Command::new("zstd")
                .args(["-3", "-T2", "-c", "-q"])
                .stdin(self.stream())
                .stdout(Stdio::piped())
                .spawn()
                .expect("zstd is installed");
            let piped = zstd.stdout.take().expect("it is piped");
            let age = Command::new("age")
                .args(["-r", &self.recipient, "-o"])
                .arg(self.at("limit.age"))
                .stdin(piped)
                .spawn()
                .expect("age is installed");
            vec![zstd, age]
        })
    }

    fn unzstd_age(&self) -> Took {
        measure(|| {
            let mut age = Command::new("age")
                .arg("-d")
                .arg("-i")
                .arg(self.at("identity.txt"))
                .arg(self.at("limit.age"))
                .stdout(Stdio::piped())
                .spawn()
                .expect("age is installed");
            let piped = age.stdout.take().expect("it is piped");
            let zstd = self.quiet("zstd").args(["-d", "-c", "-q"]).stdin(piped).spawn();
            vec![age, zstd.expect("zstd is installed")]
        })
    }

    fn backstay(&self, kind: &str, base: Option<&str>) -> (String, Took) {
        let named = self.at("artifact");
        let took = measure(|| {
            let program = env::current_exe().expect("this program has a path");
            let mut command = self.quiet(&program.to_string_lossy());
            command.arg("capture").arg(self.dir.path()).args([kind, &self.recipient]).args(base);
            command.stdout(File::create(&named).expect("a file is made"));
            vec![command.spawn().expect("this program runs")]
        });
        (fs::read_to_string(named).expect("the artifact is named").trim().to_owned(), took)
    }

    fn backstay_restore(&self, artifact: &str) -> Took {
        measure(|| {
            let program = env::current_exe().expect("this program has a path");
            let mut command = self.quiet(&program.to_string_lossy());
            command.arg("restore").arg(self.dir.path()).arg(artifact);
            vec![command.spawn().expect("this program runs")]
        })
    }

    fn restic(&self) -> Took {
        measure(|| {
            let mut command = self.quiet("restic");
            command.args(["backup", "-q", "--stdin", "--stdin-filename", "dump.sql"]).stdin(self.stream());
            vec![command.spawn().expect("restic is installed")]
        })
    }

    fn restic_restore(&self) -> Took {
        measure(|| {
            let mut command = self.quiet("restic");
            vec![command.args(["dump", "-q", "latest", "dump.sql"]).spawn().expect("restic is installed")]
        })
    }

    fn borg(&self, archive: &str) -> Took {
        measure(|| {
            let mut command = self.quiet("borg");
            let archive = format!("{}::{archive}", self.at("borg").display());
            command.args(["create", "-C", "zstd,3", &archive, "-"]).stdin(self.stream());
            vec![command.spawn().expect("borg is installed")]
        })
    }

    fn borg_restore(&self, archive: &str) -> Took {
        measure(|| {
            let archive = format!("{}::{archive}", self.at("borg").display());
            let mut command = self.quiet("borg");
            vec![command.args(["extract", "--stdout", &archive]).spawn().expect("borg is installed")]
        })
    }
}

/// Which of its two contents a row has.
#[derive(Clone, Copy)]
enum Version {
    Old,
    New,
}

/// One row of a dump: numbers, times, names, words that vary, and a token that does not compress.
fn row(number: u64, version: Version) -> String {
    const WORDS: [&str; 24] = [
        "delivery",
        "address",
        "changed",
        "customer",
        "called",
        "twice",
        "package",
        "damaged",
        "returned",
        "refund",
        "pending",
        "approved",
        "north",
        "warehouse",
        "express",
        "courier",
        "signed",
        "invoice",
        "missing",
        "gift",
        "wrapped",
        "fragile",
        "priority",
        "weekend",
    ];
    const STATES: [&str; 4] = ["pending", "shipped", "delivered", "returned"];
    let mut random = StdRng::seed_from_u64(number * 2 + version as u64);
    let mut word = || WORDS[random.random_range(0..WORDS.len())];
    let words = [word(), word(), word(), word(), word(), word()].join(" ");
    let (customer, state) = (random.random_range(0..40_000), STATES[random.random_range(0..4)]);
    let (cents, minute) = (random.random_range(100..90_000), number % 1440);
    let token = random.random_range(0..1_u64 << 48);
    format!(
        "INSERT INTO `orders` VALUES ({number},{customer},'customer-{customer:06}@example.org','2026-03-14 {:02}:{:02}:{:02}','{state}',{}.{:02},'{words}','{token:012x}',NULL,0);\n",
        minute / 60,
        minute % 60,
        customer % 60,
        cents / 100,
        cents % 100,
    )
}

// ── One capture or restore, in a process of its own ────────────────────────────────────────────────────────────────

fn child(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().expect("a runtime starts").block_on(work);
}

fn keys(dir: &Path) -> Keys {
    Keys::load_or_create(&dir.join("keys"), &[], Some(&dir.join("identity.txt"))).expect("the keys load")
}

fn folder(dir: &Path) -> BackupFolder {
    BackupFolder {
        name: "bench".parse().expect("it is a name"),
        store: Arc::new(LocalStore::new(dir.join("store"))),
        fleet: "bench".parse().expect("it is a name"),
        backup: "orders".parse().expect("it is a name"),
    }
}

async fn capture_once(dir: &Path, arguments: &[String]) {
    let [kind, recipient, base @ ..] = arguments else { panic!("a kind and a recipient") };
    let (folder, keys, now) = (folder(dir), keys(dir), Timestamp::now());
    let order = CaptureOrder {
        capture: Capture {
            backup: (&folder.backup).into(),
            kind: if kind == "full" { Kind::Full } else { Kind::Incremental },
            slot: None,
            manual: None,
            store: folder.name.clone(),
            base: base.first().map(|base| ArtifactId::from_str(base).expect("it is an artifact")),
            continues: None,
        },
        artifact: ArtifactId::new(now, rand::random()),
        revision: "bench".to_owned(),
        reason: "bench".to_owned(),
        requires: vec![],
        recipients: Recipients::parse([recipient.as_str()]).expect("it is a recipient"),
        expected: None,
        now,
        stall: STALL,
        spool: None,
        native_place: None,
    };
    let source = FileSource(dir.join("stream"));
    let means =
        Means { source: &source, folder: &folder, keys: &keys, clock: &SystemClock, progress: &Unseen };
    let manifest = capture(&order, &means).await.expect("the capture goes through");
    println!("{}", manifest.artifact);
}

async fn restore_once(dir: &Path, artifact: &str) {
    let (folder, keys) = (folder(dir), Arc::new(keys(dir)));
    let id = ArtifactId::from_str(artifact).expect("it is an artifact");
    let read = committed::read(&folder, id, &keys).await.expect("the artifact is there");
    let progress: Arc<dyn Progress> = Arc::new(Unseen);
    let source = FileSource(dir.join("stream"));
    let place = Place::File(dir.join("restored"));
    restore(&[read.manifest], Logs::default(), &folder, &source, &place, &keys, &progress)
        .await
        .expect("it is restored");
}

/// A file, read to its end; a restore goes nowhere.
struct FileSource(PathBuf);

#[async_trait]
impl Source for FileSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        Ok(Probe { version: "file".to_owned() })
    }

    fn stream_name(&self) -> String {
        "orders.sql".to_owned()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        let mut file = File::open(&self.0).expect("the stream is there");
        loop {
            let (rest, piece) =
                tokio::task::spawn_blocking(move || read(file)).await.expect("reading goes through");
            if piece.is_empty() {
                break;
            }
            file = rest;
            sink.write(piece.into()).await.expect("the pipeline takes it");
        }
        let moment = Moment::At { time: request.now(), position: None };
        Ok(Captured { moment, details: Details::default() })
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        _place: &Place,
    ) -> Result<Restored, SourceError> {
        let mut buffer = vec![0; 1 << 20];
        while stream.read(&mut buffer).await.expect("the stream is whole") > 0 {}
        Ok(Restored { place: "nowhere".to_owned() })
    }
}

fn read(file: File) -> (File, Vec<u8>) {
    let mut piece = Vec::with_capacity(1 << 20);
    let read: io::Result<usize> = (&file).take(1 << 20).read_to_end(&mut piece);
    read.expect("the stream is read");
    (file, piece)
}
