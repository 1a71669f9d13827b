//! One segment as it is stored: a `zstd` frame inside an `age` file, so that those two programs read it.
//!
//! The frame is of level 3 and carries its content's size and checksum (RFC 8878). The age file is binary, version 1
//! (age-encryption.org/v1), to all recipients.

use std::io::{Read, Write};

use age::x25519;
use zstd::zstd_safe::{self, CParameter};

use crate::spec;

/// The longest plaintext of a segment, bytes.
pub const LONGEST: usize = 16 << 20;

const LEVEL: i32 = 3;

/// Who can read what is sealed; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipients(Vec<x25519::Recipient>);

/// A list of recipients that nothing can be sealed to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRecipients {
    /// There is none.
    #[error("failed to encrypt to nobody; declare [fleet] recipients, as backstay keygen prints them")]
    None,
    /// One is no X25519 public key.
    #[error("failed to read the recipient `{}`: {why}; use a key as backstay keygen prints it", .key.escape_debug())]
    Malformed {
        /// The text.
        key: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl Recipients {
    /// Reads age public keys (`age1…`). The order and repetitions do not matter.
    pub fn parse<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidRecipients> {
        let mut keys: Vec<&str> = keys.into_iter().collect();
        keys.sort_unstable();
        keys.dedup();
        if keys.is_empty() {
            return Err(InvalidRecipients::None);
        }
        let parse =
            |key: &str| key.parse().map_err(|why| InvalidRecipients::Malformed { key: key.to_owned(), why });
        keys.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// The recipients of a fleet or a store.
    pub fn declared(keys: &[spec::Recipient]) -> Result<Self, InvalidRecipients> {
        Self::parse(keys.iter().map(spec::Recipient::as_str))
    }

    /// The public keys as text, sorted.
    pub fn to_texts(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Encrypts `plaintext` into a binary age file behind what `into` holds.
    pub fn encrypt(&self, plaintext: &[u8], into: &mut Vec<u8>) -> Result<(), SealError> {
        let recipients = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(recipients).map_err(|e| SealError(e.to_string()))?;
        let mut writer = encryptor.wrap_output(into).map_err(|e| SealError(e.to_string()))?;
        writer.write_all(plaintext).and_then(|()| writer.finish()).map_err(|e| SealError(e.to_string()))?;
        Ok(())
    }
}

/// Bytes that could not be sealed; only for want of memory or randomness.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to compress or encrypt a segment: {0}; report this")]
pub struct SealError(String);

/// Seals segments, one after another; reuses its memory.
pub struct Sealer {
    recipients: Recipients,
    compressor: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

impl Sealer {
    /// A sealer to `recipients`.
    pub fn new(recipients: Recipients) -> Result<Self, SealError> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|e| SealError(e.to_string()))?;
        for parameter in [CParameter::ChecksumFlag(true), CParameter::ContentSizeFlag(true)] {
            compressor.set_parameter(parameter).map_err(|e| SealError(e.to_string()))?;
        }
        Ok(Self { recipients, compressor, compressed: Vec::new() })
    }

    /// The segment as it is stored.
    pub fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        self.compressed.clear();
        self.compressed.reserve(zstd_safe::compress_bound(plaintext.len()));
        self.compressor
            .compress_to_buffer(plaintext, &mut self.compressed)
            .map_err(|e| SealError(e.to_string()))?;
        let mut sealed = Vec::with_capacity(sealed_bound(self.compressed.len(), self.recipients.0.len()));
        self.recipients.encrypt(&self.compressed, &mut sealed)?;
        Ok(sealed)
    }
}

/// Room for an age file, so that writing it does not move it: a header of under 128 bytes and under 128 a recipient, and
/// a tag of 16 bytes every 64 KiB.
fn sealed_bound(plaintext: usize, recipients: usize) -> usize {
    128 + 128 * recipients + plaintext + (plaintext / (64 << 10) + 1) * 16
}

/// Why a stored segment could not be brought back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// None of the identities is among its recipients.
    #[error("none of the identities can decrypt it")]
    WrongIdentity,
    /// It is not the age file that was written.
    #[error("its encryption is damaged: {0}")]
    Encryption(String),
    /// It is not the zstd frame that was written.
    #[error("its compression is damaged: {0}")]
    Compression(String),
}

/// Opens segments, one after another; reuses its memory.
pub struct Opener<'a> {
    identities: &'a [x25519::Identity],
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
}

impl<'a> Opener<'a> {
    /// An opener with `identities`.
    pub fn new(identities: &'a [x25519::Identity]) -> Result<Self, OpenError> {
        let decompressor =
            zstd::bulk::Decompressor::new().map_err(|e| OpenError::Compression(e.to_string()))?;
        Ok(Self { identities, decompressor, compressed: Vec::new() })
    }

    /// A segment's plaintext, at most [`LONGEST`] bytes.
    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.compressed.clear();
        decrypt_into(self.identities, sealed, &mut self.compressed)?;
        let damaged = |why: &str| OpenError::Compression(why.to_owned());
        let length = zstd_safe::get_frame_content_size(&self.compressed)
            .map_err(|_| damaged("it is no zstd frame"))?
            .ok_or_else(|| damaged("it does not tell its size"))?;
        let length = usize::try_from(length)
            .ok()
            .filter(|l| *l <= LONGEST)
            .ok_or_else(|| damaged("it claims to be longer than any segment"))?;
        self.decompressor
            .decompress(&self.compressed, length)
            .map_err(|e| OpenError::Compression(e.to_string()))
    }
}

/// Decrypts a whole binary age file of any size, such as a manifest's sealed part.
pub fn decrypt(identities: &[x25519::Identity], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut plaintext = Vec::new();
    decrypt_into(identities, sealed, &mut plaintext)?;
    Ok(plaintext)
}

fn decrypt_into(identities: &[x25519::Identity], sealed: &[u8], into: &mut Vec<u8>) -> Result<(), OpenError> {
    let decryptor = age::Decryptor::new(sealed).map_err(|e| OpenError::Encryption(e.to_string()))?;
    let identities = identities.iter().map(|identity| identity as &dyn age::Identity);
    let mut reader = decryptor.decrypt(identities).map_err(|e| match e {
        age::DecryptError::NoMatchingKeys => OpenError::WrongIdentity,
        other => OpenError::Encryption(other.to_string()),
    })?;
    reader.read_to_end(into).map_err(|e| OpenError::Encryption(e.to_string()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (x25519::Identity, Recipients) {
        let identity = x25519::Identity::generate();
        let recipients = Recipients::parse([identity.to_public().to_string().as_str()]).unwrap();
        (identity, recipients)
    }

    #[test]
    fn a_sealed_segment_opens_with_its_identity_only() {
        let (identity, recipients) = pair();
        let mut sealer = Sealer::new(recipients).unwrap();
        for plaintext in [vec![], b"row\n".repeat(300_000)] {
            let sealed = sealer.seal(&plaintext).unwrap();
            assert_eq!(Opener::new(std::slice::from_ref(&identity)).unwrap().open(&sealed), Ok(plaintext));
            let (stranger, _) = pair();
            assert_eq!(Opener::new(&[stranger]).unwrap().open(&sealed), Err(OpenError::WrongIdentity));
        }
    }

    #[test]
    fn every_altered_or_missing_byte_is_found() {
        let (identity, recipients) = pair();
        let identities = [identity];
        let sealed = Sealer::new(recipients).unwrap().seal(b"some rows").unwrap();
        let mut opener = Opener::new(&identities).unwrap();
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(opener.open(&altered).is_err(), "byte {at}");
            assert!(opener.open(&sealed[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_is_refused() {
        let (identity, recipients) = pair();
        let huge = zstd::bulk::compress(&vec![0; LONGEST + 1], 3).unwrap();
        let mut sealed = Vec::new();
        recipients.encrypt(&huge, &mut sealed).unwrap();
        let identities = [identity];
        let refused = Opener::new(&identities).unwrap().open(&sealed);
        assert!(matches!(refused, Err(OpenError::Compression(_))), "{refused:?}");
    }
}
