//! Takes the steps of a plan.

pub mod executor;
pub mod journal;
pub mod segment;
