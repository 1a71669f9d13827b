//! Schedules none of whose slots comes while the tests run, whenever that is: a controller's passes make then what a test
//! asks for, and the first of each kind that is missing.

use std::sync::LazyLock;

use jiff::Timestamp;

#[path = "../../time/schedules.rs"]
mod far;

/// When the tests began, so that a declaration is the same each time that a test makes it. All of them together take hours,
/// and a slot is half a day away.
static BEGAN: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

/// Once a day.
pub fn nightly() -> String {
    far::daily(*BEGAN)
}

/// Once a week.
pub fn weekly() -> String {
    far::weekly(*BEGAN)
}

/// Once a year.
pub fn yearly() -> String {
    far::yearly(*BEGAN)
}

/// The declaration that `backstay init` makes, with schedules that are far away.
pub fn of_init(made: &str) -> String {
    far::of_init(made, *BEGAN)
}

/// A policy of this name of fulls and the log.
pub fn with_log(name: &str) -> String {
    let nightly = nightly();
    format!("[policy.{name}]\nrpo = \"26h\"\nfull = \"{nightly}\"\nlog = \"{nightly}\"\n")
}

/// A policy of this name of fulls, their increments and the log.
pub fn with_increments_and_log(name: &str) -> String {
    let (weekly, nightly) = (weekly(), nightly());
    format!(
        "[policy.{name}]\nrpo = \"26h\"\nfull = \"{weekly}\"\nincremental = \"{nightly}\"\nlog = \"{nightly}\"\n"
    )
}
