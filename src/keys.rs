//! The controller's keys: what it signs with, whom it trusts, what it finds segments by, what it decrypts with.
//!
//! `keys.dir` holds `signing` and `signing.pub` (ed25519, OpenSSH's formats), and `naming` (32 random bytes,
//! hexadecimal). They are made at the first start. The age identity is a file of its own, for restores only.

mod files;
pub mod identity;
mod naming;
mod signing;

use std::{
    io,
    path::{Path, PathBuf},
};

use ssh_key::{LineEnding, PrivateKey, PublicKey, private::Ed25519Keypair};
use zeroize::Zeroizing;

pub use naming::NamingKey;
pub use signing::{Signer, Untrusted};

use crate::spec::names::{FleetName, FolderName};

/// The private key that manifests and records are signed with.
const SIGNING: &str = "signing";
/// Its public half, for `ssh-keygen -Y verify` and for other controllers' `keys.trusted`.
const SIGNING_PUBLIC: &str = "signing.pub";
/// What the keys of the backups are derived from.
const NAMING: &str = "naming";

/// Everything secret that the controller works with. Wiped from memory when it is dropped.
pub struct Keys {
    signing: PrivateKey,
    naming: Zeroizing<[u8; 32]>,
    trusted: Vec<PublicKey>,
    identities: Vec<age::x25519::Identity>,
}

/// A failure to load or make keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read.
    #[error("failed to read {path}: {reason}; see that it exists and that Backstay's user may read it", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// A file or folder could not be made.
    #[error("failed to create {path}: {reason}; see that Backstay's user may write there", path = .path.display())]
    Create {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Others could read or replace a secret.
    #[error("failed to trust {path}: others than its owner may open or change it (mode {mode:o}); run chmod go-rwx on it", path = .path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file holds something else than it should.
    #[error("failed to understand {path}: {reason}; put the right file there, or restore it from the recovery kit", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong; never the content.
        reason: String,
    },
    /// A configured key is no ed25519 public key.
    #[error(
        "failed to read entry {number} of keys.trusted: {reason}; write a line as in signing.pub: ssh-ed25519 AAAA…"
    )]
    Trusted {
        /// Which one, from 1.
        number: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Keys {
    /// Loads the keys of `dir` and makes those that are missing; several processes may do so at once, and end with the
    /// same keys. `trusted` are public keys of earlier controllers, `identity` an age identity file.
    pub fn load_or_create(
        dir: &Path,
        trusted: &[String],
        identity: Option<&Path>,
    ) -> Result<Self, KeysError> {
        files::create_private_folder(dir)?;
        let signing = load_or_create_signing(dir)?;
        let naming = load_or_create_naming(dir)?;
        let trusted =
            trusted.iter().enumerate().map(|(i, key)| parse_trusted(i + 1, key)).collect::<Result<_, _>>()?;
        let identities = identity.map(identity::load).transpose()?.unwrap_or_default();
        Ok(Self { signing, naming, trusted, identities })
    }

    /// The public half of the signing key, as in `signing.pub`.
    pub fn public_key(&self) -> String {
        signing::public_text(self.signing.public_key())
    }

    /// Every public key whose signatures count, the controller's own first.
    pub fn trusted_keys(&self) -> Vec<String> {
        self.trusted().map(signing::public_text).collect()
    }

    /// Signs `bytes` as `ssh-keygen -Y sign -n NAMESPACE` does; an armored signature.
    pub fn sign(&self, namespace: &'static str, bytes: &[u8]) -> String {
        signing::sign(&self.signing, namespace, bytes)
    }

    /// Checks an armored signature of `bytes`. Only the controller's own key and the trusted ones count.
    pub fn verify(&self, namespace: &str, bytes: &[u8], armored: &[u8]) -> Result<Signer, Untrusted> {
        signing::verify(self.trusted(), namespace, bytes, armored)
    }

    /// The key by which one backup's segments are found again.
    pub fn naming_key(&self, fleet: &FleetName, backup: &FolderName) -> NamingKey {
        NamingKey::derive(&self.naming, fleet, backup)
    }

    /// The age identities; none where only captures are made.
    pub fn identities(&self) -> &[age::x25519::Identity] {
        &self.identities
    }

    fn trusted(&self) -> impl Iterator<Item = &PublicKey> {
        std::iter::once(self.signing.public_key()).chain(&self.trusted)
    }
}

fn load_or_create_signing(dir: &Path) -> Result<PrivateKey, KeysError> {
    let path = dir.join(SIGNING);
    let text = files::read_or_create_secret(&path, || {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(&mut *seed);
        let key = PrivateKey::new(Ed25519Keypair::from_seed(&seed).into(), "backstay")
            .map_err(|e| malformed(&path, e))?;
        key.to_openssh(LineEnding::LF).map_err(|e| malformed(&path, e))
    })?;
    let key = PrivateKey::from_openssh(text.as_bytes()).map_err(|e| malformed(&path, e))?;
    if !key.algorithm().is_ed25519() || key.is_encrypted() {
        return Err(malformed(&path, "it is not an ed25519 key without a passphrase"));
    }
    let public = signing::public_text(key.public_key());
    files::create_public(&dir.join(SIGNING_PUBLIC), &format!("{public} backstay\n"))?;
    Ok(key)
}

fn load_or_create_naming(dir: &Path) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let path = dir.join(NAMING);
    let text = files::read_or_create_secret(&path, || {
        let mut key = Zeroizing::new([0; 32]);
        rand::fill(&mut *key);
        Ok(Zeroizing::new(hex::encode(*key) + "\n"))
    })?;
    let mut key = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), &mut *key)
        .map_err(|_| malformed(&path, "it does not hold 64 hexadecimal digits"))?;
    Ok(key)
}

fn parse_trusted(number: usize, text: &str) -> Result<PublicKey, KeysError> {
    let key = PublicKey::from_openssh(text.trim())
        .map_err(|e| KeysError::Trusted { number, reason: e.to_string() })?;
    if key.algorithm().is_ed25519() {
        Ok(key)
    } else {
        Err(KeysError::Trusted { number, reason: format!("it is of the kind {}", key.algorithm()) })
    }
}

fn malformed(path: &Path, reason: impl ToString) -> KeysError {
    KeysError::Malformed { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        process::{Command, Stdio},
    };

    use super::*;

    const NAMESPACE: &str = "backstay-manifest";

    fn load(dir: &Path) -> Keys {
        Keys::load_or_create(dir, &[], None).unwrap()
    }

    #[test]
    fn keys_are_made_once_and_for_their_owner_only() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/keys");
        let (first, second) = (load(&dir), load(&dir));
        assert_eq!(first.public_key(), second.public_key());
        assert_eq!(first.naming, second.naming);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!([mode(&dir.join(SIGNING)), mode(&dir.join(NAMING))], [0o600; 2]);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3, "nothing else is left there");
    }

    #[test]
    fn starts_that_race_end_with_the_same_keys() {
        let dir = tempfile::tempdir().unwrap();
        let made: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load(dir.path()))).collect();
            starts.into_iter().map(|s| s.join().unwrap()).map(|k| (k.public_key(), *k.naming)).collect()
        });
        assert!(made.iter().all(|keys| *keys == made[0]));
    }

    #[test]
    fn keys_that_others_may_open_or_that_are_none_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        load(dir.path());
        let naming = dir.path().join(NAMING);
        fs::set_permissions(&naming, fs::Permissions::from_mode(0o640)).unwrap();
        let refused = Keys::load_or_create(dir.path(), &[], None).err().unwrap();
        assert!(matches!(refused, KeysError::Exposed { mode: 0o640, .. }), "{refused}");
        fs::set_permissions(&naming, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&naming, "short").unwrap();
        assert!(matches!(Keys::load_or_create(dir.path(), &[], None), Err(KeysError::Malformed { .. })));
    }

    #[test]
    fn only_our_own_and_trusted_signatures_of_these_very_bytes_count() {
        let (here, there, stranger) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let earlier = load(there.path());
        let keys = Keys::load_or_create(here.path(), &[earlier.public_key()], None).unwrap();
        for signer in [&keys, &earlier] {
            let signature = signer.sign(NAMESPACE, b"bytes");
            let verified = keys.verify(NAMESPACE, b"bytes", signature.as_bytes());
            assert_eq!(verified, Ok(Signer { key: signer.public_key() }));
            assert_eq!(keys.verify(NAMESPACE, b"other", signature.as_bytes()), Err(Untrusted::Mismatch));
            assert_eq!(
                keys.verify("backstay-record", b"bytes", signature.as_bytes()),
                Err(Untrusted::Mismatch)
            );
        }
        let foreign = load(stranger.path()).sign(NAMESPACE, b"bytes");
        assert!(matches!(
            keys.verify(NAMESPACE, b"bytes", foreign.as_bytes()),
            Err(Untrusted::UnknownKey(_))
        ));
        assert!(matches!(keys.verify(NAMESPACE, b"bytes", b"nothing"), Err(Untrusted::Malformed(_))));
        assert!(Keys::load_or_create(here.path(), &["ssh-rsa AAAA".to_owned()], None).is_err());
    }

    #[test]
    fn ssh_keygen_checks_our_signatures_and_we_check_its() {
        let dir = tempfile::tempdir().unwrap();
        let keys = load(dir.path());
        let path = |name: &str| dir.path().join(name);
        fs::write(path("allowed"), format!("backstay {}\n", keys.public_key())).unwrap();
        fs::write(path("bytes"), b"the manifest").unwrap();
        fs::write(path("ours.sig"), keys.sign(NAMESPACE, b"the manifest")).unwrap();
        let checked = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-I", "backstay", "-n", NAMESPACE, "-f"])
            .arg(path("allowed"))
            .arg("-s")
            .arg(path("ours.sig"))
            .stdin(fs::File::open(path("bytes")).unwrap())
            .output()
            .expect("ssh-keygen is installed");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
        let signed = Command::new("ssh-keygen")
            .args(["-Y", "sign", "-n", NAMESPACE, "-f"])
            .arg(path(SIGNING))
            .arg(path("bytes"))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(signed.success());
        let theirs = fs::read(path("bytes.sig")).unwrap();
        assert!(keys.verify(NAMESPACE, b"the manifest", &theirs).is_ok());
    }

    #[test]
    fn an_identity_file_is_read_as_age_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let generated = identity::generate("2026-11-20T01:00:00Z".parse().unwrap());
        let path = dir.path().join("identity.txt");
        fs::write(&path, format!("{}\n{}", *generated.file, *generated.file)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let keys = Keys::load_or_create(&dir.path().join("keys"), &[], Some(&path)).unwrap();
        assert_eq!(keys.identities().len(), 2);
        assert_eq!(keys.identities()[0].to_public().to_string(), generated.recipient);
        let known =
            Command::new("age-keygen").arg("-y").arg(&path).output().expect("age-keygen is installed");
        let known = String::from_utf8(known.stdout).unwrap();
        assert_eq!(known.lines().next(), Some(generated.recipient.as_str()));
    }
}
