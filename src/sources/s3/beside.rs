//! What is in a bucket, read beside what is put into it: both are in the order of keys.

use super::{
    Failure,
    listing::{Listed, Listing},
};

/// A listing that is followed from key to key.
pub(super) struct Beside<'a> {
    listing: Listing<'a>,
    ahead: Option<Listed>,
    begun: bool,
    others: u64,
}

impl<'a> Beside<'a> {
    pub(super) fn new(listing: Listing<'a>) -> Self {
        Self { listing, ahead: None, begun: false, others: 0 }
    }

    async fn advance(&mut self) -> Result<(), Failure> {
        (self.ahead, self.begun) = (self.listing.next().await?, true);
        Ok(())
    }

    /// Whether `key` is there. Keys are asked for in ascending order; what lies between them was not asked for.
    pub(super) async fn holds(&mut self, key: &str) -> Result<bool, Failure> {
        if !self.begun {
            self.advance().await?;
        }
        while self.ahead.as_ref().is_some_and(|ahead| ahead.key.as_str() < key) {
            self.others += 1;
            self.advance().await?;
        }
        if self.ahead.as_ref().is_some_and(|ahead| ahead.key == key) {
            self.advance().await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// How many are there that were not asked for.
    pub(super) async fn rest(mut self) -> Result<u64, Failure> {
        if !self.begun {
            self.advance().await?;
        }
        while self.ahead.is_some() {
            self.others += 1;
            self.advance().await?;
        }
        Ok(self.others)
    }
}
