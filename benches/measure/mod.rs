//! What programs take, run to their end: wall time, processor time, memory.

use std::{
    fs,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

/// What one program took.
pub struct Took {
    pub wall: Duration,
    /// Of the programs and of those that they waited for.
    pub processor: Duration,
    /// Peak memory, MiB.
    pub memory: u64,
}

/// Runs a program that is not measured to its good end.
pub fn run(command: &mut Command) {
    assert!(command.status().expect("the program is installed").success(), "{command:?}");
}

/// Runs programs side by side to their end.
pub fn measure(start: impl FnOnce() -> Vec<Child>) -> Took {
    let (began, before) = (Instant::now(), processor_of_children());
    let watched = start().into_iter().map(|child| thread::spawn(move || watch(child)));
    let watched: Vec<_> = watched.collect();
    let memory = watched.into_iter().map(|watch| watch.join().expect("the program ends well")).sum();
    Took { wall: began.elapsed(), processor: processor_of_children() - before, memory }
}

/// Waits for a program, and returns the most memory that it and what it started were seen to hold, MiB.
fn watch(mut child: Child) -> u64 {
    let mut peak = 0;
    loop {
        peak = peak.max(held(child.id()));
        match child.try_wait().expect("the program can be waited for") {
            Some(ended) => {
                assert!(ended.success(), "{ended}");
                return peak >> 10;
            }
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The most that a process that runs has held, and those that it started and that run, KiB (proc_pid_status(5): VmHWM).
fn held(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let own = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let own = own.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    // Each thread has its own list of what it started.
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let started =
        threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    let started = started.collect::<String>();
    let started = started.split_whitespace().filter_map(|process| process.parse().ok());
    own.unwrap_or(0) + started.map(held).sum::<u64>()
}

/// Processor time of all children that were waited for (proc_pid_stat(5): cutime and cstime, in hundredths).
fn processor_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
