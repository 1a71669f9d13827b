//! `backstay keygen`: a new age identity.

use std::{io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

use age::secrecy::ExposeSecret;
use anyhow::Context;
use clap::Args;
use serde::Serialize;

use super::{Output, exit::Exit, terminal::Terminal};

/// Make an age identity, and print its recipient
///
/// Keep the identity where the stores are not: who has it can read every artifact, and without it nobody can.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  backstay keygen --out escrow.txt")]
pub(super) struct Keygen {
    /// File to write the identity to; must not exist
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Serialize)]
struct Made {
    recipient: String,
    identity_file: PathBuf,
}

impl Keygen {
    pub(super) fn run(self, terminal: &Terminal) -> anyhow::Result<Exit> {
        let identity = age::x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let content = format!("# public key: {recipient}\n{}\n", identity.to_string().expose_secret());
        write_private(&self.out, content.as_bytes())
            .with_context(|| format!("failed to write the identity to {}", self.out.display()))?;
        match terminal.output {
            Output::Text => terminal.data(&format!("{recipient}\n"))?,
            Output::Json => {
                terminal.json("backstay.keygen/1", &Made { recipient, identity_file: self.out.clone() })?
            }
        }
        terminal.note(&format!("The identity is in {}. Keep a copy off this machine.", self.out.display()));
        Ok(Exit::Done)
    }
}

fn write_private(path: &PathBuf, content: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
