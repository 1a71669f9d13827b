//! What a provider is to make of what it keeps of a backup: of the moment or the artifact that a restore would take; and, of what this very
//! recovery began before it was cut off, of the same again, unless that is known to be gone or damaged.

use super::{CannotRecover, Laying, id};
use crate::{
    artifact::{
        ArtifactId,
        recovered::{MadeOf, Part},
    },
    inventory::Renewal,
    plan::{
        action::{Destination, KeptBy, Renew, Work},
        provided,
        restore::{self, CannotRestore, Point},
    },
    spec::RestoreTo,
};

impl Laying<'_> {
    pub(super) fn renewed(&self, number: usize, step: &RestoreTo) -> Result<Work, CannotRecover> {
        let RestoreTo { backup, to } = step;
        let (subject, digest) = (&self.request.subject, &self.course.steps[number].digest);
        let before = self.begun.before.and_then(|run| run.made_of(id(number, Part::Restore), digest));
        let (from, of) = match before {
            // Its provider may no longer be able to begin it, and goes on with what was begun.
            Some(of @ MadeOf::Moment(at)) => (KeptBy::Moment(at), of),
            // A newer one bears another mark: what was begun of this one would pass for somebody else's.
            Some(MadeOf::Artifact(artifact)) => match self.artifact(step, Point::Artifact(artifact)) {
                Ok(same) => same,
                // Nothing can be made of it any more, nor gone on with.
                Err(CannotRecover::CannotRestore(why)) if self.is_lost(&why) => self.chosen(step)?,
                Err(CannotRecover::CannotRestore(why)) => {
                    return Err(self.begun_of(step, artifact, why));
                }
                Err(other) => return Err(other),
            },
            None => self.chosen(step)?,
        };
        let (fleet, run) = (&self.facts.spec.fleet.name, self.begun.run);
        let mark = Renewal::mark(fleet, subject, run, number + 1, of);
        let begun = before.map(|_| run);
        Ok(Work::Renew(Renew { backup: backup.clone(), from, to: to.clone(), mark, begun }))
    }

    /// What a restore on these terms would take.
    fn chosen(&self, step: &RestoreTo) -> Result<(KeptBy, MadeOf), CannotRecover> {
        let point = self.begun.terms.at.map_or(Point::Latest, Point::At);
        let request = self.request_of(step, point.clone());
        match provided::kept_moment(self.facts, &request)? {
            Some((at, _)) => Ok((KeptBy::Moment(at), MadeOf::Moment(at))),
            None => self.artifact(step, point),
        }
    }

    fn artifact(&self, step: &RestoreTo, point: Point) -> Result<(KeptBy, MadeOf), CannotRecover> {
        let (restore, _) = restore::decide(self.facts, &self.request_of(step, point))?;
        let nothing = || CannotRestore::Nothing { backup: step.backup.clone(), unseen: Vec::new() };
        let artifact = *restore.artifacts.last().ok_or_else(nothing)?;
        let stored = self.facts.stored(&step.backup, &restore.store).ok();
        match stored.and_then(|stored| stored.artifact(artifact)?.native.as_deref()) {
            Some(_) => Ok((KeptBy::Artifact(restore), MadeOf::Artifact(artifact))),
            None => {
                let (subject, backup) = (self.request.subject.clone(), step.backup.clone());
                Err(CannotRecover::NotNative { subject, backup, artifact, to: step.to.clone() })
            }
        }
    }

    /// Whether an artifact is known to be gone or damaged wherever it may be taken from: what was not seen may have it.
    fn is_lost(&self, why: &CannotRestore) -> bool {
        let is_nowhere = matches!(
            why,
            CannotRestore::UnknownBackup(_)
                | CannotRestore::Nothing { .. }
                | CannotRestore::NoSuchArtifact { .. }
                | CannotRestore::Broken { .. }
        );
        let stores = self.facts.spec.stores.keys().chain(self.facts.inventory.stores.keys());
        let mut may_be_read =
            stores.filter(|store| self.begun.terms.from.as_ref().is_none_or(|from| from == *store));
        is_nowhere && may_be_read.all(|store| self.facts.store(store).is_ok())
    }

    fn begun_of(&self, step: &RestoreTo, artifact: ArtifactId, why: CannotRestore) -> CannotRecover {
        CannotRecover::BegunOf {
            subject: self.request.subject.clone(),
            artifact,
            to: step.to.clone(),
            why: Box::new(why),
        }
    }

    fn request_of(&self, step: &RestoreTo, point: Point) -> restore::Request {
        restore::Request {
            backup: step.backup.clone(),
            point,
            from: self.begun.terms.from.clone(),
            paths: Vec::new(),
            to: Destination::Database(step.to.name().to_owned()),
        }
    }
}
