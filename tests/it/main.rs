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
mod journal;
mod kit;
mod observe;
mod passes;
mod planning;
mod records;
mod restore;
mod rewrite;
mod simulation;
mod sources;
mod stores;
mod world;
