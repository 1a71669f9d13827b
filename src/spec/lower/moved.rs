//! Moves: renamed backups.

use std::collections::BTreeMap;

use super::Lower;
use crate::{
    diagnostic::Diagnostic,
    spec::{
        Moves,
        names::{BackupName, INFRA},
        places::{Path, path},
        schema,
        suggest::{closest, shown},
    },
};

impl Lower<'_> {
    /// The moves that are declared, with everything that is wrong with them.
    pub(super) fn moves(&mut self, moved: BTreeMap<String, schema::Moved>) -> Moves {
        let next: BTreeMap<BackupName, BackupName> = self.all(moved, |_, _, it| it.to?.0.0.parse().ok());
        for (old, new) in &next {
            self.old_name_is_free(old, new);
            self.new_name_is_declared(old, new);
        }
        self.folders_have_one_owner(&next);
        self.chains_have_an_end(&next);
        Moves::new(next)
    }

    /// The folder of the old name belongs to the new one: nothing else may have it.
    fn old_name_is_free(&mut self, old: &BackupName, new: &BackupName) {
        let at = path(["moved", old.as_str()]);
        if old.is_infra() || new.is_infra() {
            let message = format!("[moved.{old}] is about `{INFRA}`, the infra repo's own backup");
            self.error("moved-infra", &at, message, "leave it out: that one always has this name");
        }
        if self.is_named("backup", old) {
            let message = format!("backup `{old}` is moved to `{new}`, and declared, too");
            let hint = format!(
                "what the stores hold of `{old}` belongs to `{new}`: leave out [moved.{old}], or give \
                 [backup.{old}] another name"
            );
            self.error("moved-declared", &at, message, hint);
        }
        if self.is_named("orphan", old) {
            let message = format!("backup `{old}` is moved to `{new}`, and an orphan, too");
            self.error(
                "moved-orphan",
                &at,
                message,
                "leave out one of the two: an orphan's artifacts are deleted",
            );
        }
    }

    fn new_name_is_declared(&mut self, old: &BackupName, new: &BackupName) {
        if new.is_infra() || self.is_named("backup", new) || self.is_named("moved", new) {
            return;
        }
        let backups = self.names.iter().filter(|(section, _)| section == "backup");
        let hint = match closest(new.as_str(), backups.map(|(_, name)| name.as_str())) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "declare [backup.{new}]; to give up what the stores hold, declare [orphan.{old}] in place of \
                 [moved.{old}]"
            ),
        };
        let message =
            format!("`moved.{old}.to` names a backup that is not declared: `{}`", shown(new.as_str()));
        self.error("unknown-name", &to(old), message, hint);
    }

    /// Two folders can't become one.
    fn folders_have_one_owner(&mut self, next: &BTreeMap<BackupName, BackupName>) {
        let mut first: BTreeMap<&BackupName, &BackupName> = BTreeMap::new();
        for (old, new) in next {
            let Some(earlier) = first.get(new) else {
                first.insert(new, old);
                continue;
            };
            let message = format!("both `{earlier}` and `{old}` are moved to `{new}`");
            let hint = format!(
                "a backup has one folder in a store: leave out one of the two, whose artifacts are kept until an \
                 [orphan.NAME] lets them go; where `{earlier}` was first called `{old}`, or the other way round, say so"
            );
            let mut diagnostic = Diagnostic::error("moved-twice", message).hint(hint);
            if let Some(place) = self.places.find(&to(old)) {
                diagnostic = diagnostic.at(place.clone());
            }
            if let Some(place) = self.places.find(&to(earlier)) {
                diagnostic = diagnostic.see(place.clone(), "first moved here");
            }
            self.diagnostics.push(diagnostic);
        }
    }

    fn chains_have_an_end(&mut self, next: &BTreeMap<BackupName, BackupName>) {
        for (old, new) in in_circles(next) {
            let message = format!("`{old}` is moved to itself, by way of `{new}`");
            self.error("moved-in-a-circle", &to(old), message, "leave out the move that is not so");
        }
    }

    fn is_named(&self, section: &str, name: &BackupName) -> bool {
        self.names.contains(&(section.to_owned(), name.to_string()))
    }
}

/// Moves that lead back to where they begin: all but those that some name leads to which none leads to.
fn in_circles(next: &BTreeMap<BackupName, BackupName>) -> BTreeMap<&BackupName, &BackupName> {
    let mut leading_to: BTreeMap<&BackupName, usize> = BTreeMap::new();
    for new in next.values() {
        *leading_to.entry(new).or_default() += 1;
    }
    let mut left: BTreeMap<&BackupName, &BackupName> = next.iter().collect();
    let mut ends: Vec<&BackupName> = next.keys().filter(|name| !leading_to.contains_key(name)).collect();
    while let Some(end) = ends.pop() {
        let Some(new) = left.remove(end) else { continue };
        if let Some(others) = leading_to.get_mut(new) {
            *others -= 1;
            if *others == 0 {
                ends.push(new);
            }
        }
    }
    left
}

fn to(old: &BackupName) -> Path {
    path(["moved", old.as_str(), "to"])
}
