//! Tests that need no server.

mod architecture;
mod artifacts;
mod capture;
mod check;
mod cli;
mod daemon;
mod declaration;
mod examples;
mod executor;
mod git;
mod golden;
mod journal;
mod kit;
mod loop_simulation;
mod observe;
mod on_demand;
mod passes;
mod planning;
mod records;
mod restore;
mod rewrite;
mod simulation;
mod sources;
mod status;
mod stores;
mod world;
