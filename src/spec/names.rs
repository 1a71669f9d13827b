//! Names of resources: short, safe as a path component in every store, and distinct types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reserved name of the infra repo's own backup.
pub const INFRA: &str = "infra";

/// The longest name, in bytes.
pub const LONGEST_NAME: usize = 63;

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a name: use 1 to {LONGEST_NAME} of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit", .0.escape_debug())]
pub struct InvalidName(pub String);

fn is_name(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    text.len() <= LONGEST_NAME
        && text.starts_with(plain)
        && text.chars().all(|c| plain(c) || matches!(c, '-' | '_' | '.'))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if is_name(&text) { Ok(Self(text)) } else { Err(InvalidName(text)) }
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

names! {
    /// The name of everything that one infra repo declares.
    FleetName,
    /// The name of a `[backup.NAME]`, or [`INFRA`].
    BackupName,
    /// The name of a backup's folder in every store, which its manifests and records bear as well: the backup's own, or where
    /// the backup was renamed the one that it had first (see [`super::moves::Moves`]).
    FolderName,
    /// The name of a `[store.NAME]`.
    StoreName,
    /// The name of a `[policy.NAME]`.
    PolicyName,
    /// The name of a `[contact.NAME]`.
    ContactName,
    /// The name of a `[vm.NAME]`.
    VmName,
    /// The name of a `[recovery.NAME]`.
    RecoveryName,
    /// The name of a `[suspend.NAME]`.
    SuspensionName,
    /// The name of a `[drill.NAME]`.
    DrillName,
    /// The name of a `[traffic.NAME]`.
    TrafficName,
}

impl BackupName {
    /// The infra repo's own backup.
    pub fn infra() -> Self {
        Self(INFRA.to_owned())
    }

    /// Whether this is the infra repo's own backup.
    pub fn is_infra(&self) -> bool {
        self.0 == INFRA
    }
}

/// The folder of a backup that was never renamed.
impl From<&BackupName> for FolderName {
    fn from(name: &BackupName) -> Self {
        Self(name.0.clone())
    }
}

/// The backup whose folder bears its own name.
impl From<&FolderName> for BackupName {
    fn from(name: &FolderName) -> Self {
        Self(name.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_path_components() {
        for good in ["agama", "pavroto-2", "a", "0", "backup.pavroto_1"] {
            assert!(good.parse::<BackupName>().is_ok(), "{good}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for bad in ["", ".", "..", ".hidden", "-flag", "a/b", "a\0b", "A", "a\u{1b}[31m", "ä", long.as_str()]
        {
            assert!(bad.parse::<BackupName>().is_err(), "{bad:?}");
        }
    }
}
