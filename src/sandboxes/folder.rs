//! A folder that files are restored into, or a database that is one file.

use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{
    ByHand, IsolationMode, Sandbox, SandboxError,
    confinement::{Confinement, Signal},
    home::Home,
    visited,
};
use crate::{
    artifact::drill::Isolation,
    process::Program,
    sources::{Place, Source},
    spec,
};

/// Users that look at what was restored, in this order.
const OWNERS: [&str; 1] = ["nobody"];

/// A folder.
pub struct FolderSandbox {
    home: Home,
    files: PathBuf,
    loader: Box<dyn Source>,
    inspector: Option<Box<dyn Source>>,
    stands_for: spec::Source,
    mode: IsolationMode,
    confinement: Option<Confinement>,
}

impl FolderSandbox {
    /// A folder in `home` that `loader`, the driver of what it stands for, restores into.
    pub fn new(home: Home, loader: Box<dyn Source>, stands_for: spec::Source, mode: IsolationMode) -> Self {
        let files = Self::files_of(&home);
        Self { files, home, loader, inspector: None, stands_for, mode, confinement: None }
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

    fn by_hand(&self) -> Option<ByHand<'_>> {
        // What is restored by a server of its own needs that server.
        let stands_for = &self.stands_for;
        matches!(stands_for, spec::Source::Files(_) | spec::Source::Sqlite { .. }).then_some(ByHand {
            stands_for,
            folder: Some(&self.files),
            login: None,
            home: &self.home,
        })
    }

    async fn visitor(&mut self, path: &Path) -> Result<Program, SandboxError> {
        let confinement = Confinement::of(&OWNERS, self.mode).await?;
        confinement.take(&self.home).await?;
        let program = confinement.program(&self.home, path, Signal::Kill);
        self.confinement = Some(confinement);
        let program = program.variable(visited::SANDBOX, self.home.path());
        Ok(program.variable(visited::FILES, &self.files))
    }

    fn isolation(&self) -> Option<Isolation> {
        self.confinement.as_ref().map(Confinement::isolation)
    }

    async fn tear_down(self: Box<Self>) {}
}
