//! Tests that need no server.

mod architecture;
mod stores;
