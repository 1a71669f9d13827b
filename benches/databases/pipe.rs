//! Dumps through `zstd -3`, and back.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

/// Runs a program with its output compressed into a file.
pub fn compressed(program: &mut Command, file: &Path) -> Vec<Child> {
    let mut dump = program.stdout(Stdio::piped()).spawn().expect("the program is installed");
    let piped = dump.stdout.take().expect("it is piped");
    let zstd = Command::new("zstd").args(["-3", "-T2", "-q", "-o"]).arg(file).stdin(piped).spawn();
    vec![dump, zstd.expect("zstd is installed")]
}

/// Runs a program on what is in a compressed file.
pub fn plain(file: &Path, program: &mut Command) -> Vec<Child> {
    let mut zstd = Command::new("zstd")
        .args(["-d", "-c", "-q"])
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .expect("zstd is installed");
    let piped = zstd.stdout.take().expect("it is piped");
    vec![zstd, program.stdin(piped).spawn().expect("the program is installed")]
}
