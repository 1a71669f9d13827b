//! What drills that were cut off left with providers: found by what the journal announced before it was asked for, and deleted.

use jiff::{SignedDuration, Timestamp};

use super::natives::Hosted;
use crate::{
    apply::{
        executor::{Done, Failure},
        remover::spec_of,
        world::{World, stalled},
    },
    artifact::ArtifactId,
    inventory::{
        CopyLeft, CopyStanding, Interrupted, Inventory, Observed, Standing, StoreInventory, StoredBackup,
    },
    sources::{Announced, Claim, Provider},
    spec::{Source, Spec, names::FolderName},
    stores::Class,
};

/// How long a provider may take to list what it was asked to make.
const LISTS_LATE: SignedDuration = SignedDuration::from_mins(10);

/// How far clocks may be apart by which it is told what was made before what.
const APART: SignedDuration = SignedDuration::from_mins(10);

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
            CopyStanding::Unmarked => claim(provider, of, self.is_nobody_else_s(left, of)).await?,
            CopyStanding::Nothing => {
                must_be_listed(of, self.clock.now())?;
                return is_not_elsewhere(provider, of, &source).await;
            }
        }
        provider.delete_copy(copy).await.map_err(stalled)
    }

    /// Up to when nobody else can have made what bears the name of a drill's copy: other controllers of the fleet make the same drills.
    fn is_nobody_else_s(&self, left: &Interrupted, of: &CopyLeft) -> Result<Timestamp, Failure> {
        let until = alone_until(&self.inventory, left).map_err(|why| {
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
    left: &CopyLeft,
    alone_until: Result<Timestamp, Failure>,
) -> Result<(), Failure> {
    let unknown = |why: &str| {
        stalled(format!(
            "what bears that name has no mark of it, and is not known for it: {why}; look whose it is, and delete it"
        ))
    };
    let of = left.of.as_ref().filter(|of| of.provider == provider.kind());
    let of = of.ok_or_else(|| unknown("the journal does not tell what it was to be made of"))?;
    let since = began(left).ok_or_else(|| unknown("the journal does not tell when it was asked for"))?;
    let announced = Announced { copy: &left.copy, reference: &of.reference, since, until: alone_until? };
    match provider.claim_copy(&announced).await? {
        Claim::Marked => Ok(()),
        Claim::Unknown(why) => Err(unknown(&why)),
    }
}

/// When a drill began that left something.
fn began(left: &CopyLeft) -> Option<Timestamp> {
    Some(left.copy.mark.rsplit('/').next()?.parse::<ArtifactId>().ok()?.time())
}

/// Up to when no other controller can have begun the same drill: whoever drills holds a lease on what it reads before it has anything made,
/// and what was made ten minutes before all stores were seen without one is nobody's who is still at it.
fn alone_until(inventory: &Inventory, left: &Interrupted) -> Result<Timestamp, String> {
    if !inventory.stores.contains_key(&left.store) {
        return Err(format!("store {}, from which it read, is not declared any more", left.store));
    }
    let mut seen = Timestamp::MAX;
    for (name, store) in &inventory.stores {
        let store = match store {
            Observed::Known(StoreInventory { standing: Standing::Refused(why), .. }) => {
                return Err(format!("store {name} is refused: {why}"));
            }
            Observed::Known(store) => store,
            Observed::Unknown(why) => return Err(format!("store {name} is unknown: {why}")),
        };
        let reader =
            store.backups.get(&left.backup).and_then(|stored| reader(inventory, stored, store.clock));
        if let Some(reader) = reader {
            return Err(format!("{reader} reads {} in store {name}", left.backup));
        }
        seen = seen.min(store.clock);
    }
    seen.checked_sub(APART).map_err(|error| error.to_string())
}

/// Somebody who reads, other than what an earlier pass of ours left behind.
fn reader(inventory: &Inventory, stored: &StoredBackup, now: Timestamp) -> Option<ArtifactId> {
    let is_ours = |reader: &ArtifactId| inventory.interrupted.iter().any(|left| left.artifact == *reader);
    let mut live = stored.readings.iter().filter(|(id, reading)| reading.until > now && !is_ours(id));
    live.next().map(|(id, _)| *id)
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
    use std::{collections::BTreeSet, time::Duration};

    use super::*;
    use crate::inventory::{Chronicle, Reading, RestorePage, SandboxCopy, Work};

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
    fn nobody_else_can_have_made_it_only_where_all_stores_were_seen_and_nobody_reads() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let reader = |random| ArtifactId::new(at(1000), random);
        let left = Interrupted {
            backup: "sessions".parse().unwrap(),
            store: "near".parse().unwrap(),
            artifact: reader(1),
            work: Work::Reading,
            copy: None,
        };
        let reading = |random, until| {
            let (artifacts, controller) = (BTreeSet::new(), "other".to_owned());
            (reader(random), Reading { artifacts, until: at(until), controller })
        };
        let stands = |standing, clock, readings: &[(ArtifactId, Reading)]| {
            let stored =
                StoredBackup { readings: readings.iter().cloned().collect(), ..StoredBackup::default() };
            Observed::Known(StoreInventory {
                clock: at(clock),
                standing,
                records: Chronicle::default(),
                rules: Observed::Unknown("it was not asked".to_owned()),
                restore_page: RestorePage::There,
                backups: [(left.backup.clone(), stored)].into(),
                bytes: 0,
            })
        };
        let store = |clock, readings: &[(ArtifactId, Reading)]| stands(Standing::Ours, clock, readings);
        let refused = |clock| stands(Standing::Refused("it is another's".to_owned()), clock, &[]);
        let judge = |near, far| {
            let stores = [("near".parse().unwrap(), near), ("far".parse().unwrap(), far)].into();
            let inventory = Inventory { stores, interrupted: vec![left.clone()], ..Inventory::default() };
            alone_until(&inventory, &left)
        };
        // Its own lease, and one that has lapsed, are nobody's.
        let near = store(5000, &[reading(1, 9000), reading(2, 4999)]);
        assert_eq!(judge(near.clone(), store(4000, &[])), Ok(at(4000 - 600)));
        assert!(judge(near.clone(), store(4000, &[reading(2, 4001)])).unwrap_err().contains("store far"));
        assert!(
            judge(near.clone(), Observed::Unknown("it is away".to_owned())).unwrap_err().contains("away")
        );
        assert!(judge(near.clone(), refused(4000)).unwrap_err().contains("refused"));
        let undeclared =
            Inventory { stores: [("far".parse().unwrap(), near)].into(), ..Inventory::default() };
        assert!(alone_until(&undeclared, &left).unwrap_err().contains("not declared"));
    }
}
