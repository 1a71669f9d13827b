//! Contact with the infra repo: while there is none, nobody knows whether there is a newer revision.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// When the infra repo last answered, and since when it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contact {
    /// When it last answered, as far as is known.
    pub answered: Option<Timestamp>,
    /// Since when it does not; `None` while it does.
    pub silent: Option<Silence>,
}

/// The infra repo can't be fetched from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Silence {
    /// Since when.
    pub since: Timestamp,
    /// Why, the last time.
    pub reason: String,
}

impl Contact {
    /// The contact after one more attempt, which failed for `reason`, or did not.
    pub fn after(self, reason: Option<String>, now: Timestamp) -> Self {
        match reason {
            None => Self { answered: Some(now), silent: None },
            Some(reason) => {
                let since = self.silent.map_or(now, |silent| silent.since);
                Self { silent: Some(Silence { since, reason }), ..self }
            }
        }
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_lasts_from_its_first_failure_to_the_next_answer() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let contact = Contact::default().after(None, at(1));
        let contact = contact.after(Some("refused".into()), at(2)).after(Some("no route".into()), at(3));
        let silence = Silence { since: at(2), reason: "no route".into() };
        assert_eq!(contact, Contact { answered: Some(at(1)), silent: Some(silence) });
        assert_eq!(contact.after(None, at(4)), Contact { answered: Some(at(4)), silent: None });
    }
}
