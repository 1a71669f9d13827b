//! Keys: the one that a machine proves itself with, and the public half of the one that is logged in with.

use ssh_key::{Algorithm, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::{provisioners::ProvisionError, secrets::Secret};

/// A key for a machine.
pub(super) struct HostKey {
    /// As OpenSSH writes it in a file.
    pub(super) private: Zeroizing<String>,
    /// `ssh-ed25519 AAAA…`.
    pub(super) public: String,
}

impl HostKey {
    /// A new one.
    pub(super) fn new() -> Result<Self, ProvisionError> {
        let failed =
            |error: ssh_key::Error| ProvisionError::stalled(format!("failed to make a host key: {error}"));
        let key = PrivateKey::random(&mut ssh_key::rand_core::OsRng, Algorithm::Ed25519).map_err(failed)?;
        Ok(Self {
            private: key.to_openssh(LineEnding::LF).map_err(failed)?,
            public: key.public_key().to_openssh().map_err(failed)?,
        })
    }
}

/// The public half of a private key.
///
/// # Errors
/// It is no key of OpenSSH's.
pub fn public_half(private: &Secret) -> Result<String, String> {
    let key = PrivateKey::from_openssh(private.expose().trim_end());
    let mut key = key.map_err(|error| {
        format!(
            "it is no private key in OpenSSH's own format ({error}); make one with `ssh-keygen -t ed25519`"
        )
    })?;
    key.set_comment("");
    key.public_key().to_openssh().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_whose_public_half_is_known() {
        let key = HostKey::new().unwrap();
        assert!(key.public.starts_with("ssh-ed25519 AAAA"), "{}", key.public);
        assert_eq!(public_half(&Secret::new(key.private.to_string())).as_ref(), Ok(&key.public));
        let error = public_half(&Secret::new("-----BEGIN RSA PRIVATE KEY-----\nhunter2".into())).unwrap_err();
        assert!(error.contains("ssh-keygen") && !error.contains("hunter2"), "{error}");
    }
}
