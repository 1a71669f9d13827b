//! OpenPGP signatures (RFC 9580), and the keyring of those who may make them.
//!
//! A key is judged at the time of the signature, as gpg does: one that has expired since still vouches for what it signed
//! while it lived. A revoked key vouches for nothing, whenever it was revoked and for whatever reason.

use std::io::Cursor;

use jiff::Timestamp;
use pgp::{
    composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey},
    crypto::hash::HashAlgorithm,
    packet::{PublicKey, PublicSubkey, Signature, SignatureType},
    types::{KeyDetails, SignedUser, Tag},
};

use super::{Signer, Unverified, signed::Signed};

const BLOCK: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";

/// OpenPGP keys that may sign.
#[derive(Debug, Default)]
pub(super) struct Keyring(Vec<Key>);

/// A key, or a subkey of one, and when it may sign.
#[derive(Debug)]
struct Key {
    public: Public,
    signer: Signer,
    /// Both its own life and its primary key's.
    lives: Vec<Life>,
    /// Why it may never sign.
    barred: Option<String>,
}

#[derive(Debug)]
enum Public {
    Primary(Box<PublicKey>),
    Sub(Box<PublicSubkey>),
}

/// From when until when a key lives, seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Life {
    from: i64,
    until: Option<i64>,
}

impl Keyring {
    /// Reads public keys, binary or armored; several armored blocks may follow each other.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for certificate in certificates(content)? {
            keys.extend(keys_of(certificate));
        }
        if keys.is_empty() {
            return Err("it holds no public key: write one there with gpg --export --armor".to_owned());
        }
        Ok(Self(keys))
    }

    /// Who made the signature, if that counts.
    pub(super) fn check(&self, signed: &Signed) -> Result<Signer, Unverified> {
        let signature = single(&signed.signature)?;
        let at = acceptable(&signature)?;
        let mut refused = None;
        for key in self.0.iter().filter(|key| key.is_named_by(&signature)) {
            if !key.verifies(&signature, &signed.payload) {
                refused = Some(Unverified::Mismatch(key.signer.clone()));
                continue;
            }
            return match key.may_sign(at) {
                Ok(()) => Ok(key.signer.clone()),
                Err(why) => Err(Unverified::NotAllowed { signer: key.signer.clone(), why }),
            };
        }
        Err(refused.unwrap_or_else(|| Unverified::UnknownKey { fingerprint: issuer(&signature) }))
    }
}

impl Key {
    fn is_named_by(&self, signature: &Signature) -> bool {
        let (fingerprint, id) = match &self.public {
            Public::Primary(key) => (key.fingerprint(), key.legacy_key_id()),
            Public::Sub(key) => (key.fingerprint(), key.legacy_key_id()),
        };
        signature.issuer_fingerprint().contains(&&fingerprint) || signature.issuer_key_id().contains(&&id)
    }

    fn verifies(&self, signature: &Signature, payload: &[u8]) -> bool {
        match &self.public {
            Public::Primary(key) => signature.verify(&**key, payload).is_ok(),
            Public::Sub(key) => signature.verify(&**key, payload).is_ok(),
        }
    }

    fn may_sign(&self, at: i64) -> Result<(), String> {
        if let Some(why) = &self.barred {
            return Err(why.clone());
        }
        match self.lives.iter().find(|life| at < life.from || life.until.is_some_and(|until| at >= until)) {
            None => Ok(()),
            Some(life) if at < life.from => Err(format!(
                "that key was made at {}, after the signature of {}",
                moment(life.from),
                moment(at)
            )),
            Some(life) => {
                let until = life.until.map(moment).unwrap_or_default();
                Err(format!("that key had expired at {until}, before the signature of {}", moment(at)))
            }
        }
    }
}

fn certificates(content: &[u8]) -> Result<Vec<SignedPublicKey>, String> {
    let failed =
        |error: pgp::errors::Error| format!("a key cannot be read: {}", printable(&error.to_string()));
    if content.first().is_some_and(|byte| byte & 0x80 != 0) {
        return SignedPublicKey::from_bytes_many(Cursor::new(content))
            .map_err(failed)?
            .collect::<Result<_, _>>()
            .map_err(failed);
    }
    let text =
        std::str::from_utf8(content).map_err(|_| "it is neither text nor OpenPGP's packets".to_owned())?;
    if text.contains("-----BEGIN PGP PRIVATE KEY BLOCK-----") {
        return Err("it holds a private key: take it away, and write the public one there".to_owned());
    }
    let mut found = Vec::new();
    for block in text.split(BLOCK).skip(1) {
        let block = format!("{BLOCK}{block}");
        let (keys, _) = SignedPublicKey::from_armor_many(Cursor::new(block.as_bytes())).map_err(failed)?;
        found.extend(keys.collect::<Result<Vec<_>, _>>().map_err(failed)?);
    }
    Ok(found)
}

/// The primary key of a certificate, and those of its subkeys that may sign.
fn keys_of(certificate: SignedPublicKey) -> Vec<Key> {
    let primary = &certificate.primary_key;
    let owner = certificate.details.users.iter().find(|user| user.is_primary());
    let owner = owner.or(certificate.details.users.first());
    let signer = Signer {
        principal: owner
            .map_or_else(|| "nobody".to_owned(), |user| printable(&String::from_utf8_lossy(user.id.id()))),
        fingerprint: hex::encode_upper(primary.fingerprint().as_bytes()),
    };
    let own = self_signature(&certificate);
    let barred = match &own {
        // Whoever put the key into the host's file put its revocation there as well.
        _ if !certificate.details.revocation_signatures.is_empty() => Some("that key is revoked".to_owned()),
        None => Some("nothing in the keyring proves whose key that is".to_owned()),
        Some(_) => None,
    };
    let life = Life::of(primary.created_at().as_secs(), own);
    let may_sign = own.is_some_and(|own| own.key_flags().sign());
    let subkeys = certificate.public_subkeys.iter().filter_map(|subkey| {
        let binding = binding(primary, subkey)?;
        let revoked = subkey.signatures.iter().any(|s| s.typ() == Some(SignatureType::SubkeyRevocation));
        let barred = barred.clone().or_else(|| revoked.then(|| "that subkey is revoked".to_owned()));
        let lives = vec![life, Life::of(subkey.key.created_at().as_secs(), Some(binding))];
        Some(Key { public: Public::Sub(Box::new(subkey.key.clone())), signer: signer.clone(), lives, barred })
    });
    let subkeys: Vec<Key> = subkeys.collect();
    let barred = barred.or_else(|| (!may_sign).then(|| "that key is not made for signatures".to_owned()));
    let primary = Public::Primary(Box::new(certificate.primary_key.clone()));
    std::iter::once(Key { public: primary, signer, lives: vec![life], barred }).chain(subkeys).collect()
}

/// The newest signature by which a primary key says of itself what it is for and how long it lives.
fn self_signature(certificate: &SignedPublicKey) -> Option<&Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate.details.direct_signatures.iter().filter(|s| s.verify_key(primary).is_ok());
    let users = certificate.details.users.iter().filter_map(|user| certification(primary, user));
    direct.chain(users).max_by_key(|signature| signature.created())
}

/// The newest certification of a user id by its own key, unless it was revoked since.
fn certification<'a>(primary: &PublicKey, user: &'a SignedUser) -> Option<&'a Signature> {
    let own = |s: &&Signature| s.verify_certification(primary, Tag::UserId, &user.id).is_ok();
    let newest = user.signatures.iter().filter(own).max_by_key(|s| s.created())?;
    (newest.typ() != Some(SignatureType::CertRevocation)).then_some(newest)
}

/// The newest binding of a subkey, if it is one for signatures; the subkey must have agreed to it (RFC 9580, section 5.2.1.9).
fn binding<'a>(primary: &PublicKey, subkey: &'a SignedPublicSubKey) -> Option<&'a Signature> {
    let valid = |s: &&Signature| {
        s.typ() == Some(SignatureType::SubkeyBinding) && s.verify_subkey_binding(primary, &subkey.key).is_ok()
    };
    let newest = subkey.signatures.iter().filter(valid).max_by_key(|s| s.created())?;
    let agreed = newest.embedded_signature()?.verify_primary_key_binding(&subkey.key, primary).is_ok();
    (newest.key_flags().sign() && agreed).then_some(newest)
}

impl Life {
    fn of(created: u32, signature: Option<&Signature>) -> Self {
        let from = i64::from(created);
        let lasts =
            signature.and_then(Signature::key_expiration_time).map(|lasts| i64::from(lasts.as_secs()));
        Self { from, until: lasts.filter(|lasts| *lasts > 0).map(|lasts| from + lasts) }
    }
}

/// The one signature in its armor.
fn single(armored: &[u8]) -> Result<Signature, Unverified> {
    let failed = |error: pgp::errors::Error| Unverified::Malformed(printable(&error.to_string()));
    let (found, _) = DetachedSignature::from_armor_many(Cursor::new(armored)).map_err(failed)?;
    // Two are enough to see that there is more than one.
    let mut found = found.take(2).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    match (found.pop(), found.pop()) {
        (Some(only), None) => Ok(only.signature),
        (None, _) => Err(Unverified::Malformed("there is none in its armor".to_owned())),
        (Some(_), Some(_)) => Err(Unverified::Malformed("there is more than one".to_owned())),
    }
}

/// When a signature was made, if it is one that nobody else could have made.
fn acceptable(signature: &Signature) -> Result<i64, Unverified> {
    let malformed = |why: &str| Err(Unverified::Malformed(why.to_owned()));
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return malformed("it is not one of data");
    }
    if !matches!(
        signature.hash_alg(),
        Some(
            HashAlgorithm::Sha256
                | HashAlgorithm::Sha384
                | HashAlgorithm::Sha512
                | HashAlgorithm::Sha224
                | HashAlgorithm::Sha3_256
                | HashAlgorithm::Sha3_512
        )
    ) {
        return malformed("its digest is too weak: use SHA-256 or better");
    }
    if signature.signature_expiration_time().is_some_and(|lasts| lasts.as_secs() > 0) {
        return malformed("it expires: make one that does not");
    }
    match signature.created() {
        Some(at) => Ok(i64::from(at.as_secs())),
        None => malformed("it does not say when it was made"),
    }
}

/// The key that a signature says it is by.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(|found| hex::encode_upper(found.as_bytes()));
    let id = || signature.issuer_key_id().first().map(|id| id.to_string().to_uppercase());
    fingerprint.or_else(id).unwrap_or_else(|| "an OpenPGP key that it does not name".to_owned())
}

fn moment(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string())
}

fn printable(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}
