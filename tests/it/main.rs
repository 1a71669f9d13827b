//! Tests that need no server.

mod architecture;
mod executor;
mod git;
mod stores;
