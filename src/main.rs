//! The `backstay` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    backstay::cli::run(std::env::args_os()).into()
}
