//! Sources that need no server.

#[path = "../conformance/sources.rs"]
pub mod suite;

mod files;
mod sqlite;

use std::sync::atomic::{AtomicBool, Ordering};

/// Stops a disturber at the end of its scope, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
