//! The machines of drills, and previews, as this host remembers them.

use std::time::Duration;

use super::Controller;
use crate::{
    apply::{
        ledger::{Ledger, Previewed},
        remover::Remover,
        watchdog::Kennel,
    },
    inventory::{LeftBehind, PreviewLeft},
    provisioners::Said,
    spec::names::DrillName,
};

/// How long whoever makes or removes the same machines may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Controller {
    /// The same, which has a process watch over the machines of drills, for where this one dies. Only for the `backstay` program,
    /// which that process is as well.
    pub fn guarded(self) -> Self {
        let config = std::path::absolute(&self.config.file).unwrap_or_else(|_| self.config.file.clone());
        Self { kennel: Some(Kennel { config }), ..self }
    }

    pub(super) fn ledger(&self) -> Ledger {
        Ledger::of(self.state.stand_ins())
    }

    pub(super) fn previewed(&self) -> Ledger<Previewed> {
        Ledger::of(self.state.previews())
    }

    /// The machines of drills and the previews that were cut off, as this host remembers them.
    pub(super) fn cut_off(&self) -> (Vec<LeftBehind>, Vec<PreviewLeft>) {
        let drills = self.ledger().left().into_iter();
        let drills =
            drills.map(|it| LeftBehind { drill: it.drill, revision: it.revision, vms: it.vms }).collect();
        let previews = self.previewed().left().into_iter();
        let previews =
            previews.map(|it| PreviewLeft { mark: it.mark, revision: it.revision, vms: it.vms }).collect();
        (drills, previews)
    }

    /// Removes the machines that a drill left whose controller is gone.
    ///
    /// # Errors
    /// What is left, and why.
    pub async fn clear_up_after(&self, drill: &DrillName, said: Said<'_>) -> Result<(), String> {
        let held = self.ledger().hold(drill, PATIENCE).await.map_err(|error| error.to_string())?;
        let Some(entry) = held.entry().map_err(|error| error.to_string())? else { return Ok(()) };
        let remover = Remover { mirror: self.mirror.path().to_owned(), drivers: self.drivers.clone() };
        remover.remove(&entry, said).await.map_err(|failure| failure.message)?;
        held.clear().map_err(|error| error.to_string())
    }
}
