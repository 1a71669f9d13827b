//! Takes the steps of a plan.

pub mod capture;
pub mod cleanup;
pub mod compare;
pub mod copy;
pub mod delete;
pub mod executor;
mod garbage;
pub mod journal;
pub mod lease;
pub mod repair;
pub mod restore;
pub mod segment;
pub mod stream;
pub mod sweep;
pub mod transfer;
pub mod verify;
