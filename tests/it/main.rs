//! Tests that need no server.

mod architecture;
mod cli;
mod declaration;
mod examples;
mod executor;
mod git;
mod journal;
mod sources;
mod stores;

mod planning;
mod world;
