//! Three copies, two places, one elsewhere: the data itself, and artifacts in two stores that don't stand together.

use std::collections::BTreeSet;

use super::Lint;
use crate::spec::{
    Store, StorePlace,
    names::StoreName,
    places::{Path, path},
};

impl Lint<'_> {
    pub(super) fn copies_are_in_two_places(&mut self) {
        let spec = &self.lowered.spec;
        for backup in spec.backups.values() {
            let at = path(["backup", backup.name.as_str(), "stores"]);
            self.are_in_two_places(&format!("backup `{}`", backup.name), &backup.stores, &at);
        }
        match &spec.infra {
            Some(infra) => {
                self.are_in_two_places("the infra repo", &infra.stores, &path(["infra", "stores"]))
            }
            None => self.warning(
                "infra-without-backup",
                &path(["fleet"]),
                "the infra repo itself is not backed up".to_owned(),
                "add [infra] with `stores`: a bundle is written on every commit",
            ),
        }
    }

    /// Copies for others than the captures are for are encrypted anew, which a controller without an identity can't do. The
    /// infra repo's bundles are written into each store directly.
    pub(super) fn copies_for_others_need_an_identity(&mut self) {
        let spec = &self.lowered.spec;
        let mut found = Vec::new();
        for backup in spec.backups.values() {
            let [first, further @ ..] = backup.stores.as_slice() else { continue };
            let others = further.iter().filter(|store| !spec.encrypts_alike(first, store));
            found.extend(others.map(|store| (backup.name.clone(), first.clone(), store.clone())));
        }
        for (backup, first, store) in found {
            let message = format!(
                "copies of backup `{backup}` in `{store}` are encrypted anew, since it has other recipients than `{first}`"
            );
            let hint = format!(
                "this needs keys.identity on the controller's host, an identity that can read `{first}`; without one there are no copies"
            );
            let at = path(["backup", backup.as_str(), "stores"]);
            self.warning("copy-needs-identity", &at, message, &hint);
        }
    }

    fn are_in_two_places(&mut self, what: &str, stores: &[StoreName], at: &Path) {
        let spec = &self.lowered.spec;
        // A store that isn't known, or is faulty, is reported as such.
        let known: Vec<&Store> = stores.iter().filter_map(|name| spec.stores.get(name)).collect();
        if stores.is_empty() || known.len() < stores.len() {
            return;
        }
        let places: BTreeSet<Standing> = known.iter().map(|store| standing(store)).collect();
        match (known.as_slice(), places.first()) {
            ([only], _) => {
                let message = format!("{what} is in one store only, `{}`", only.name);
                self.warning("single-store", at, message, "add a second store, elsewhere");
            }
            (_, Some(place)) if places.len() == 1 => {
                let message = format!("all copies of {what} are in one place: {place}");
                self.warning(
                    "single-location",
                    at,
                    message,
                    "add a store elsewhere, or set `location` of the stores",
                );
            }
            _ => {}
        }
    }
}

/// Where a store stands.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Controller,
    Declared(String),
    Alone(StoreName),
}

impl std::fmt::Display for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Standing::Controller => f.write_str("the controller's host"),
            Standing::Declared(location) => write!(f, "`{location}`"),
            Standing::Alone(store) => write!(f, "store `{store}`"),
        }
    }
}

fn standing(store: &Store) -> Standing {
    match (&store.location, &store.place) {
        (Some(location), _) => Standing::Declared(location.clone()),
        (None, StorePlace::Local { .. }) => Standing::Controller,
        (None, _) => Standing::Alone(store.name.clone()),
    }
}
