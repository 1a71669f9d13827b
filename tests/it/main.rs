//! Tests that need no server.

mod architecture;
mod git;
mod stores;
