//! From the mirror of a declaration to the [`Spec`]: names are looked up, defaults filled in. What is missing was
//! reported by the walk already; a resource without it is left out here, so that the lint can look at the rest.

mod atlas;
mod backup;
mod drills;
mod machines;
mod moved;
mod recovery;
mod rehearsals;
mod store;
mod suspension;
mod traffic;

use std::{collections::BTreeMap, str::FromStr};

use jiff::tz::TimeZone;

use super::{
    Contact, Fleet, Infra, Orphan, Policy, Retention, SelfHeal, Spec, Verify, Window,
    names::{FleetName, PolicyName, StoreName},
    parse::Names,
    places::{Path, Places, path},
    schedule::Cadence,
    schema::{self, CadenceForm, Declaration},
    suggest::{closest, shown},
    values::{Length, Line, Name, Text, Word},
    walk::show,
    window::{self, Span},
};
use crate::{artifact::Kind, diagnostic::Diagnostic};

/// What is sound of a declaration.
pub struct Lowered {
    /// The spec. Without a fleet (an error) a stand-in takes its place.
    pub spec: Spec,
    /// Policies as they are declared, also those that no backup uses.
    pub policies: BTreeMap<PolicyName, Policy>,
    /// What other resources refer to.
    pub referenced: Names,
}

/// Makes the spec of what is sound.
pub fn lower(
    declaration: Declaration,
    names: &Names,
    places: &Places,
    diagnostics: &mut Vec<Diagnostic>,
) -> Lowered {
    let mut lower =
        Lower { names, places, diagnostics, referenced: Names::new(), suggestions: MOST_SUGGESTIONS };
    let Declaration {
        fleet,
        contact,
        store,
        policy,
        backup,
        infra,
        vm,
        recovery,
        traffic,
        drill,
        orphan,
        moved,
        suspend,
    } = declaration;
    let policies = lower.all(policy, |lower, name, it| Some(lower.policy(name, it)));
    let fleet = lower.fleet(fleet);
    let backups = lower.all(backup, |lower, name, it| lower.backup(name, it, &policies));
    let spec = Spec {
        contacts: lower.all(contact, |_, _, it| contact_of(it)),
        stores: lower.all(store, Lower::store),
        infra: infra.map(|infra| lower.infra(infra)),
        vms: lower.all(vm, |lower, name, it| lower.vm(name, it)),
        recoveries: lower.all(recovery, |lower, name, it| lower.recovery(name, it, &backups)),
        traffic: lower.all(traffic, |lower, name, it| lower.traffic(name, it)),
        drills: lower.all(drill, |lower, name, it| lower.drill(name, it)),
        suspensions: lower.all(suspend, |lower, name, it| lower.suspension(name, it, &fleet.time_zone)),
        moved: lower.moves(moved),
        orphans: lower.all(orphan, |_, _, it| Some(Orphan { delete_after: length(it.delete_after)? })),
        backups,
        fleet,
    };
    Lowered { spec, policies, referenced: lower.referenced }
}

struct Lower<'a> {
    names: &'a Names,
    places: &'a Places,
    diagnostics: &'a mut Vec<Diagnostic>,
    referenced: Names,
    /// How many more unknown names are compared with all known ones.
    suggestions: usize,
}

/// Beyond this many unknown names something else is wrong than their spelling.
const MOST_SUGGESTIONS: usize = 100;

impl Lower<'_> {
    /// Every resource of a section whose name is one.
    fn all<N, From, To>(
        &mut self,
        resources: BTreeMap<String, From>,
        mut one: impl FnMut(&mut Self, &N, From) -> Option<To>,
    ) -> BTreeMap<N, To>
    where
        N: FromStr + Ord,
    {
        let mut lowered = BTreeMap::new();
        for (name, resource) in resources {
            let Ok(name) = name.parse::<N>() else { continue };
            if let Some(resource) = one(self, &name, resource) {
                lowered.insert(name, resource);
            }
        }
        lowered
    }

    fn error(&mut self, code: &'static str, path: &Path, message: String, hint: impl Into<String>) {
        let diagnostic = Diagnostic::error(code, message).hint(hint);
        self.diagnostics.push(match self.places.find(path) {
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        });
    }

    /// A reference to a resource of `section`; its own faults are its own affair.
    fn reference<N: FromStr>(&mut self, section: &str, at: &Path, name: &str) -> Option<N> {
        let resource = (section.to_owned(), name.to_owned());
        if self.names.contains(&resource) {
            self.referenced.insert(resource);
            return name.parse().ok();
        }
        let compared = if self.suggestions == 0 { 0 } else { usize::MAX };
        self.suggestions = self.suggestions.saturating_sub(1);
        let known = self.names.iter().filter(|(s, _)| s == section).map(|(_, name)| name.as_str());
        let renamed = section == "backup" && self.names.contains(&("moved".to_owned(), name.to_owned()));
        let hint = match closest(name, known.take(compared)) {
            _ if renamed => format!("it was renamed, as [moved.{name}] says: use the name that it has now"),
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("declare it: [{section}.{name}]"),
        };
        self.error(
            "unknown-name",
            at,
            format!("`{}` names a {section} that is not declared: `{}`", show(at), shown(name)),
            hint,
        );
        None
    }

    fn fleet(&mut self, fleet: Option<schema::Fleet>) -> Fleet {
        if fleet.is_none() && !self.names.contains(&("fleet".to_owned(), String::new())) {
            let diagnostic = Diagnostic::error("missing-key", "no [fleet] is declared");
            self.diagnostics.push(diagnostic.hint("[fleet] needs `name` and `recipients`"));
        }
        let fleet = fleet.unwrap_or_default();
        let stand_in = || FleetName::from_str("fleet").expect("a plain word is a name");
        Fleet {
            name: fleet.name.and_then(|name| name.0.0.parse().ok()).unwrap_or_else(stand_in),
            time_zone: fleet.timezone.map_or(TimeZone::UTC, |zone| zone.0.0),
            recipients: fleet
                .recipients
                .unwrap_or_default()
                .into_iter()
                .map(|recipient| recipient.0)
                .collect(),
        }
    }

    fn policy(&mut self, name: &PolicyName, policy: schema::Policy) -> Policy {
        let rpo = length(policy.rpo);
        let schedules = [
            (Kind::Full, policy.full),
            (Kind::Incremental, policy.incremental),
            (Kind::Differential, policy.differential),
            (Kind::Log, policy.log),
        ];
        Policy {
            name: name.clone(),
            rpo,
            rto: length(policy.rto),
            grace: length(policy.grace).unwrap_or_else(|| schema::default_grace(rpo)),
            schedules: schedules
                .into_iter()
                .filter_map(|(kind, cadence)| cadence.map(|cadence| (kind, cadence_of(cadence))))
                .collect(),
            catch_up: match policy.catch_up.unwrap_or_default() {
                schema::CatchUp::Once => super::CatchUp::Once,
                schema::CatchUp::Skip => super::CatchUp::Skip,
            },
            jitter: length(policy.jitter).unwrap_or_default(),
            window: policy.window.map(window).unwrap_or_default(),
            keep: policy.keep.map(retention).unwrap_or_default(),
            verify: policy.verify.map(verify).unwrap_or_default(),
        }
    }

    fn infra(&mut self, infra: schema::Infra) -> Infra {
        let at = path(["infra"]);
        let stores = self.stores(&at, infra.stores);
        Infra {
            keep: infra.keep.map(retention).unwrap_or_default(),
            keep_in: self.keep_in(&at, infra.keep_in, &stores),
            mirrors: infra.mirrors.unwrap_or_default().into_iter().map(|url| url.0.0).collect(),
            self_heal: SelfHeal::declared(infra.self_heal),
            stores,
        }
    }

    /// The stores of a backup, each once.
    fn stores(&mut self, owner: &Path, names: Option<Vec<Text<Name>>>) -> Vec<StoreName> {
        let mut stores: Vec<StoreName> = Vec::new();
        for (number, Text(Name(name))) in names.unwrap_or_default().into_iter().enumerate() {
            let at = below(owner, ["stores", &number.to_string()]);
            let Some(store) = self.reference("store", &at, &name) else { continue };
            if stores.contains(&store) {
                self.error(
                    "duplicate",
                    &at,
                    format!("[{}] names store `{name}` twice", show(owner)),
                    "leave one out",
                );
            } else {
                stores.push(store);
            }
        }
        stores
    }

    /// Retention of single stores, which must be among the backup's.
    fn keep_in(
        &mut self,
        owner: &Path,
        keep_in: BTreeMap<String, schema::Keep>,
        stores: &[StoreName],
    ) -> BTreeMap<StoreName, Retention> {
        let mut lowered = BTreeMap::new();
        for (name, keep) in keep_in {
            let at = below(owner, ["keep_in", &name]);
            match stores.iter().find(|store| store.as_str() == name) {
                Some(store) => {
                    lowered.insert(store.clone(), retention(keep));
                }
                None => {
                    let meant = closest(&name, stores.iter().map(StoreName::as_str));
                    let hint =
                        meant.map_or("add it to `stores`".to_owned(), |it| format!("did you mean `{it}`?"));
                    let message =
                        format!("[{}] is about a store that [{}] does not use", show(&at), show(owner));
                    self.error("unknown-name", &at, message, hint);
                }
            }
        }
        lowered
    }
}

/// A path further down.
fn below<const N: usize>(owner: &Path, keys: [&str; N]) -> Path {
    owner.iter().cloned().chain(keys.map(str::to_owned)).collect()
}

fn contact_of(contact: schema::Contact) -> Option<Contact> {
    Some(Contact {
        name: line(contact.name)?,
        role: line(contact.role),
        email: word(contact.email),
        phone: line(contact.phone),
    })
}

fn length(length: Option<Text<Length>>) -> Option<std::time::Duration> {
    length.map(|length| length.0.0)
}

fn line(line: Option<Text<Line>>) -> Option<String> {
    line.map(|line| line.0.0)
}

fn word(word: Option<Text<Word>>) -> Option<String> {
    word.map(|word| word.0.0)
}

fn cadence_of(cadence: CadenceForm) -> Cadence {
    cadence.0
}

fn window(window: schema::Window) -> Window {
    let spans = |spans: Option<Vec<Text<Span>>>| spans.into_iter().flatten().map(|span| span.0).collect();
    Window {
        deny: spans(window.deny),
        allow: spans(window.allow),
        zone: window.timezone.map(|zone| window::Zone(zone.0.0)),
    }
}

fn retention(keep: schema::Keep) -> Retention {
    Retention {
        full: length(keep.full),
        incremental: length(keep.incremental),
        differential: length(keep.differential),
        log: length(keep.log),
        manual: length(keep.manual),
        hourly: keep.hourly,
        daily: keep.daily,
        weekly: keep.weekly,
        monthly: keep.monthly,
        yearly: keep.yearly,
        last: keep.last,
    }
}

fn verify(verify: schema::Verify) -> Verify {
    Verify {
        metadata: length(verify.metadata),
        data: length(verify.data),
        plaintext: length(verify.plaintext),
    }
}
