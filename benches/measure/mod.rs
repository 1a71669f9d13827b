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

/// Waits for a program, and returns the most memory that it was seen to hold, MiB.
fn watch(mut child: Child) -> u64 {
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    loop {
        let held = fs::read_to_string(&status).unwrap_or_default();
        let held = held.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let held = held.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(held.unwrap_or(0) >> 10);
        match child.try_wait().expect("the program can be waited for") {
            Some(ended) => {
                assert!(ended.success(), "{ended}");
                return peak;
            }
            None => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Processor time of all children that were waited for (proc_pid_stat(5): cutime and cstime, in hundredths).
fn processor_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").expect("this is Linux");
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let ticks: u64 = fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
