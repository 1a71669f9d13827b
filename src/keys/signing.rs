//! Signatures as `ssh-keygen -Y sign` makes them (PROTOCOL.sshsig of OpenSSH).

use ssh_key::{HashAlg, LineEnding, PrivateKey, PublicKey, SshSig};

/// The largest armored signature that is read, bytes.
const LARGEST: usize = 4096;

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The public key, as in `signing.pub` and without a comment.
    pub key: String,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// It is no signature.
    #[error("the signature cannot be read: {0}")]
    Malformed(String),
    /// Nobody whom we trust made it.
    #[error("it is signed by {0}, which is not in keys.trusted")]
    UnknownKey(String),
    /// It is of other bytes, or for another purpose.
    #[error("the signature does not fit the content")]
    Mismatch,
}

pub(super) fn sign(key: &PrivateKey, namespace: &'static str, bytes: &[u8]) -> String {
    key.sign(namespace, HashAlg::Sha512, bytes)
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .expect("an unencrypted ed25519 key signs anything in a namespace that is not empty")
}

pub(super) fn verify<'a>(
    mut trusted: impl Iterator<Item = &'a PublicKey>,
    namespace: &str,
    bytes: &[u8],
    armored: &[u8],
) -> Result<Signer, Untrusted> {
    if armored.len() > LARGEST {
        return Err(Untrusted::Malformed(format!("it is longer than {LARGEST} bytes")));
    }
    let signature = SshSig::from_pem(armored).map_err(|e| Untrusted::Malformed(e.to_string()))?;
    let signer = trusted
        .find(|key| key.key_data() == signature.public_key())
        .ok_or_else(|| Untrusted::UnknownKey(public_text(&signature.public_key().clone().into())))?;
    signer.verify(namespace, bytes, &signature).map_err(|_| Untrusted::Mismatch)?;
    Ok(Signer { key: public_text(signer) })
}

/// A public key as in `signing.pub`, without a comment.
pub(super) fn public_text(key: &PublicKey) -> String {
    PublicKey::from(key.key_data().clone()).to_openssh().expect("a public key that was parsed can be written")
}
