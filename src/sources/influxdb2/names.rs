//! Names of buckets.

use std::fmt;

use super::Failure;

/// The name of a bucket that is not the engine's own: those begin with `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BucketName(String);

impl BucketName {
    pub(super) fn parse(name: &str) -> Result<Self, Failure> {
        let shown = || name.escape_debug().take(80).collect::<String>();
        if is_own(name) {
            return Err(Failure::Refused(format!("bucket `{}` is the engine's own", shown())));
        }
        if name.is_empty() || name.len() > 1000 || name.contains(char::is_control) {
            return Err(Failure::Refused(format!("`{}` is no name of a bucket", shown())));
        }
        Ok(Self(name.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a bucket that is only needed for a while, beside this one.
    pub(super) fn beside(&self) -> Self {
        let start: String = self.0.chars().take(40).collect();
        Self(format!("{start}_backstay_{:016x}", rand::random::<u64>()))
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a bucket of that name is the engine's own.
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with('_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_the_engine_and_names_that_no_bucket_has_are_refused() {
        for bad in ["", "_monitoring", "a\nb", &"x".repeat(1001)] {
            BucketName::parse(bad).expect_err(bad);
        }
        let odd = BucketName::parse("tele/ä \"b\"").unwrap();
        assert!(odd.beside() != odd.beside() && odd.beside().as_str().starts_with("tele/ä \"b\"_backstay_"));
    }
}
