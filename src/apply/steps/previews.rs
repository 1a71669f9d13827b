//! What previews left that were cut off.

use std::time::Duration;

use super::noted;
use crate::{
    apply::{
        executor::{Done, Failure},
        remover::Remover,
        world::{World, stalled},
    },
    inventory::PreviewMark,
    plan::Step,
};

/// How long somebody else may take who removes the same.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Removes what a preview left, by what this host remembers of it.
    pub(in crate::apply) async fn clear_previews(
        &self,
        step: &Step,
        mark: &PreviewMark,
    ) -> Result<Done, Failure> {
        let held = self.previews.hold(mark, PATIENCE).await.map_err(stalled)?;
        if let Some(entry) = held.entry().map_err(stalled)? {
            let remover = Remover { mirror: self.mirror.path().to_owned(), drivers: self.drivers.clone() };
            remover.clear_previews(&entry, &|line| self.listener.says(step, line)).await?;
        }
        held.forget().map_err(stalled)?;
        Ok(noted("nothing of it is left".to_owned()))
    }
}
