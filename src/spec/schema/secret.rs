//! Secrets, by reference only.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::values::{AbsolutePath, Text, Word};

/// Where a secret is found when it is needed; never the secret. Exactly one of `file`, `env`, `command` and `age`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("format" = "secret-reference", "oneOf" = [
    { "required": ["file"] }, { "required": ["env"] }, { "required": ["command"] }, { "required": ["age"] },
]))]
pub struct Secret {
    /// A file of the controller's host.
    pub file: Option<Text<AbsolutePath>>,
    /// A variable of the controller's environment.
    pub env: Option<Text<Word>>,
    /// A program of the controller's host, with arguments, that prints it. The host's `allow.run` must name it.
    #[schemars(length(min = 1))]
    pub command: Option<Vec<String>>,
    /// Armored age, encrypted to the controller's identity.
    pub age: Option<String>,
}
