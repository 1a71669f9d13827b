//! Looks at the world, and says what could not be seen.

pub mod cache;
pub mod listing;
pub mod outline;
pub mod stores;
