//! A shop's orders, as lines of tab-separated text that both engines load.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

/// The columns, in words that both engines know.
pub const COLUMNS: &str = "id BIGINT PRIMARY KEY, customer INT NOT NULL, mail VARCHAR(40) NOT NULL, \
     placed TIMESTAMP NOT NULL, state VARCHAR(10) NOT NULL, price DECIMAL(10, 2) NOT NULL, \
     words VARCHAR(120) NOT NULL, token CHAR(12) NOT NULL, note VARCHAR(40)";

/// The orders in a file.
pub struct Shop {
    pub file: PathBuf,
    rows: u64,
}

impl Shop {
    /// Writes so many bytes of orders.
    pub fn write(folder: &Path, length: u64) -> Self {
        let file = folder.join("orders.tsv");
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&file).expect("the file is made"));
        let (mut rows, mut written) = (0, 0);
        while written < length {
            let row = row(rows);
            out.write_all(row.as_bytes()).expect("the orders are written");
            written += row.len() as u64;
            rows += 1;
        }
        out.flush().expect("the orders are written");
        Self { file, rows }
    }

    /// A statement that changes 1 % of the rows, in ten stretches.
    pub fn change(&self) -> String {
        let (stretch, changed) = (self.rows / 10, self.rows / 1000);
        format!(
            "UPDATE orders SET state = 'returned', note = 'refund', token = LEFT(MD5(token), 12) WHERE MOD(id, {stretch}) < {changed}"
        )
    }

    /// A statement that changes a little more: what only a log knows of.
    pub fn sell(&self) -> String {
        format!("UPDATE orders SET note = 'sold again' WHERE id >= {}", self.rows.saturating_sub(1000))
    }
}

/// One order: numbers, times, names, words that vary, and a token that does not compress.
fn row(number: u64) -> String {
    const WORDS: [&str; 16] = [
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
    ];
    const STATES: [&str; 3] = ["pending", "shipped", "delivered"];
    let mut random = StdRng::seed_from_u64(number);
    let mut word = || WORDS[random.random_range(0..WORDS.len())];
    let words = [word(), word(), word(), word(), word(), word()].join(" ");
    let (customer, state) = (random.random_range(0..40_000), STATES[random.random_range(0..3)]);
    let (cents, token) = (random.random_range(100..90_000), random.random_range(0..1_u64 << 48));
    let (minute, second) = (number % 1440, customer % 60);
    format!(
        "{number}\t{customer}\tcustomer-{customer:06}@example.org\t2026-03-14 {:02}:{:02}:{second:02}\t{state}\t{}.{:02}\t{words}\t{token:012x}\t\\N\n",
        minute / 60,
        minute % 60,
        cents / 100,
        cents % 100,
    )
}
