//! What backs a PostgreSQL server up.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use jiff::Timestamp;

use crate::{
    Engine, Recovered, Stored, Tool,
    borgmatic::{Borgmatic, Hook},
    fleet::Fleet,
    installed,
    measure::{Took, measure, run},
    pipe::{compressed, plain},
    postgres::{Server, as_owner, owned, programs},
    table::{Reached, size_of},
};

/// The plain dump first: the others are compared to it.
pub fn all<'a>(folder: &Path, server: &'a Server) -> Vec<Box<dyn Tool + 'a>> {
    owned(folder);
    let mut tools: Vec<Box<dyn Tool>> = vec![Box::new(Dump { folder: folder.to_owned(), server })];
    if installed("borgmatic") {
        // Borg finds nothing again in what pg_dump has compressed.
        let hook =
            Hook { engine: "postgresql", port: server.port(), user: "postgres", options: "--compress=0" };
        tools.push(Box::new(Borgmatic::new(folder.join("borgmatic"), server, hook)));
    }
    tools.push(Box::new(Logical::new(folder.join("logical"), server)));
    if installed("pgbackrest") {
        tools.push(Box::new(PgBackRest::new(folder.join("pgbackrest"), server)));
    }
    tools.push(Box::new(Physical::new(folder.join("physical"), server)));
    tools
}

/// `pg_dump | zstd`.
struct Dump<'a> {
    folder: PathBuf,
    server: &'a Server,
}

impl Dump<'_> {
    fn dump(&self, name: &str) -> Stored {
        let file = self.folder.join(name);
        let took = measure(|| {
            let mut dump = Command::new(programs().join("pg_dump"));
            compressed(dump.args(self.server.address()).arg("shop"), &file)
        });
        Stored { took, bytes: size_of(&file) }
    }
}

impl Tool for Dump<'_> {
    fn name(&self) -> &'static str {
        "pg_dump | zstd"
    }

    fn first(&self) -> Stored {
        self.dump("first.sql.zst")
    }

    fn second(&self) -> Stored {
        self.dump("second.sql.zst")
    }

    fn recover(&self, _at: Timestamp) -> Recovered {
        self.server.sql("postgres", "CREATE DATABASE dumped");
        let file = self.folder.join("second.sql.zst");
        let took = measure(|| plain(&file, self.server.client("dumped").stdout(Stdio::null())));
        Recovered { took, reached: Reached::Second, orders: self.server.orders_in("dumped") }
    }
}

/// pgBackRest with zstd, encryption, both processors, and the server's log archived by it.
struct PgBackRest {
    folder: PathBuf,
}

impl PgBackRest {
    fn new(folder: PathBuf, server: &Server) -> Self {
        owned(&folder);
        let at = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "[global]\nrepo1-path={}\nrepo1-cipher-type=aes-256-cbc\nrepo1-cipher-pass=bench\nrepo1-retention-full=2\n\
             compress-type=zst\ncompress-level=3\nprocess-max=2\nstart-fast=y\nlog-level-file=off\nlog-level-console=warn\n\
             lock-path={}\nspool-path={}\n\n[shop]\npg1-path={}\npg1-port={}\npg1-socket-path={}\npg1-user=postgres\n",
            at("repo"),
            at("lock"),
            at("spool"),
            server.data().display(),
            server.port(),
            server.folder().display(),
        );
        fs::write(folder.join("pgbackrest.conf"), config).expect("it is written");
        let tool = Self { folder };
        run(tool.command().arg("stanza-create"));
        let push = format!("pgbackrest --config={} --stanza=shop archive-push %p", tool.config().display());
        server.sql("postgres", &format!("ALTER SYSTEM SET archive_command = '{push}'"));
        server.sql("postgres", "SELECT pg_reload_conf()");
        run(tool.command().arg("check"));
        tool
    }

    fn config(&self) -> PathBuf {
        self.folder.join("pgbackrest.conf")
    }

    fn command(&self) -> Command {
        let mut command = as_owner("pgbackrest");
        command.arg(format!("--config={}", self.config().display())).arg("--stanza=shop");
        command.stdout(Stdio::null());
        command
    }

    fn measured(&self, arguments: &[String]) -> Took {
        measure(|| vec![self.command().args(arguments).spawn().expect("pgbackrest is installed")])
    }

    fn backup(&self, kind: &str) -> Stored {
        let repo = self.folder.join("repo");
        let before = size_of(&repo);
        let took = self.measured(&["backup".to_owned(), format!("--type={kind}")]);
        Stored { took, bytes: size_of(&repo) - before }
    }
}

impl Tool for PgBackRest {
    fn name(&self) -> &'static str {
        "pgbackrest"
    }

    fn first(&self) -> Stored {
        self.backup("full")
    }

    fn second(&self) -> Stored {
        self.backup("incr")
    }

    fn recover(&self, at: Timestamp) -> Recovered {
        let data = self.folder.join("restored");
        owned(&data);
        let took = self.measured(&[
            "restore".to_owned(),
            format!("--pg1-path={}", data.display()),
            "--type=time".to_owned(),
            format!("--target={}+00", at.strftime("%Y-%m-%d %H:%M:%S")),
            "--target-action=promote".to_owned(),
        ]);
        let orders = Server::restored(&self.folder.join("server"), &data).orders();
        Recovered { took, reached: Reached::Moment, orders }
    }
}

fn declared(server: &Server, more: &str) -> String {
    format!("postgres = {{ socket = \"{}\", user = \"postgres\"{more} }}", server.socket().display())
}

/// Backstay's dumps.
struct Logical<'a> {
    fleet: Fleet,
    server: &'a Server,
}

impl<'a> Logical<'a> {
    fn new(folder: PathBuf, server: &'a Server) -> Self {
        let source = declared(server, ", databases = [\"shop\"]");
        Self { fleet: Fleet::new(folder, server.data(), "without-log", &source), server }
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

    fn recover(&self, _at: Timestamp) -> Recovered {
        let took = self.fleet.restore(None, &["--to", "database:restored"]);
        Recovered { took, reached: Reached::Second, orders: self.server.orders_in("restored") }
    }
}

/// Backstay's copies of the cluster, with its log.
struct Physical {
    fleet: Fleet,
    /// Where the cluster's owner may look into.
    folder: PathBuf,
}

impl Physical {
    fn new(folder: PathBuf, server: &Server) -> Self {
        let source = declared(server, ", method = \"physical\"");
        let restored = folder.with_extension("restored");
        Self { fleet: Fleet::new(folder, server.data(), "with-log", &source), folder: restored }
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
        let (took, restored) = self.fleet.restore_to_folder(at);
        owned(&self.folder);
        let data = self.folder.join("data");
        fs::rename(restored, &data).expect("the data are moved");
        let orders = Server::restored(&self.folder, &data).orders();
        Recovered { took, reached: Reached::Moment, orders }
    }
}
