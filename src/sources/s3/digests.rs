//! Whether an object that is there holds the content of one that is restored. Pure.

use aws_sdk_s3::{
    operation::head_object::HeadObjectOutput,
    types::{ChecksumType, ServerSideEncryption},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::checks::md5_of;

/// What content sums up to, whole and in parts of one size.
pub(super) struct Digests {
    whole: Sha256,
    md5: Md5,
    parts: Vec<[u8; 32]>,
}

/// The sums of some content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sums {
    sha256: String,
    md5: String,
    /// Of the parts' sums, with their number, as S3 tells it of an object in parts.
    of_parts: String,
}

impl Digests {
    pub(super) fn new() -> Self {
        Self { whole: Sha256::new(), md5: Md5::new(), parts: Vec::new() }
    }

    /// The next part of the content.
    pub(super) fn part(&mut self, content: &[u8]) {
        self.whole.update(content);
        self.md5.update(content);
        self.parts.push(Sha256::digest(content).into());
    }

    pub(super) fn sums(self) -> Sums {
        let of_parts = BASE64_STANDARD.encode(Sha256::digest(self.parts.concat()));
        Sums {
            sha256: BASE64_STANDARD.encode(self.whole.finalize()),
            md5: hex::encode(self.md5.finalize()),
            of_parts: format!("{of_parts}-{}", self.parts.len()),
        }
    }
}

impl Sums {
    /// Whether what was looked at is proved to be this content. What tells nothing is taken for another.
    pub(super) fn are_of(&self, there: &HeadObjectOutput) -> bool {
        let whole = there.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
        if let Some(told) = there.checksum_sha256() {
            if told == self.of_parts {
                return true;
            }
            if whole && !told.contains('-') {
                return told == self.sha256;
            }
        }
        let plain = there.server_side_encryption().is_none_or(|kind| *kind == ServerSideEncryption::Aes256)
            && there.sse_customer_algorithm().is_none();
        plain && there.e_tag().and_then(md5_of).is_some_and(|told| told == self.md5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sum_that_is_told_and_equal_proves_content() {
        let mut digests = Digests::new();
        digests.part(b"hel");
        digests.part(b"lo");
        let sums = digests.sums();
        let there = HeadObjectOutput::builder;
        let same = [
            there().e_tag("\"5d41402abc4b2a76b9719d911017c592\""),
            there().checksum_sha256("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=").e_tag("\"x\""),
            there().checksum_sha256(sums.of_parts.clone()).checksum_type(ChecksumType::Composite),
        ];
        for answer in same {
            assert!(sums.are_of(&answer.build()));
        }
        let other = [
            there(),
            there().e_tag("\"5d41402abc4b2a76b9719d911017c593\""),
            there().e_tag("\"5d41402abc4b2a76b9719d911017c592-1\""),
            there()
                .e_tag("\"5d41402abc4b2a76b9719d911017c592\"")
                .server_side_encryption(ServerSideEncryption::AwsKms),
            there().checksum_sha256("AAAA").e_tag("\"5d41402abc4b2a76b9719d911017c592\""),
        ];
        for answer in other {
            assert!(!sums.are_of(&answer.build()));
        }
    }
}
