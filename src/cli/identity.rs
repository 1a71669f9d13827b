//! Making age identities.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use age::secrecy::ExposeSecret;
use anyhow::Context;

/// Makes an age identity in a new private file, in the format of `age-keygen`, and returns its recipient.
pub(super) fn create(path: &Path) -> anyhow::Result<String> {
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string();
    let text = identity.to_string();
    let content = format!("# public key: {recipient}\n{}\n", text.expose_secret());
    write_private(path, content.as_bytes())
        .with_context(|| format!("failed to write an identity to {}", path.display()))?;
    Ok(recipient)
}

fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
