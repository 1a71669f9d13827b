//! What is told of several fleets at once, as JSON.

use serde::Serialize;

/// The format of a list of [`Told`].
pub const FORMAT: &str = "backstay.fleets/1";

/// What is told of one of several fleets.
#[derive(Clone, Debug, Serialize)]
pub struct Told<T> {
    /// What its configuration is called on this host.
    pub fleet: String,
    /// What a command about it alone would have exited with; of commands only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<u8>,
    /// What would be told of it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<T>,
    /// Why nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
