//! Approvals of plans: a person's word that deletions which a safety rule holds back may be made all the same.
//!
//! An approval is of exactly one plan, by its [`PlanHash`]: what is deleted, of which backup in which store, on the strength
//! of which declaration and of what was seen in the store. It says nothing of any other plan, and it expires.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// No approval counts for longer than this.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

/// How far the clock of whoever gave an approval may be ahead of ours.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// What the name of a plan begins with, so that it can't be taken for a revision.
const PREFIX: &str = "plan:";

/// How many digits of a plan's name are shown to people, and are the least that they may give.
const SHORT: usize = 10;

/// The SHA-256 of a plan to delete artifacts of one backup in one store; see `plan::check` for what it is of.
///
/// `plan:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanHash([u8; 32]);

/// A text that names no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a plan's name is `{PREFIX}` and 64 hexadecimal digits, as `backstay plan -o json` shows it")]
pub struct InvalidPlanHash;

impl PlanHash {
    /// Of this SHA-256.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// What people are shown: enough to tell it from others.
    pub fn short(&self) -> String {
        self.to_string()[..PREFIX.len() + SHORT].to_owned()
    }

    /// Whether `prefix` is its beginning.
    pub fn begins_with(&self, prefix: &PlanPrefix) -> bool {
        self.to_string()[PREFIX.len()..].starts_with(&prefix.0)
    }
}

impl fmt::Display for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{PREFIX}{}", hex::encode(self.0)))
    }
}

impl fmt::Debug for PlanHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PlanHash {
    type Err = InvalidPlanHash;

    fn from_str(text: &str) -> Result<Self, InvalidPlanHash> {
        let digits = digits(text).ok_or(InvalidPlanHash)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| InvalidPlanHash)?;
        Ok(Self(digest))
    }
}

impl TryFrom<String> for PlanHash {
    type Error = InvalidPlanHash;

    fn try_from(text: String) -> Result<Self, InvalidPlanHash> {
        text.parse()
    }
}

impl From<PlanHash> for String {
    fn from(hash: PlanHash) -> String {
        hash.to_string()
    }
}

/// The lower-case hexadecimal digits of a plan's name.
fn digits(text: &str) -> Option<&str> {
    let digits = text.strip_prefix(PREFIX)?;
    digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(digits)
}

/// The beginning of a plan's name, as a person gives it: `plan:` and at least 10 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPrefix(String);

impl fmt::Display for PlanPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl FromStr for PlanPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = digits(text).filter(|digits| (SHORT..=64).contains(&digits.len()));
        let invalid = || format!("give `{PREFIX}` and {SHORT} to 64 digits, as `backstay plan` shows them");
        digits.map(|digits| Self(digits.to_owned())).ok_or_else(invalid)
    }
}

/// By whose word something is done that a rule would have held back. All texts are safe to print.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warrant {
    /// The plan that was approved.
    pub plan: PlanHash,
    /// Who approved it: `user@host`, or who signed the commit, with which key.
    pub by: String,
    /// Why.
    pub reason: String,
    /// The commit that says so; absent where it was said on a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// For people: `kai@workstation: the old server is gone`.
impl fmt::Display for Warrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.commit {
            Some(commit) => {
                write!(f, "{} in commit {}: {}", self.by, commit.get(..10).unwrap_or(commit), self.reason)
            }
            None => write!(f, "{}: {}", self.by, self.reason),
        }
    }
}

/// A person's word that a plan may be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanApproval {
    /// Of what, by whom and why.
    pub warrant: Warrant,
    /// The revision that the plan was made for.
    pub revision: String,
    /// The digest of what that revision declares: the approval counts while nothing else is declared.
    pub declaration: String,
    /// When it was given.
    pub given: Timestamp,
    /// The last moment at which it counts.
    pub until: Timestamp,
}

impl PlanApproval {
    /// Why it does not count at `now`, while `declaration` is the digest of what is declared; `None` when it does.
    pub fn fault(&self, declaration: &str, now: Timestamp) -> Option<String> {
        if self.given > now.saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX) {
            Some(format!("it was given at {:.0}, which has not come", self.given))
        } else if self.until.duration_since(self.given) > LONGEST {
            Some(format!("it would count for more than {} days", LONGEST.as_hours() / 24))
        } else if now > self.until {
            Some(format!("it expired at {:.0}", self.until))
        } else if self.declaration != declaration {
            let base = self.revision.get(..10).unwrap_or(&self.revision);
            Some(format!("it was given for revision {base}, and something else is declared now"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approval() -> PlanApproval {
        let given = Timestamp::UNIX_EPOCH;
        PlanApproval {
            warrant: Warrant {
                plan: PlanHash([7; 32]),
                by: "kai@host".to_owned(),
                reason: "meant".to_owned(),
                commit: None,
            },
            revision: "c0ffee".to_owned(),
            declaration: "d".to_owned(),
            given,
            until: given + SignedDuration::from_hours(24),
        }
    }

    #[test]
    fn a_plan_is_named_by_its_whole_hash_and_by_enough_of_it() {
        let hash = PlanHash([0xab; 32]);
        assert_eq!(hash.to_string().parse(), Ok(hash));
        assert_eq!(hash.short(), "plan:ababababab");
        assert!(hash.begins_with(&hash.short().parse().unwrap()));
        assert!(!PlanHash([0xac; 32]).begins_with(&hash.short().parse().unwrap()));
        for other in ["", "plan:", "plan:ababababa", "ababababab", "plan:ABABABABAB", "plan:abababababg"] {
            assert!(other.parse::<PlanPrefix>().is_err() && other.parse::<PlanHash>().is_err(), "{other}");
        }
        assert!("plan:ababababab".parse::<PlanHash>().is_err(), "a part names no plan by itself");
    }

    #[test]
    fn an_approval_counts_for_what_is_declared_until_it_expires() {
        let (approval, hour) = (approval(), SignedDuration::from_hours(1));
        assert_eq!(approval.fault("d", approval.given), None);
        assert_eq!(approval.fault("d", approval.until), None);
        assert!(approval.fault("d", approval.until + hour).unwrap().contains("expired"));
        assert!(approval.fault("e", approval.given).unwrap().contains("c0ffee"));
        assert!(approval.fault("d", approval.given - hour).unwrap().contains("has not come"));
        assert_eq!(approval.fault("d", approval.given - SignedDuration::from_mins(5)), None);
        let endless = PlanApproval { until: approval.given + LONGEST + hour, ..approval };
        assert!(endless.fault("d", endless.given).unwrap().contains("30 days"));
    }
}
