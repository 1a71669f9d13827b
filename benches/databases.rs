//! Databases: Backstay beside `mariadb-dump | zstd`, mariabackup, `pg_dump | zstd`, pgBackRest and borgmatic, on the same
//! data in the same run: `BACKSTAY_BENCH_MIB=256 cargo bench --bench databases`.
//!
//! Each backs up a shop's orders, backs them up again after 1 % of the rows changed, and brings them back: to a point in time
//! where it can, or else to its second backup. Prints wall time, processor time, peak memory and stored bytes, and judges
//! nothing. Fails only when something does not work: what comes back must have the rows and the checksum that were there.
//! A program that is not installed is skipped.

use std::{
    env, fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use measure::Took;
use shop::Shop;
use table::{Reached, Row, Table, Work};

#[path = "databases/borgmatic.rs"]
mod borgmatic;
#[path = "databases/fleet.rs"]
mod fleet;
#[path = "databases/mariadb.rs"]
mod mariadb;
#[path = "databases/mariadb_tools.rs"]
mod mariadb_tools;
mod measure;
#[path = "databases/pipe.rs"]
mod pipe;
#[path = "databases/postgres.rs"]
mod postgres;
#[path = "databases/postgres_tools.rs"]
mod postgres_tools;
#[path = "databases/shop.rs"]
mod shop;
#[path = "databases/table.rs"]
mod table;

/// What a backup took, and by how much the place where it is grew.
pub struct Stored {
    took: Took,
    bytes: u64,
}

/// What a recovery took, what it promised, and the orders that are there after it.
pub struct Recovered {
    took: Took,
    reached: Reached,
    orders: String,
}

/// A database server that the orders are on.
trait Engine {
    fn name(&self) -> &'static str;
    /// Runs a statement on the shop.
    fn run(&self, statement: &str);
    /// Has what was changed written down to the data's files, as it is by the next night.
    fn settle(&self);
    /// The count and a checksum of the orders.
    fn orders(&self) -> String;
    /// The server's clock, in seconds since 1970.
    fn clock(&self) -> i64;
    /// Loses the orders.
    fn lose(&self);
}

/// What backs the server up.
trait Tool {
    fn name(&self) -> &'static str;
    fn first(&self) -> Stored;
    fn second(&self) -> Stored;
    /// Takes what the server logged since, where that is a step of its own.
    fn log(&self) -> Option<Stored> {
        None
    }
    fn recover(&self, at: Timestamp) -> Recovered;
}

fn main() {
    let mib: u64 = env::var("BACKSTAY_BENCH_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(1024);
    let lab = tempfile::tempdir().expect("a temporary folder is made");
    // PostgreSQL runs as a user of its own, and must get to its folder.
    fs::set_permissions(lab.path(), fs::Permissions::from_mode(0o755)).expect("the folder is ours");
    let shop = Shop::write(lab.path(), mib << 20);
    let tables = [with_mariadb(lab.path(), &shop), with_postgres(lab.path(), &shop)];
    println!("{mib} MiB of rows as text");
    for table in tables {
        table.print();
    }
}

fn with_mariadb(lab: &Path, shop: &Shop) -> Table {
    let server = mariadb::Server::filled(&lab.join("mariadb"), shop);
    let tools = mariadb_tools::all(&lab.join("mariadb-tools"), &server);
    compare(&server, &tools, shop)
}

fn with_postgres(lab: &Path, shop: &Shop) -> Table {
    let server = postgres::Server::filled(&lab.join("postgres"), shop);
    let tools = postgres_tools::all(&lab.join("postgres-tools"), &server);
    compare(&server, &tools, shop)
}

/// The same for each tool: a first backup, a second, and the way back.
fn compare(server: &dyn Engine, tools: &[Box<dyn Tool + '_>], shop: &Shop) -> Table {
    let mut table = Table::new(server.name());
    let mut add = |work, tool: &dyn Tool, took, stored| {
        table.add(Row { work, program: tool.name(), took, stored });
    };
    server.settle();
    for tool in tools {
        let Stored { took, bytes } = tool.first();
        add(Work::First, &**tool, took, Some(bytes));
    }
    server.run(&shop.change());
    server.settle();
    let in_second = server.orders();
    for tool in tools {
        let Stored { took, bytes } = tool.second();
        add(Work::Second, &**tool, took, Some(bytes));
    }
    server.run(&shop.sell());
    let at_moment = server.orders();
    assert_ne!(at_moment, in_second, "the two states are told apart");
    let moment = next_second(server);
    server.lose();
    for tool in tools {
        if let Some(Stored { took, bytes }) = tool.log() {
            add(Work::Log, &**tool, took, Some(bytes));
        }
    }
    for tool in tools {
        server.lose();
        let Recovered { took, reached, orders } = tool.recover(moment);
        let expected = if reached == Reached::Moment { &at_moment } else { &in_second };
        assert_eq!(&orders, expected, "what {} brought back", tool.name());
        add(Work::Recovery(reached), &**tool, took, None);
    }
    table
}

/// The beginning of the next second by the server's clock, once that has come.
fn next_second(server: &dyn Engine) -> Timestamp {
    let before = server.clock();
    wait_until("the server's clock goes on", || server.clock() > before);
    Timestamp::from_second(before + 1).expect("it is a time")
}

fn wait_until(what: &str, mut come: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while !come() {
        assert!(Instant::now() < deadline, "within five minutes {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

/// Whether a program is there; says so where it is not.
fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}
