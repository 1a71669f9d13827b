//! What was looked at: known, or unknown.

use serde::{Deserialize, Serialize};

/// Something that was looked at. What could not be seen is unknown, never absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observed<T> {
    /// As it was found.
    Known(T),
    /// Why it could not be seen.
    Unknown(String),
}

impl<T> Observed<T> {
    /// What was found, if anything could be seen.
    pub fn known(&self) -> Option<&T> {
        match self {
            Observed::Known(found) => Some(found),
            Observed::Unknown(_) => None,
        }
    }

    /// The same, by reference.
    pub fn as_ref(&self) -> Observed<&T> {
        match self {
            Observed::Known(found) => Observed::Known(found),
            Observed::Unknown(why) => Observed::Unknown(why.clone()),
        }
    }

    /// What follows from what was found.
    pub fn map<U>(self, follows: impl FnOnce(T) -> U) -> Observed<U> {
        match self {
            Observed::Known(found) => Observed::Known(follows(found)),
            Observed::Unknown(why) => Observed::Unknown(why),
        }
    }
}

impl<T> Default for Observed<T> {
    /// Nothing was looked at yet.
    fn default() -> Self {
        Observed::Unknown("it was not looked at yet".to_owned())
    }
}
