//! `backstay render-template`: what Backstay starts itself as to render a template, apart from everything else.

use clap::Args;

use super::exit::Exit;
use crate::templates::apart;

/// Render one template, as standard input asks for it; Backstay starts this itself
#[derive(Debug, Args)]
pub(super) struct Render {}

impl Render {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        apart::serve(std::io::stdin().lock(), std::io::stdout().lock())?;
        Ok(Exit::Done)
    }
}
