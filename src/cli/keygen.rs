//! `backstay keygen`: a new age identity.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Output, exit::Exit, identity, terminal::Terminal};

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
        let recipient = identity::create(&self.out)?;
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
