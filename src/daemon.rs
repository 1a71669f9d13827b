//! The reconcile loop.

pub mod queue;
pub mod requests;
