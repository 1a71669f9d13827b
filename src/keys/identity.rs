//! age identities: who can read artifacts.

use std::path::Path;

use age::{secrecy::ExposeSecret, x25519};
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::{KeysError, files, malformed};

/// A new identity.
pub struct Generated {
    /// The identity file, in the format of `age-keygen`.
    pub file: Zeroizing<String>,
    /// The public key, for `[fleet] recipients`.
    pub recipient: String,
}

/// Makes an identity; `now` goes into its comment.
pub fn generate(now: Timestamp) -> Generated {
    let identity = x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let created = now.strftime("%Y-%m-%dT%H:%M:%SZ");
    let file = Zeroizing::new(format!(
        "# created: {created}\n# public key: {recipient}\n{}\n",
        secret.expose_secret()
    ));
    Generated { file, recipient }
}

/// Reads an identity file: X25519 identities, one a line, comments and empty lines between them.
pub(super) fn load(path: &Path) -> Result<Vec<x25519::Identity>, KeysError> {
    let text = files::read_secret(path)?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    let identities = lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            line.parse()
                .map_err(|why: &str| malformed(path, format!("line {number} is no age identity: {why}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    if identities.is_empty() {
        return Err(malformed(path, "it holds no age identity"));
    }
    Ok(identities)
}
