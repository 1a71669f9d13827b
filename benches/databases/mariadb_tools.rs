//! What backs a MariaDB server up.

use std::{
    fs,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use jiff::Timestamp;

use crate::{
    Engine, Recovered, Stored, Tool,
    borgmatic::{Borgmatic, Hook},
    fleet::Fleet,
    installed,
    mariadb::Server,
    measure::{Took, measure},
    pipe::{compressed, plain},
    table::{Reached, size_of},
};

/// The plain dump first: the others are compared to it.
pub fn all<'a>(folder: &Path, server: &'a Server) -> Vec<Box<dyn Tool + 'a>> {
    fs::create_dir_all(folder).expect("the folder is made");
    let mut tools: Vec<Box<dyn Tool>> = vec![Box::new(Dump { folder: folder.to_owned(), server })];
    if installed("borgmatic") {
        let hook =
            Hook { engine: "mysql", port: server.port(), user: "root", options: "--single-transaction" };
        tools.push(Box::new(Borgmatic::new(folder.join("borgmatic"), server, hook)));
    }
    tools.push(Box::new(Logical::new(folder.join("logical"), server)));
    if installed("mariabackup") && installed("mbstream") {
        tools.push(Box::new(Mariabackup { folder: folder.to_owned(), server }));
        tools.push(Box::new(Physical::new(folder.join("physical"), server)));
    }
    tools
}

/// `mariadb-dump | zstd`, and the binary log by hand.
struct Dump<'a> {
    folder: PathBuf,
    server: &'a Server,
}

impl Dump<'_> {
    fn dump(&self, name: &str) -> Stored {
        let file = self.folder.join(name);
        let took = measure(|| {
            let mut dump = Command::new("mariadb-dump");
            dump.args(["--no-defaults", "--user=root", "--single-transaction", "--quick", "--master-data=2"]);
            dump.args(["--routines", "--events", "--triggers"]).arg(socket(self.server));
            dump.args(["--databases", "shop"]);
            compressed(&mut dump, &file)
        });
        Stored { took, bytes: size_of(&file) }
    }
}

impl Tool for Dump<'_> {
    fn name(&self) -> &'static str {
        "mariadb-dump | zstd"
    }

    fn first(&self) -> Stored {
        self.dump("first.sql.zst")
    }

    fn second(&self) -> Stored {
        self.dump("second.sql.zst")
    }

    fn recover(&self, at: Timestamp) -> Recovered {
        let file = self.folder.join("second.sql.zst");
        let place = place_of_dump(&file);
        let loaded = measure(|| {
            let mut client = self.server.client("mysql");
            plain(&file, client.arg("--init-command=SET SESSION sql_log_bin = 0"))
        });
        let replayed = measure(|| replay(&place, at, self.server, self.server));
        Recovered { took: loaded + replayed, reached: Reached::Moment, orders: self.server.orders() }
    }
}

/// A place in the binary log.
struct Place {
    file: String,
    position: String,
}

/// Where a dump says that it stands.
fn place_of_dump(file: &Path) -> Place {
    let mut zstd = Command::new("zstd");
    let head = zstd.args(["-dcq"]).arg(file).stdout(Stdio::piped()).spawn();
    let mut head = head.expect("zstd is installed");
    let mut text = Vec::new();
    let out = head.stdout.take().expect("it is piped");
    std::io::Read::read_to_end(&mut std::io::Read::take(out, 8192), &mut text).expect("the dump is read");
    // The rest of it is not needed.
    let _ = head.kill();
    let _ = head.wait();
    let text = String::from_utf8_lossy(&text).into_owned();
    let quoted = |text: &str| text.split('\'').nth(1).map(str::to_owned);
    let line = text.lines().find(|line| line.contains("MASTER_LOG_FILE=")).expect("the dump tells its place");
    let position = line.split("MASTER_LOG_POS=").nth(1).expect("the dump tells its place");
    Place { file: quoted(line).expect("it has a name"), position: position.trim_end_matches(';').to_owned() }
}

/// Runs what `of` logged from a place on, before a moment, on `on`.
fn replay(from: &Place, until: Timestamp, of: &Server, on: &Server) -> Vec<Child> {
    let names = fs::read_dir(of.data()).expect("the folder is read").flatten().map(|entry| entry.file_name());
    let names = names.filter_map(|name| name.into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("bin.0") && *name >= from.file).collect();
    names.sort();
    let mut log = Command::new("mariadb-binlog");
    log.env("TZ", "UTC").args(["--no-defaults", "--disable-log-bin"]);
    log.arg(format!("--start-position={}", from.position));
    log.arg(format!("--stop-datetime={}", until.strftime("%Y-%m-%d %H:%M:%S")));
    log.args(names.iter().map(|name| of.data().join(name)));
    let mut log = log.stdout(Stdio::piped()).spawn().expect("mariadb-binlog is installed");
    let piped = log.stdout.take().expect("it is piped");
    let client = on.client("mysql").stdin(piped).spawn().expect("mariadb is installed");
    vec![log, client]
}

fn socket(server: &Server) -> String {
    format!("--socket={}", server.socket().display())
}

/// `mariabackup | zstd`, with its increments by LSN, and the binary log by hand.
struct Mariabackup<'a> {
    folder: PathBuf,
    server: &'a Server,
}

impl Mariabackup<'_> {
    fn copy(&self, name: &str, base: &[String]) -> Stored {
        let file = self.folder.join(format!("{name}.mbstream.zst"));
        let log = File::create(self.folder.join("mariabackup.log")).expect("the log is made");
        let took = measure(|| {
            let mut copy = Command::new("mariabackup");
            copy.args(["--no-defaults", "--backup", "--stream=mbstream", "--user=root"])
                .arg(socket(self.server));
            copy.arg(format!("--datadir={}", self.server.data().display()));
            copy.arg(format!("--target-dir={}", self.folder.join(format!("{name}-target")).display()));
            copy.arg(format!("--extra-lsndir={}", self.folder.join(format!("{name}-lsn")).display()));
            compressed(copy.args(base).stderr(log), &file)
        });
        Stored { took, bytes: size_of(&file) }
    }

    fn unpack(&self, name: &str, to: &Path) -> Took {
        fs::create_dir_all(to).expect("the folder is made");
        let file = self.folder.join(format!("{name}.mbstream.zst"));
        measure(|| plain(&file, Command::new("mbstream").args(["-x", "-C"]).arg(to)))
    }

    fn prepare(&self, data: &Path, increment: &[String]) -> Took {
        let log = File::create(self.folder.join("prepare.log")).expect("the log is made");
        measure(|| {
            let mut prepare = Command::new("mariabackup");
            prepare.args(["--no-defaults", "--prepare"]).arg(format!("--target-dir={}", data.display()));
            prepare.args(increment).stdout(Stdio::null()).stderr(log);
            vec![prepare.spawn().expect("mariabackup is installed")]
        })
    }
}

impl Tool for Mariabackup<'_> {
    fn name(&self) -> &'static str {
        "mariabackup | zstd"
    }

    fn first(&self) -> Stored {
        self.copy("first", &[])
    }

    fn second(&self) -> Stored {
        self.copy("second", &[format!("--incremental-basedir={}", self.folder.join("first-lsn").display())])
    }

    fn recover(&self, at: Timestamp) -> Recovered {
        let (restored, increment) = (self.folder.join("restored"), self.folder.join("increment"));
        let data = restored.join("data");
        let unpacked = self.unpack("first", &data) + self.unpack("second", &increment);
        let place =
            fs::read_to_string(increment.join("xtrabackup_binlog_info")).expect("the copy tells its place");
        let mut place = place.split_whitespace().map(str::to_owned);
        let mut next = || place.next().expect("the copy tells its place");
        let place = Place { file: next(), position: next() };
        let prepared = self.prepare(&data, &[])
            + self.prepare(&data, &[format!("--incremental-dir={}", increment.display())]);
        let replayed = measure(|| {
            let server = Server::restored(restored.clone());
            for mut child in replay(&place, at, self.server, &server) {
                assert!(child.wait().expect("it is waited for").success(), "the log is replayed");
            }
            vec![server.shut_down()]
        });
        let orders = Server::restored(restored).orders();
        Recovered { took: unpacked + prepared + replayed, reached: Reached::Moment, orders }
    }
}

fn declared(server: &Server, more: &str) -> String {
    format!("mysql = {{ socket = \"{}\", user = \"root\"{more} }}", server.socket().display())
}

/// Backstay's dumps, with the binary log.
struct Logical<'a> {
    fleet: Fleet,
    server: &'a Server,
}

impl<'a> Logical<'a> {
    fn new(folder: PathBuf, server: &'a Server) -> Self {
        let source = declared(server, "");
        Self { fleet: Fleet::new(folder, &server.data(), "with-log", &source), server }
    }
}

impl Tool for Logical<'_> {
    fn name(&self) -> &'static str {
        "backstay, logical"
    }

    fn first(&self) -> Stored {
        self.fleet.backup("full")
    }

    fn second(&self) -> Stored {
        self.fleet.backup("incremental")
    }

    fn log(&self) -> Option<Stored> {
        Some(self.fleet.backup("log"))
    }

    fn recover(&self, at: Timestamp) -> Recovered {
        let took = self.fleet.restore(Some(at), &["--in-place"]);
        Recovered { took, reached: Reached::Moment, orders: self.server.orders() }
    }
}

/// Backstay's copies of the files, with their increments and the binary log.
struct Physical {
    fleet: Fleet,
}

impl Physical {
    fn new(folder: PathBuf, server: &Server) -> Self {
        let more = format!(", method = \"physical\", data_dir = \"{}\"", server.data().display());
        let source = declared(server, &more);
        Self { fleet: Fleet::new(folder, &server.data(), "with-log", &source) }
    }
}

impl Tool for Physical {
    fn name(&self) -> &'static str {
        "backstay, physical"
    }

    fn first(&self) -> Stored {
        self.fleet.backup("full")
    }

    fn second(&self) -> Stored {
        self.fleet.backup("incremental")
    }

    fn log(&self) -> Option<Stored> {
        Some(self.fleet.backup("log"))
    }

    fn recover(&self, at: Timestamp) -> Recovered {
        let (took, data) = self.fleet.restore_to_folder(at);
        let folder = data.with_extension("server");
        fs::create_dir_all(&folder).expect("the folder is made");
        fs::rename(&data, folder.join("data")).expect("the data are moved");
        Recovered { took, reached: Reached::Moment, orders: Server::restored(folder).orders() }
    }
}
