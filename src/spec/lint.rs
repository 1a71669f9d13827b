//! Rules across resources: what is written correctly, but can't do what it says, or is unwise.

mod accounts;
mod buckets;
mod copies;
mod increments;
mod machines;
mod natives;
mod objective;
mod policy;
mod recovery;
mod rehearsals;

use super::{
    lower::Lowered,
    parse::Names,
    places::{Path, Places, path},
};
use crate::diagnostic::Diagnostic;

/// Every finding of every rule.
pub fn lint(lowered: &Lowered, names: &Names, places: &Places) -> Vec<Diagnostic> {
    let mut lint = Lint { lowered, places, diagnostics: Vec::new() };
    lint.something_is_declared(names);
    lint.names_are_used(names);
    lint.kinds_have_a_base();
    lint.sources_have_logs();
    lint.dumps_have_no_increments();
    lint.logs_can_be_replayed();
    lint.purged_logs_are_captured();
    lint.purged_logs_are_not_shared();
    lint.slots_are_not_shared();
    lint.windows_leave_time();
    lint.objectives_can_be_met();
    lint.retention_outlives_the_next_backup();
    lint.buckets_hold_no_store();
    lint.copies_are_in_two_places();
    lint.copies_for_others_need_an_identity();
    lint.accounts_come_back();
    lint.natives_are_not_alone();
    lint.natives_are_full();
    lint.natives_can_be_drilled();
    lint.providers_are_set_once();
    lint.recoveries_can_be_ordered();
    lint.recoveries_wait_for_what_they_restore();
    lint.recoveries_restore_to_places_of_their_own();
    lint.drills_can_check();
    lint.recoveries_can_be_drilled();
    lint.machines_can_be_reached();
    lint.orphans_are_not_declared();
    lint.all_can_run_here();
    lint.diagnostics
}

struct Lint<'a> {
    lowered: &'a Lowered,
    places: &'a Places,
    diagnostics: Vec<Diagnostic>,
}

impl Lint<'_> {
    fn error(&mut self, code: &'static str, at: &Path, message: String, hint: impl Into<String>) {
        self.push(Diagnostic::error(code, message), at, hint);
    }

    fn warning(&mut self, code: &'static str, at: &Path, message: String, hint: impl Into<String>) {
        self.push(Diagnostic::warning(code, message), at, hint);
    }

    fn note(&mut self, code: &'static str, at: &Path, message: String, hint: impl Into<String>) {
        self.push(Diagnostic::note(code, message), at, hint);
    }

    fn push(&mut self, diagnostic: Diagnostic, at: &Path, hint: impl Into<String>) {
        let diagnostic = diagnostic.hint(hint);
        self.diagnostics.push(match self.places.find(at) {
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        });
    }

    /// A revision without a backup is more likely a mistake than a wish, and would let all that exists go stale.
    fn something_is_declared(&mut self, names: &Names) {
        if !names.iter().any(|(section, _)| section == "backup") {
            self.diagnostics.push(
                Diagnostic::error("nothing-declared", "no [backup.NAME] is declared")
                    .hint("a revision that protects nothing never comes into force"),
            );
        }
    }

    fn names_are_used(&mut self, names: &Names) {
        let unused: Vec<_> = names.difference(&self.lowered.referenced).cloned().collect();
        for (section, name) in unused {
            let code = match section.as_str() {
                "store" => "unused-store",
                "policy" => "unused-policy",
                _ => continue,
            };
            let message = format!("nothing uses {section} `{}`", super::suggest::shown(&name));
            self.warning(code, &path([&section, &name]), message, "use it, or leave it out");
        }
    }

    fn orphans_are_not_declared(&mut self) {
        let spec = &self.lowered.spec;
        let declared: Vec<_> = spec.orphans.keys().filter(|name| spec.backups.contains_key(*name)).collect();
        for name in declared {
            let message = format!("backup `{name}` is declared, and an orphan, too");
            let hint = "leave out one of the two: an orphan's artifacts are deleted";
            self.error("orphan-declared", &path(["orphan", name.as_str()]), message, hint);
        }
    }

    fn all_can_run_here(&mut self) {
        for it in self.lowered.spec.cannot_run() {
            let [section, name] = it.resource.key();
            let what = match it.kind {
                Some(kind) => format!("{kind} captures of {}", it.resource),
                None => it.resource.to_string(),
            };
            let hint = "the rest of the revision is in force; `plan` and `status` show what is not";
            self.warning(
                "cannot-run-here",
                &path([section, name]),
                format!("{what} cannot run here: {}", it.why),
                hint,
            );
        }
    }
}
