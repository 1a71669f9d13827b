//! What drills that were cut off left with providers: found by what the journal announced before it was asked for, and deleted.

use jiff::{SignedDuration, Timestamp};

use super::{
    drills_elsewhere::{APART, Everywhere, nobody_else},
    natives::Hosted,
};
use crate::{
    apply::{
        executor::{Done, Failure},
        remover::spec_of,
        world::{World, stalled},
    },
    artifact::ArtifactId,
    inventory::{CopyLeft, CopyStanding, Interrupted, SandboxCopy},
    sources::{Announced, Claim, Provider},
    spec::{
        Source, Spec,
        names::{FleetName, FolderName},
    },
    stores::Class,
};

/// How long a provider may take to list what it was asked to make.
const LISTS_LATE: SignedDuration = SignedDuration::from_mins(10);

impl World {
    /// Has a provider delete what a drill left, and leaves the drill's lease in the store to lapse.
    pub(in crate::apply) async fn delete_drill_copy(&self, left: &Interrupted) -> Result<Done, Failure> {
        let copy = left.copy.as_deref();
        let copy = copy.ok_or_else(|| {
            stalled(format!(
                "failed to delete what {} had a provider make: the journal tells of nothing",
                left.artifact
            ))
        })?;
        self.delete_copy_left(left, copy).await?;
        Ok(super::noted(format!("its lease in {} lapses by itself", left.store)))
    }

    /// Deletes what a drill that was cut off had its provider make, if it is known for it, whatever is declared of both now.
    ///
    /// # Errors
    /// What may be left, and why: nothing is touched that may be anybody else's, and what can't be asked for is not taken for gone.
    pub(super) async fn delete_copy_left(&self, left: &Interrupted, copy: &CopyLeft) -> Result<(), Failure> {
        let deleted = self.delete_if_known(left, copy).await;
        deleted.map_err(|failure| Failure {
            message: format!(
                "{}, which drill {} had its provider make of {}, may be left, and cost money: {}",
                copy.copy.name, copy.drill, left.backup, failure.message
            ),
            ..failure
        })
    }

    async fn delete_if_known(&self, left: &Interrupted, of: &CopyLeft) -> Result<(), Failure> {
        let source = self.source_of_copy(&left.backup, of).await?;
        let hosted = Hosted::of(self.drivers.source(&source).await?);
        let (provider, copy) = (hosted.provider()?, &of.copy);
        match provider.standing(&copy.name).await? {
            CopyStanding::Marked(mark) if mark == copy.mark => {}
            // Another time of the drill has the name, which it took when this one was gone.
            CopyStanding::Marked(_) => return Ok(()),
            CopyStanding::Unmarked => {
                claim(provider, &self.spec.fleet.name, of, self.is_nobody_else_s(left, of).await).await?;
            }
            CopyStanding::Nothing => {
                must_be_listed(of, self.clock.now())?;
                return is_not_elsewhere(provider, of, &source).await;
            }
        }
        provider.delete_copy(copy).await.map_err(stalled)
    }

    /// Up to when nobody else can have made what bears the name of a drill's copy: other controllers of the fleet make the same drills.
    async fn is_nobody_else_s(&self, left: &Interrupted, of: &CopyLeft) -> Result<Timestamp, Failure> {
        let everywhere = self.readers_everywhere(&left.backup).await;
        let until = alone_until(&everywhere, &self.inventory.interrupted, left).map_err(|why| {
            let message = format!(
                "what bears that name has no mark of it, and nothing tells yet that it is no other controller's: {why}; a later pass looks \
                 again, or look whose it is, and delete it"
            );
            Failure { class: Class::Wait(wait(LISTS_LATE)), message }
        })?;
        let ripe = began(of).and_then(|began| began.checked_add(APART).ok());
        match ripe.filter(|ripe| until < *ripe) {
            Some(ripe) => {
                let message = format!(
                    "what bears that name has no mark of it yet, and is too young to be known for it before {ripe:.0}; a later pass looks again"
                );
                Err(Failure { class: Class::Wait(wait(until.duration_until(ripe))), message })
            }
            None => Ok(until),
        }
    }

    /// How the provider is reached: as is declared now, where that is the one, for keys may have changed; or else as it was when the copy
    /// was made.
    async fn source_of_copy(&self, backup: &FolderName, left: &CopyLeft) -> Result<Source, Failure> {
        let of = |spec: &Spec| {
            let declared = spec.backups.get(&spec.moved.backup(backup))?;
            Some(declared.source.clone()).filter(|source| left.is_with(source))
        };
        if let Some(source) = of(&self.spec) {
            return Ok(source);
        }
        let before = spec_of(self.mirror.path(), &left.revision, &left.declared_in).await?;
        of(&before).ok_or_else(|| {
            stalled(format!("revision {} declares no such source; look for it by hand", left.revision))
        })
    }
}

/// Puts its mark on what has none, where the provider tells that it is what the journal announced.
async fn claim(
    provider: &dyn Provider,
    fleet: &FleetName,
    left: &CopyLeft,
    alone_until: Result<Timestamp, Failure>,
) -> Result<(), Failure> {
    let unknown = |why: &str| {
        stalled(format!(
            "what bears that name has no mark of it, and is not known for it: {why}; look whose it is, and delete it"
        ))
    };
    if !is_a_copy_of(fleet, left) {
        return Err(unknown("the journal tells of another copy than that drill makes"));
    }
    let of = left.of.as_ref().filter(|of| of.provider == provider.kind());
    let of = of.ok_or_else(|| unknown("the journal does not tell what it was to be made of"))?;
    let since = began(left).ok_or_else(|| unknown("the journal does not tell when it was asked for"))?;
    let announced = Announced { copy: &left.copy, reference: &of.reference, since, until: alone_until? };
    match provider.claim_copy(&announced).await? {
        Claim::Marked => Ok(()),
        Claim::Unknown(why) => Err(unknown(&why)),
    }
}

/// Whether a drill of the fleet makes what bears this name: nothing else of the account is ever marked.
fn is_a_copy_of(fleet: &FleetName, left: &CopyLeft) -> bool {
    SandboxCopy::time_of(fleet, &left.drill, &left.copy.mark)
        .is_some_and(|time| left.copy == SandboxCopy::of(fleet, &left.drill, time))
}

/// When a drill began that left something.
fn began(left: &CopyLeft) -> Option<Timestamp> {
    Some(left.copy.mark.rsplit('/').next()?.parse::<ArtifactId>().ok()?.time())
}

/// Up to when no other controller can have begun the same drill: whoever drills holds a lease on what it reads before it has anything made,
/// and what was made ten minutes before all stores were asked and had none is nobody's who is still at it.
fn alone_until(
    everywhere: &Everywhere,
    interrupted: &[Interrupted],
    left: &Interrupted,
) -> Result<Timestamp, String> {
    if !everywhere.contains_key(&left.store) {
        return Err(format!("store {}, from which it read, is not declared any more", left.store));
    }
    let asked = nobody_else(everywhere, interrupted)?;
    asked.checked_sub(APART).map_err(|error| error.to_string())
}

/// Refuses to take what isn't listed for gone, as long as it may still come: a call that was cut off may have been heard.
fn must_be_listed(left: &CopyLeft, now: Timestamp) -> Result<(), Failure> {
    let listed = began(left).map(|began| began.saturating_add(LISTS_LATE).unwrap_or(Timestamp::MAX));
    match listed.filter(|listed| now < *listed) {
        Some(listed) => {
            let message = format!(
                "nothing of that name is listed yet, and may be until {listed:.0}; a later pass looks again"
            );
            Err(Failure { class: Class::Wait(wait(now.duration_until(listed))), message })
        }
        None => Ok(()),
    }
}

fn wait(length: SignedDuration) -> std::time::Duration {
    length.try_into().unwrap_or_default()
}

/// Fails where the look was into another account than the copy's: there is nothing of that name, whatever is left in its own.
async fn is_not_elsewhere(provider: &dyn Provider, left: &CopyLeft, source: &Source) -> Result<(), Failure> {
    let Some(of) = left.of.as_ref().filter(|of| of.has_account()) else { return Ok(()) };
    let account = provider.account().await?;
    let Some(why) = of.out_of_reach_of(source, account.as_deref()) else { return Ok(()) };
    let original = source.native_place().map(|(_, place)| place.of);
    // It is the original that tells the account. Once that is gone nobody ever will, and what can be asked for has been asked for.
    let is_gone = match original.as_deref() {
        Some(original) if of.out_of_reach(source, account.as_deref()).is_none() => {
            provider.standing(original).await? == CopyStanding::Nothing
        }
        _ => false,
    };
    if !is_gone {
        return Err(stalled(why));
    }
    let (copy, drill) = (&left.copy.name, &left.drill);
    tracing::warn!(
        %drill, %copy,
        "taken for gone: nothing of that name is there, nor is the original, so that nobody tells the account that was \
         looked into; if the access key is of another one now, look there"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::{super::drills_elsewhere::Readers, *};
    use crate::inventory::Work;

    #[test]
    fn what_is_not_listed_at_once_is_not_gone() {
        let (fleet, drill) = ("shop".parse().unwrap(), "way-back".parse().unwrap());
        let reader: ArtifactId = "20261120T010000Z-3k7qz0m4xw".parse().unwrap();
        let copy = SandboxCopy::of(&fleet, &drill, reader);
        let (revision, declared_in) = ("0a".to_owned(), String::new());
        let left = CopyLeft { drill, copy, of: None, revision, declared_in };
        let at = |text: &str| must_be_listed(&left, text.parse().unwrap());
        let early = at("2026-11-20T01:08:00Z").unwrap_err();
        assert_eq!(early.class, Class::Wait(Duration::from_secs(120)));
        assert!(early.message.contains("until 2026-11-20T01:10:00Z"), "{}", early.message);
        assert!(at("2026-11-20T01:10:00Z").is_ok());
    }

    #[test]
    fn nothing_is_marked_that_no_drill_makes() {
        let (fleet, drill) = ("shop".parse().unwrap(), "way-back".parse().unwrap());
        let copy = SandboxCopy::of(&fleet, &drill, ArtifactId::new(Timestamp::UNIX_EPOCH, 1));
        let left = CopyLeft { drill, copy, of: None, revision: "0a".to_owned(), declared_in: String::new() };
        assert!(is_a_copy_of(&fleet, &left));
        assert!(!is_a_copy_of(&"other".parse().unwrap(), &left));
        for copy in [
            SandboxCopy { name: "sessions".to_owned(), ..left.copy.clone() },
            SandboxCopy { mark: "x/y/z".to_owned(), ..left.copy.clone() },
        ] {
            assert!(!is_a_copy_of(&fleet, &CopyLeft { copy, ..left.clone() }));
        }
    }

    #[test]
    fn nobody_can_tell_whose_it_is_where_its_store_is_not_declared() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let left = Interrupted {
            backup: "sessions".parse().unwrap(),
            store: "near".parse().unwrap(),
            artifact: ArtifactId::new(at(1000), 1),
            work: Work::Reading,
            copy: None,
        };
        let judge = |name: &str| {
            let readers = Readers { asked: at(4000), until: BTreeMap::new() };
            alone_until(&[(name.parse().unwrap(), Ok(readers))].into(), &[], &left)
        };
        assert_eq!(judge("near"), Ok(at(4000 - 600)));
        assert!(judge("far").unwrap_err().contains("not declared"));
    }
}
