//! A folder that files are restored into, or a database that is one file.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{Sandbox, SandboxError, home::Home};
use crate::{
    sources::{Place, Source},
    spec,
};

/// A folder.
pub struct FolderSandbox {
    home: Home,
    files: PathBuf,
    loader: Box<dyn Source>,
    inspector: Option<Box<dyn Source>>,
    stands_for: spec::Source,
}

impl FolderSandbox {
    /// A folder in `home` that `loader`, the driver of what it stands for, restores into.
    pub fn new(home: Home, loader: Box<dyn Source>, stands_for: spec::Source) -> Self {
        Self { files: Self::files_of(&home), home, loader, inspector: None, stands_for }
    }

    /// The same, where `inspector` tells of what was restored.
    pub fn asking(self, inspector: Box<dyn Source>) -> Self {
        Self { inspector: Some(inspector), ..self }
    }

    /// The folder in `home` that is restored into.
    pub fn files_of(home: &Home) -> PathBuf {
        home.join("restored")
    }
}

#[async_trait]
impl Sandbox for FolderSandbox {
    fn folder(&self) -> &Path {
        self.home.path()
    }

    fn room_for(&self, stream: u64) -> u64 {
        stream.saturating_add(stream / 10)
    }

    async fn prepare(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }

    fn loader(&self) -> &dyn Source {
        self.loader.as_ref()
    }

    fn place(&self) -> Place {
        Place::Folder(self.files.clone())
    }

    fn inspector(&self) -> &dyn Source {
        self.inspector.as_deref().unwrap_or(self.loader.as_ref())
    }

    fn files(&self) -> &Path {
        &self.files
    }

    fn by_hand(&self) -> Option<&spec::Source> {
        // What is restored by a server of its own needs that server.
        matches!(self.stands_for, spec::Source::Files(_) | spec::Source::Sqlite { .. })
            .then_some(&self.stands_for)
    }

    async fn tear_down(self: Box<Self>) {}
}
