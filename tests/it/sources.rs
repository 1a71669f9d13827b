//! Sources that need no server.

pub mod suite;

mod sqlite;
