//! Backstay keeps the backups of a fleet in step with what a Git repository declares.
//!
//! # The map, in the order of the flow
//!
//! ```text
//!  infra repo ──git──▶ Declaration ──spec──▶ Spec ─┐
//!                                                  ├─plan──▶ Plan ──check──▶ apply ──▶ journal ──▶ status
//!  stores, sources, schedulers ──observe─▶ Inventory ┘                                  │
//!                                                                       render · web · metrics
//! ```
//!
//! The *core* (`adopt`, `artifact`, `diagnostic`, `spec`, `inventory`, `drift`, `plan`) is pure and synchronous: time and
//! randomness come in as values. *Drivers* (`sources`, `stores`, `schedulers`, `sandboxes`, `provisioners`, `traffic`) touch the outside world
//! behind one trait a family; what those of AWS share is in `aws`. The *shell* observes, asks the core for a plan, and applies it.
//!
//! # Invariants
//!
//! - What could not be observed is [`inventory::Observed::Unknown`], never absent; nothing is deleted on it.
//! - Only the planners decide; `apply` executes a [`plan::Plan`] and chooses nothing.
//! - An artifact exists once its signed manifest is durable: no manifest, no artifact.
//! - Every deletion was allowed by `plan::check`, which knows none of the planners.
//! - Reading, validating and planning a revision executes nothing from it and resolves no secret.
//!
//! # Words
//!
//! *Infra repo*: the Git repository that declares the desired state. *Backup*: a declaration of one source,
//! its policy and its stores. *Artifact*: one stored result of one backup in one store. *Segment*: a piece of
//! a stream, zstd inside age. *Pack*: an immutable object of segments in a row. *Manifest*: the signed commit
//! record of an artifact. *Epoch*: a full artifact and all that share its packs. *Slot*: a moment that a
//! schedule names. *Pass*: one run of observe, plan, check, apply, record.

// Core: pure, synchronous.
pub mod adopt;
pub mod artifact;
pub mod diagnostic;
pub mod drift;
pub mod inventory;
pub mod plan;
pub mod spec;
pub mod status;

// Drivers: the outside world, one trait a family.
pub mod aws;
pub mod drivers;
pub mod process;
pub mod provisioners;
pub mod sandboxes;
pub mod schedulers;
pub mod scratch;
pub mod secrets;
pub mod sources;
pub mod ssh;
pub mod stores;
pub mod traffic;

// Shell: drives the core and the drivers.
pub mod apply;
pub mod archive;
pub mod chance;
pub mod clock;
pub mod committed;
pub mod config;
pub mod daemon;
pub mod durable;
pub mod forges;
pub mod git;
pub mod keys;
pub mod kit;
pub mod observe;
pub mod progress;
pub mod readers;
pub mod reconcile;
pub mod records;
pub mod render;
pub mod state;
pub mod templates;
pub mod web;

// The command line.
pub mod cli;
