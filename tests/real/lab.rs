//! Real servers: each in a private temporary folder on a free port, waited for by a condition, killed when dropped.

pub mod atlas;
pub mod certificates;
pub mod etcd;
pub mod fleet;
pub mod held;
pub mod influxdb;
pub mod influxdb2;
pub mod libvirt;
pub mod mariadb;
pub mod moments;
pub mod mongodb;
pub mod moto;
pub mod mysql;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod reader;
pub mod redis;
pub mod s3;
pub mod schedules;
pub mod sshd;
pub mod tmpfs;

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

use backstay::{
    artifact::manifest::{Checksums, Counting},
    sources::Source,
};
pub use ports::free_port;
use rustix::process::{Pid, Signal, kill_process};

/// How long a server may take to be ready.
pub const READY: Duration = Duration::from_secs(60);

/// Waits until a condition holds, or panics when that takes too long.
pub fn wait_until(what: &str, longest: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + longest;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The same, letting the runtime go on meanwhile.
pub async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + READY;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The checksums of a database's rows, by table. What was not taken is a failure.
pub fn sums(checksums: Option<&Checksums>) -> BTreeMap<String, String> {
    let Some(Checksums::Captured { sums, .. }) = checksums else { panic!("{checksums:?}") };
    let table = |name: &String| name.split_once('.').expect("a table has a database").1.to_owned();
    sums.iter().map(|(name, sum)| (table(name), sum.clone())).collect()
}

/// What a source reads of rows that it has restored.
pub async fn sums_now(source: &dyn Source) -> BTreeMap<String, String> {
    sums(source.count(Counting::RowsAndChecksums).await.unwrap().checksums.as_ref())
}

/// A server's process with all that it started; killed when dropped.
pub struct Server(Child);

impl Server {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Self {
        let program = command.get_program().to_owned();
        Self(command.spawn().unwrap_or_else(|e| panic!("failed to start {program:?}: {e}")))
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.0.try_wait().expect("the process is our child").is_none()
    }

    /// Waits until the server answers on `port`.
    pub fn wait_for_port(&mut self, port: u16) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.wait_until("it listens", || TcpStream::connect(address).is_ok());
    }

    /// Waits until `ready`, or panics when the server ends or takes too long.
    pub fn wait_until(&mut self, what: &str, mut ready: impl FnMut() -> bool) {
        wait_until(what, READY, || {
            assert!(self.runs(), "the server ended before {what}");
            ready()
        });
    }

    /// Stops it where it stands: its connections stay open, and nothing answers.
    pub fn suspend(&self) {
        send(&descendants(self.0.id()), Signal::STOP);
        send(&[self.0.id()], Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        send(&[self.0.id()], Signal::CONT);
        send(&descendants(self.0.id()), Signal::CONT);
    }

    /// Stops what it started for its connections: they stay open, and nothing answers.
    pub fn freeze(&self) {
        send(&descendants(self.0.id()), Signal::STOP);
    }

    /// Stops it: its connections stay open, and nothing answers.
    pub fn pause(&self) {
        send(&[self.0.id()], Signal::STOP);
    }

    /// Lets go on what was frozen.
    pub fn thaw(&self) {
        send(&descendants(self.0.id()), Signal::CONT);
    }

    /// Kills it, with all that it started, and waits for its end.
    pub fn kill(&mut self) -> io::Result<()> {
        let started = descendants(self.0.id());
        self.0.kill()?;
        send(&started, Signal::KILL);
        self.0.wait().map(|_| ())
    }
}

fn send(pids: &[u32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
        // It may have ended by itself meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// Every process that `ancestor` started, also those that made a session of their own.
fn descendants(ancestor: u32) -> Vec<u32> {
    let processes: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .expect("/proc is mounted")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, parent(pid)?)))
        .collect();
    let mut found = vec![ancestor];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(processes.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}

/// The fourth word of `/proc/PID/stat`, the name in parentheses counting as one.
fn parent(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// Runs a program to its end.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("failed to start {command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} failed: {said}");
}
