//! From the files of one revision to a [`Spec`] and everything that is wrong with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use serde::de::DeserializeOwned;
use serde_json::Value as Schema;
use toml::de::ValueDeserializer;

use super::{
    Spec,
    approvals::{self, Approval},
    document::{self, Value},
    lint, lower,
    names::VmName,
    places::{Path, Places, path},
    schema::{Declaration, SCHEMA},
    suggest::{closest, listed, shown},
    walk::Walk,
};
use crate::diagnostic::{Diagnostic, Location, Severity};

/// What the files of one revision declare.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The desired state; `None` when there is any error.
    pub spec: Option<Spec>,
    /// What the revision approves, as far as it can be read; see [`approvals`].
    pub approvals: Vec<Approval>,
    /// Where each machine names its template, for those who have the templates.
    pub templates: BTreeMap<VmName, Location>,
    /// Where every key stands, for rules that need more than the declaration.
    pub places: Places,
    /// Every fault and warning, in the order of files and places.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the files of one revision, by their paths in the declaration's folder. Files that aren't `*.toml` are left
/// alone. The order of files means nothing.
pub fn parse(files: &BTreeMap<String, Vec<u8>>) -> Parsed {
    let mut reading = Reading::default();
    let resources = reading.resources(files);
    let declaration = reading.declaration(resources);
    let Reading { mut diagnostics, places, names, faulty_lines } = reading;
    let lowered = lower::lower(declaration, &names, &places, &mut diagnostics);
    diagnostics.extend(lint::lint(&lowered, &names, &places));
    let zone = &lowered.spec.fleet.time_zone;
    let approvals = files.get(approvals::FILE).map(|file| approvals::parse(file, zone, &mut diagnostics));
    drop_echoes(&mut diagnostics, &faulty_lines);
    sort(&mut diagnostics);
    let sound = diagnostics.iter().all(|diagnostic| diagnostic.severity < Severity::Error);
    Parsed {
        templates: named_templates(&lowered.spec, &places),
        spec: sound.then_some(lowered.spec),
        approvals: approvals.unwrap_or_default(),
        places,
        diagnostics,
    }
}

fn named_templates(spec: &Spec, places: &Places) -> BTreeMap<VmName, Location> {
    let place = |name: &VmName| places.find(&path(["vm", name.as_str(), "template"])).cloned();
    spec.vms.keys().filter_map(|name| Some((name.clone(), place(name)?))).collect()
}

/// Of each file with faults of syntax the lines that have them, as bytes.
type FaultyLines = BTreeMap<String, Vec<Range<usize>>>;

/// The names of all resources, also of those that are faulty: `("store", "offsite")`.
pub type Names = BTreeSet<(String, String)>;

#[derive(Default)]
struct Reading {
    diagnostics: Vec<Diagnostic>,
    places: Places,
    names: Names,
    faulty_lines: FaultyLines,
}

/// One resource as a file has it.
struct Resource<'a> {
    file: &'a str,
    /// `["fleet"]` or `["backup", "agama"]`.
    path: Path,
    key: Location,
    schema: &'static Schema,
    value: Value<'a>,
}

impl Reading {
    /// The resources of all files, each once.
    fn resources<'a>(&mut self, files: &'a BTreeMap<String, Vec<u8>>) -> Vec<Resource<'a>> {
        let mut first: BTreeMap<Path, Location> = BTreeMap::new();
        let mut resources = Vec::new();
        let declares = |file: &str| file.ends_with(".toml") && file != approvals::FILE;
        for (file, content) in files.iter().filter(|(file, _)| declares(file)) {
            let Some(document) = document::read(file, content, &mut self.diagnostics) else {
                self.faulty_lines.insert(file.clone(), Vec::new());
                continue;
            };
            if !document.faulty_lines.is_empty() {
                self.faulty_lines.insert(file.clone(), document.faulty_lines);
            }
            for resource in self.split(file, document.table) {
                match first.get(&resource.path) {
                    Some(earlier) => self.diagnostics.push(twice(&resource, earlier)),
                    None => {
                        first.insert(resource.path.clone(), resource.key.clone());
                        resources.push(resource);
                    }
                }
            }
        }
        resources
    }

    /// Splits a file's table into its resources.
    fn split<'a>(&mut self, file: &'a str, table: document::Table<'a>) -> Vec<Resource<'a>> {
        let mut resources = Vec::new();
        let at = |span| Location { file: file.to_owned(), span };
        for (key, mut value) in table {
            let section = key.get_ref().to_string();
            let schema = &SCHEMA["properties"][&section];
            let Some(item) = schema.get("additionalProperties").filter(|item| item.is_object()) else {
                match schema {
                    Schema::Null => self.diagnostics.push(unknown_section(&section, at(key.span()))),
                    schema => {
                        self.names.insert((section.clone(), String::new()));
                        let path = vec![section];
                        resources.push(Resource { file, path, key: at(key.span()), schema, value });
                    }
                }
                continue;
            };
            let toml::de::DeValue::Table(named) = value.get_mut() else {
                let mut path = vec![section];
                self.walk(file).value(&mut path, schema, value);
                continue;
            };
            for (name, value) in std::mem::take(named) {
                let path = vec![section.clone(), name.get_ref().to_string()];
                let key = at(name.span());
                self.check_name(&path, &key);
                resources.push(Resource { file, path, key, schema: item, value });
            }
        }
        resources
    }

    fn check_name(&mut self, path: &Path, key: &Location) {
        let [section, name] = path.as_slice() else { return };
        self.names.insert((section.clone(), name.clone()));
        if let Err(invalid) = name.parse::<super::names::StoreName>() {
            let message = invalid.to_string();
            self.diagnostics.push(Diagnostic::error("invalid-name", message).at(key.clone()));
        }
    }

    fn walk<'a>(&'a mut self, file: &'a str) -> Walk<'a> {
        Walk { file, places: &mut self.places, diagnostics: &mut self.diagnostics }
    }

    /// Checks each resource and mirrors what is sound of it.
    fn declaration(&mut self, resources: Vec<Resource<'_>>) -> Declaration {
        let mut declaration = Declaration::default();
        for mut resource in resources {
            let checked = self.walk(resource.file).value(&mut resource.path, resource.schema, resource.value);
            let Some(value) = checked else { continue };
            let name = resource.path.get(1).cloned().unwrap_or_default();
            let failed = match resource.path[0].as_str() {
                "fleet" => mirror(value).map(|it| declaration.fleet = Some(it)).err(),
                "infra" => mirror(value).map(|it| declaration.infra = Some(it)).err(),
                "contact" => insert(&mut declaration.contact, name, value),
                "store" => insert(&mut declaration.store, name, value),
                "policy" => insert(&mut declaration.policy, name, value),
                "backup" => insert(&mut declaration.backup, name, value),
                "vm" => insert(&mut declaration.vm, name, value),
                "recovery" => insert(&mut declaration.recovery, name, value),
                "traffic" => insert(&mut declaration.traffic, name, value),
                "drill" => insert(&mut declaration.drill, name, value),
                "suspend" => insert(&mut declaration.suspend, name, value),
                "moved" => insert(&mut declaration.moved, name, value),
                _ => insert(&mut declaration.orphan, name, value),
            };
            // The walk leaves out what the mirror would not take; should it ever miss something, it is a fault, too.
            if let Some(error) = failed {
                let message = format!("`{}`: {}", super::walk::show(&resource.path), shown(error.message()));
                self.diagnostics.push(Diagnostic::error("invalid-value", message).at(resource.key));
            }
        }
        declaration
    }
}

fn mirror<T: DeserializeOwned>(value: Value<'_>) -> Result<T, toml::de::Error> {
    T::deserialize(ValueDeserializer::from(value))
}

fn insert<T: DeserializeOwned>(
    into: &mut BTreeMap<String, T>,
    name: String,
    value: Value<'_>,
) -> Option<toml::de::Error> {
    mirror(value).map(|it| into.insert(name, it)).err()
}

fn twice(resource: &Resource<'_>, earlier: &Location) -> Diagnostic {
    Diagnostic::error("duplicate", format!("[{}] is declared twice", super::walk::show(&resource.path)))
        .at(resource.key.clone())
        .see(earlier.clone(), "first declared here")
        .hint("keep one of the two")
}

fn unknown_section(section: &str, at: Location) -> Diagnostic {
    let known =
        || SCHEMA["properties"].as_object().into_iter().flat_map(|keys| keys.keys().map(String::as_str));
    let diagnostic =
        Diagnostic::error("unknown-key", format!("unknown key `{}` in the declaration", shown(section)))
            .at(at);
    match closest(section, known()) {
        Some(word) => diagnostic.hint(format!("did you mean `{word}`?")),
        None => diagnostic.hint(format!("known here: {}", listed(known(), "and"))),
    }
}

/// Leaves out what may only follow from a fault of syntax: on its line, or because something is missing.
fn drop_echoes(diagnostics: &mut Vec<Diagnostic>, faulty_lines: &FaultyLines) {
    if faulty_lines.is_empty() {
        return;
    }
    diagnostics.retain(|diagnostic| match (diagnostic.code, &diagnostic.location) {
        ("syntax" | "duplicate" | "literal-secret" | "not-text" | "file-too-large", _) => true,
        ("unused-store" | "unused-policy" | "nothing-declared", _) => false,
        (code, Some(location)) => faulty_lines.get(&location.file).is_none_or(|lines| {
            let on_faulty_line = lines.iter().any(|line| line.contains(&location.span.start));
            !matches!(code, "missing-key" | "choose-one" | "empty-list") && !on_faulty_line
        }),
        (code, None) => code != "missing-key",
    });
}

fn sort(diagnostics: &mut Vec<Diagnostic>) {
    fn order(found: &Diagnostic) -> impl Ord + '_ {
        let place = found.location.as_ref().map(|place| (place.file.as_str(), place.span.start));
        (place, std::cmp::Reverse(found.severity), found.code, found.message.as_str())
    }
    diagnostics.sort_by(|a, b| order(a).cmp(&order(b)));
    diagnostics.dedup();
}
