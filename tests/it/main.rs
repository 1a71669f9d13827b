//! Tests that need no server.

mod stores;
