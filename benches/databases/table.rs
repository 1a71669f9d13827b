//! What was seen, as a table: each row beside the plain dump of its engine.

use std::{fs, ops::Add, path::Path};

use crate::measure::Took;

/// What is done with the data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    First,
    Second,
    Log,
    /// The way back to a point in time, or to the second backup where a program knows of no log.
    Recovery(Reached),
}

/// Which of the two states a recovery brings back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    Second,
    Moment,
}

impl Work {
    fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "1 % changed",
            Self::Log => "log",
            Self::Recovery(Reached::Second) => "restore",
            Self::Recovery(Reached::Moment) => "to a moment",
        }
    }

    /// Whether both are ratios' two sides.
    fn compares_to(self, plain: Self) -> bool {
        self == plain || matches!((self, plain), (Self::Recovery(_), Self::Recovery(_)))
    }
}

/// One piece of work after the other.
impl Add for Took {
    type Output = Self;

    fn add(self, next: Self) -> Self {
        Self {
            wall: self.wall + next.wall,
            processor: self.processor + next.processor,
            memory: self.memory.max(next.memory),
        }
    }
}

/// What a program took for a piece of work, and what it stored, in bytes.
pub struct Row {
    pub work: Work,
    pub program: &'static str,
    pub took: Took,
    pub stored: Option<u64>,
}

/// The rows of one engine. The first program's are those of the plain dump.
pub struct Table {
    engine: &'static str,
    rows: Vec<Row>,
}

impl Table {
    pub fn new(engine: &'static str) -> Self {
        Self { engine, rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        let wall = row.took.wall.as_secs_f64();
        eprintln!("{}: {} by {}: {wall:.2} s", self.engine, row.work.name(), row.program);
        self.rows.push(row);
    }

    pub fn print(&self) {
        let Some(plain) = self.rows.first().map(|row| row.program) else { return };
        println!("\n{}; ratios are to {plain}", self.engine);
        println!(
            "{:12} {:24} {:>8} {:>6} {:>8} {:>6} {:>6} {:>10} {:>6}",
            "", "", "wall s", "ratio", "cpu s", "ratio", "MiB", "stored MiB", "ratio"
        );
        for row in &self.rows {
            let to = self.rows.iter().find(|to| to.program == plain && row.work.compares_to(to.work));
            let ratio = |of: fn(&Row) -> Option<f64>| {
                let (own, plain) = (of(row)?, of(to?)?);
                Some(format!("{:.2}", own / plain))
            };
            println!(
                "{:12} {:24} {:8.2} {:>6} {:8.2} {:>6} {:6} {:>10} {:>6}",
                row.work.name(),
                row.program,
                row.took.wall.as_secs_f64(),
                ratio(wall).unwrap_or_default(),
                row.took.processor.as_secs_f64(),
                ratio(processor).unwrap_or_default(),
                row.took.memory,
                mebibytes(row).map(|stored| format!("{stored:.1}")).unwrap_or_default(),
                ratio(mebibytes).unwrap_or_default(),
            );
        }
    }
}

fn wall(row: &Row) -> Option<f64> {
    Some(row.took.wall.as_secs_f64())
}

fn processor(row: &Row) -> Option<f64> {
    Some(row.took.processor.as_secs_f64())
}

fn mebibytes(row: &Row) -> Option<f64> {
    row.stored.map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Length of all files below a path; nothing where there is none.
pub fn size_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fs::read_dir(path).expect("the folder is read").flatten();
    entries.map(|entry| size_of(&entry.path())).sum()
}
