//! Removes the machines of a drill, and what previews left, by what is remembered of them: as the revision declares them that they were
//! made by.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    executor::Failure,
    ledger::{Entry, Previewed},
    world::stalled,
};
use crate::{
    drivers::Registry,
    git::revision,
    provisioners::Said,
    spec::{DrillSubject, Spec, StandIns, parse::parse},
    templates::Templates,
};

/// What it takes to remove them.
pub struct Remover {
    /// The infra repo on this host.
    pub mirror: PathBuf,
    /// Where what made them comes from.
    pub drivers: Arc<dyn Registry>,
}

impl Remover {
    /// Removes all machines of an entry. One that can't be removed keeps none of the others.
    ///
    /// # Errors
    /// What is left, and why.
    pub async fn remove(&self, entry: &Entry, said: Said<'_>) -> Result<(), Failure> {
        let (spec, templates) = self.declared(&entry.revision, &entry.folder).await?;
        let Entry { drill, revision, .. } = entry;
        let rehearsal = match spec.drills.get_key_value(drill).map(|(name, drill)| (name, &drill.subject)) {
            Some((name, DrillSubject::Recovery(rehearsal))) => StandIns::of(&spec, name, rehearsal),
            _ => Err(format!("revision {revision} declares no such drill of a recovery")),
        };
        let stand_ins =
            rehearsal.map_err(|why| stalled(format!("failed to clear up after drill {drill}: {why}")))?;
        let mut left: Vec<Failure> = Vec::new();
        for (_, vm) in stand_ins.vms().filter(|(declared, _)| entry.vms.contains(declared)) {
            let removed = async {
                let provisioner = self.drivers.provisioner(&entry.fleet, vm, &templates).await;
                let provisioner = provisioner.map_err(stalled)?;
                provisioner.down(said).await?;
                if let Some(mark) = &entry.preview {
                    provisioner.clear_preview(mark, said).await?;
                }
                Ok::<_, Failure>(())
            };
            if let Err(why) = removed.await {
                left.push(why);
            }
        }
        all_or_nothing(left)
    }

    /// Removes what the preview of an entry left of any of its machines. What can't be removed of one keeps none of the others.
    ///
    /// # Errors
    /// What is left, and why.
    pub async fn clear_previews(&self, entry: &Previewed, said: Said<'_>) -> Result<(), Failure> {
        let (spec, templates) = self.declared(&entry.revision, &entry.folder).await?;
        let mut left: Vec<Failure> = Vec::new();
        for name in &entry.vms {
            let cleared = async {
                let undeclared =
                    || stalled(format!("revision {} declares no machine {name}", entry.revision));
                let vm = spec.vms.get(name).ok_or_else(undeclared)?;
                let provisioner = self.drivers.provisioner(&entry.fleet, vm, &templates).await;
                provisioner.map_err(stalled)?.clear_preview(&entry.mark, said).await?;
                Ok::<_, Failure>(())
            };
            if let Err(why) = cleared.await {
                left.push(why);
            }
        }
        all_or_nothing(left)
    }

    async fn declared(&self, revision: &str, folder: &str) -> Result<(Spec, Templates), Failure> {
        let spec = spec_of(&self.mirror, revision, folder).await?;
        let (mirror, revision) = (self.mirror.clone(), revision.to_owned());
        let read = tokio::task::spawn_blocking(move || revision::templates(&mirror, &revision));
        let templates = read.await.map_err(stalled)?.map_err(stalled)?;
        Ok((spec, Templates::of(templates)))
    }
}

/// All that is left as one failure, if anything is.
fn all_or_nothing(left: Vec<Failure>) -> Result<(), Failure> {
    let all = left.iter().map(|failure| failure.message.as_str()).collect::<Vec<_>>().join("; ");
    match left.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(Failure { message: all, ..first }),
    }
}

/// What a commit of the infra repo in `mirror` declares in `folder`.
///
/// # Errors
/// A commit that can't be read, or that has faults.
pub(super) async fn spec_of(mirror: &Path, revision: &str, folder: &str) -> Result<Spec, Failure> {
    let (mirror, revision, folder) = (mirror.to_owned(), revision.to_owned(), folder.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let declaration = revision::read(&mirror, &revision, &folder).map_err(stalled)?;
        let faults = || stalled(format!("failed to read revision {revision}: it has faults"));
        parse(&declaration.files).spec.ok_or_else(faults)
    });
    read.await.map_err(stalled)?
}
