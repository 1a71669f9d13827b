//! What a server says that an object's content sums up to, and whether it does. Pure.

use aws_sdk_s3::{
    operation::get_object::GetObjectOutput,
    types::{ChecksumType, ServerSideEncryption},
};
use aws_smithy_checksums::{ChecksumAlgorithm, http::HttpChecksum};
use base64::{Engine, prelude::BASE64_STANDARD};
use md5::{Digest, Md5};

/// The strongest sum of the whole content that is told, as far as it was read.
pub(super) enum Check {
    /// One of S3's own checksums.
    Checksum { expected: String, sum: Box<dyn HttpChecksum> },
    /// The ETag of an object that was put in one request is its MD5, unless it is encrypted with a key of its own.
    Md5 { expected: String, sum: Md5 },
    /// Only the length is known: objects in parts tell sums of sums.
    Length,
}

impl Check {
    /// What `answer` tells.
    pub(super) fn of(answer: &GetObjectOutput) -> Self {
        let whole = answer.checksum_type().is_none_or(|kind| *kind == ChecksumType::FullObject);
        let told = [
            (ChecksumAlgorithm::Sha256, answer.checksum_sha256()),
            (ChecksumAlgorithm::Crc64Nvme, answer.checksum_crc64_nvme()),
            (ChecksumAlgorithm::Crc32c, answer.checksum_crc32_c()),
            (ChecksumAlgorithm::Crc32, answer.checksum_crc32()),
            (ChecksumAlgorithm::Sha1, answer.checksum_sha1()),
        ];
        // The number of parts stands behind a sum of sums.
        let told =
            told.into_iter().find_map(|(kind, sum)| Some((kind, sum.filter(|sum| !sum.contains('-'))?)));
        if let Some((kind, expected)) = told.filter(|_| whole) {
            return Check::Checksum { expected: expected.to_owned(), sum: kind.into_impl() };
        }
        let encrypted =
            answer.server_side_encryption().is_some_and(|kind| *kind != ServerSideEncryption::Aes256)
                || answer.sse_customer_algorithm().is_some();
        match answer.e_tag().and_then(md5_of).filter(|_| !encrypted) {
            Some(expected) => Check::Md5 { expected, sum: Md5::new() },
            None => Check::Length,
        }
    }

    /// The next bytes of the content.
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Check::Checksum { sum, .. } => sum.update(bytes),
            Check::Md5 { sum, .. } => sum.update(bytes),
            Check::Length => {}
        }
    }

    /// Whether all of it was as told; says what was not.
    pub(super) fn finish(self) -> Result<(), String> {
        let (what, expected, found) = match self {
            Check::Checksum { expected, sum } => {
                ("checksum", expected, BASE64_STANDARD.encode(sum.finalize()))
            }
            Check::Md5 { expected, sum } => ("ETag", expected, hex::encode(sum.finalize())),
            Check::Length => return Ok(()),
        };
        if found == expected {
            Ok(())
        } else {
            Err(format!("its {what} is {expected}, what was read has {found}"))
        }
    }
}

/// The MD5 that an ETag is, if it is one.
pub(super) fn md5_of(etag: &str) -> Option<String> {
    let etag = etag.trim_matches('"');
    (etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_hexdigit())).then(|| etag.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::operation::get_object::builders::GetObjectOutputBuilder;

    use super::*;

    fn checked(answer: GetObjectOutputBuilder, content: &[u8]) -> Result<(), String> {
        let mut check = Check::of(&answer.build());
        content.chunks(2).for_each(|piece| check.update(piece));
        check.finish()
    }

    #[test]
    fn content_is_held_against_the_strongest_sum_that_is_told() {
        let answer = GetObjectOutput::builder;
        let sums: [fn(GetObjectOutputBuilder) -> GetObjectOutputBuilder; 4] = [
            |it| it.e_tag("\"5d41402abc4b2a76b9719d911017c592\""),
            |it| it.checksum_sha256("LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=").e_tag("\"x\""),
            |it| it.checksum_crc32("NhCmhg==").checksum_type(ChecksumType::FullObject),
            |it| it.checksum_sha1("qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ];
        for sum in sums {
            assert_eq!(checked(sum(answer()), b"hello"), Ok(()));
            assert!(checked(sum(answer()), b"hellO").is_err());
        }
    }

    #[test]
    fn sums_of_parts_and_tags_of_encrypted_objects_prove_nothing() {
        let md5 = || GetObjectOutput::builder().e_tag("\"5d41402abc4b2a76b9719d911017c592\"");
        let unproved = [
            GetObjectOutput::builder().e_tag("\"5d41402abc4b2a76b9719d911017c592-2\""),
            GetObjectOutput::builder().checksum_crc32("NhCmhg==-2"),
            GetObjectOutput::builder().checksum_crc32("NhCmhg==").checksum_type(ChecksumType::Composite),
            md5().server_side_encryption(ServerSideEncryption::AwsKms),
            md5().sse_customer_algorithm("AES256"),
        ];
        for answer in unproved {
            assert_eq!(checked(answer, b"other"), Ok(()));
        }
        assert!(checked(md5().server_side_encryption(ServerSideEncryption::Aes256), b"other").is_err());
    }
}
