//! Copies: what a store would keep now and lacks, from a store that has a good copy.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, StepId, draft::Draft, facts::Facts};
use crate::{
    artifact::ArtifactId,
    inventory::{StoredArtifact, StoredBackup},
    spec::{
        names::{BackupName, StoreName},
        retention::{self, Candidate, Checked},
    },
};

/// Contents that a store should hold good copies of and does not, by backup and store.
pub(super) type Lacking<'a> = BTreeMap<(&'a BackupName, &'a StoreName), BTreeSet<ArtifactId>>;

/// A content and where a good copy of it is.
type Offer<'a> = (&'a StoredArtifact, &'a StoreName);

/// Copies what stores lack, oldest first, and says what they lack. The infra repo's bundles are written into each
/// store directly and never copied.
pub(super) fn plan<'a>(facts: &'a Facts<'_>, draft: &mut Draft) -> Lacking<'a> {
    let mut all = Lacking::new();
    let mut unknown: BTreeMap<&StoreName, String> = BTreeMap::new();
    for (name, protected) in facts.protected.iter().filter(|(name, _)| !name.is_infra()) {
        let holdings = facts.holdings(name);
        for store in protected.stores {
            match facts.stored(name, store) {
                Err(why) if holdings.iter().any(|(_, stored)| !stored.artifacts.is_empty()) => {
                    unknown.insert(store, why);
                }
                Err(_) => {}
                Ok(stored) => {
                    let offers = wanted(facts, (name, store), stored, &holdings);
                    copy(facts, (name, store), stored, &offers, draft);
                    if !offers.is_empty() {
                        all.insert((name, store), offers.iter().map(|(a, _)| a.content()).collect());
                    }
                }
            }
        }
    }
    for (store, why) in unknown {
        draft.wait(format!("copies to {store}"), why, None);
    }
    all
}

/// What `store` has no good copy of and would keep, oldest first.
///
/// What it lacks is judged as if it were checked already: otherwise it would be copied for lack of a check, and be
/// deleted after it.
fn wanted<'a>(
    facts: &Facts<'a>,
    (name, store): (&BackupName, &StoreName),
    stored: &StoredBackup,
    holdings: &[(&'a StoreName, &'a StoredBackup)],
) -> Vec<Offer<'a>> {
    let Some(protected) = facts.protected.get(name) else { return Vec::new() };
    let offers = offers(facts, store, stored, holdings);
    let Ok(inventory) = facts.store(store) else { return Vec::new() };
    if offers.is_empty() {
        return Vec::new();
    }
    let known = stored.artifacts.iter().filter(|a| a.unknown().is_none());
    let present = known.map(Candidate::of).filter(|c| !offers.contains_key(&c.id));
    let offered = offers.values().map(|(a, _)| Candidate {
        checked: Checked::Passed,
        held: None,
        // A copy stands in the place of what it repairs, wherever that is.
        supersedes: None,
        ..Candidate::of(a)
    });
    let candidates: Vec<Candidate<'_>> = present.chain(offered).collect();
    let verdicts = retention::decide(facts.rules(protected, store), &candidates, facts.now_in(inventory));
    let mut wanted: Vec<Offer<'a>> =
        offers.into_values().filter(|(a, _)| verdicts.get(&a.id).is_some_and(|v| v.keeps())).collect();
    wanted.sort_unstable_by_key(|(a, _)| (a.newest, a.id));
    wanted
}

/// Good artifacts of other stores whose content `stored` has no good copy of, by content or name. One that can be copied
/// byte for byte is preferred, and then one that can be read.
fn offers<'a>(
    facts: &Facts<'a>,
    store: &StoreName,
    stored: &StoredBackup,
    holdings: &[(&'a StoreName, &'a StoredBackup)],
) -> BTreeMap<ArtifactId, Offer<'a>> {
    let good: BTreeSet<ArtifactId> =
        stored.artifacts.iter().filter(|a| a.is_good()).flat_map(|a| [a.id, a.content()]).collect();
    let mut offers = BTreeMap::new();
    let mut others: Vec<_> = holdings.iter().filter(|(from, _)| *from != store).collect();
    others.sort_by_key(|(from, _)| (!facts.spec.encrypts_alike(from, store), !facts.can_copy(from, store)));
    for (from, other) in others {
        for artifact in other.artifacts.iter().filter(|a| a.is_good()) {
            if !good.contains(&artifact.id) && !good.contains(&artifact.content()) {
                offers.entry(artifact.content()).or_insert((artifact, *from));
            }
        }
    }
    offers
}

fn copy(
    facts: &Facts<'_>,
    (name, store): (&BackupName, &StoreName),
    stored: &StoredBackup,
    offers: &[Offer<'_>],
    draft: &mut Draft,
) {
    let mut planned: BTreeMap<ArtifactId, StepId> = BTreeMap::new();
    let damaged: BTreeSet<ArtifactId> =
        stored.artifacts.iter().filter(|a| !a.is_good()).flat_map(|a| [a.id, a.content(), a.epoch]).collect();
    for (artifact, from) in offers {
        // A damaged copy is repaired where it is; and packs of an epoch in which one is damaged are not built on.
        let touched = [artifact.id, artifact.content(), artifact.epoch].iter().any(|id| damaged.contains(id));
        if touched || stored.unreadable.contains_key(&artifact.id) {
            continue;
        }
        // What keeps it from being copied stands among what cannot run.
        if !facts.can_copy(from, store) {
            continue;
        }
        let before = artifact.requires.iter().chain(&artifact.base);
        let after = before.filter_map(|id| planned.get(id).copied()).collect();
        let action = Action::Copy {
            backup: name.clone(),
            artifact: artifact.id,
            from: (*from).clone(),
            to: store.clone(),
        };
        let id = draft.step_after(action, format!("{store} lacks this {}", artifact.kind), after);
        planned.insert(artifact.id, id);
    }
}
