//! Which members of an archive are what stood under their keys: the first of each key. Pure.

use super::{Failure, about::About, fetch::shown};

/// Reads members in their order.
#[derive(Debug, Default)]
pub(super) struct Standings {
    last: Option<String>,
}

impl Standings {
    /// Whether this is the first member of its key. An archive that is not in the order of keys is refused.
    pub(super) fn is_current(&mut self, about: &About) -> Result<bool, Failure> {
        match &self.last {
            Some(last) if *last == about.key => return Ok(false),
            Some(last) if *last > about.key => {
                let why =
                    format!("`{}` is not in the order of keys: no capture wrote it so", shown(&about.key));
                return Err(Failure::Refused(why));
            }
            _ => {}
        }
        self.last = Some(about.key.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_member_of_a_key_is_current_and_disorder_is_refused() {
        let about = |key: &str| About { key: key.to_owned(), ..About::default() };
        let mut standings = Standings::default();
        let current: Vec<bool> =
            ["a", "a", "b", "b"].map(|key| standings.is_current(&about(key)).unwrap()).to_vec();
        assert_eq!(current, [true, false, true, false]);
        assert!(standings.is_current(&about("a")).is_err());
    }
}
