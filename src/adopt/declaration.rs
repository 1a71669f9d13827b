//! The declaration: policies and backups as TOML that the front end takes, with comments for what a person must look at.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::{
    Adopted, Entry, Note, When,
    command::{self, Dump, Keep, Server, Source, Told},
};
use crate::spec::{
    Cadence,
    names::{INFRA, LONGEST_NAME, StoreName},
};

/// Declares what the entries dump, to be kept in `stores`.
pub fn declare(entries: &[Entry], stores: &[StoreName]) -> Adopted {
    let mut draft = Draft {
        stores,
        policies: BTreeMap::new(),
        names: Names::default(),
        bodies: String::new(),
        notes: Vec::new(),
    };
    for entry in entries {
        match understood(entry) {
            Ok(told) => draft.adopt(entry, &told),
            Err(why) => draft.note(entry, why),
        }
    }
    draft.finish()
}

/// What an entry dumps, or why it is left out.
fn understood(entry: &Entry) -> Result<Told, String> {
    if let (Err(why), true) = (&entry.when, entry.command.is_empty()) {
        return Err(why.clone());
    }
    let told =
        command::told(&entry.command).map_err(|_| "its quotes or parentheses are not closed".to_owned())?;
    match told.dumps.as_slice() {
        [] if !told.keep.is_empty() => {
            Err("it only deletes what is old: `keep` of a policy says what is kept".to_owned())
        }
        [] if told.others.is_empty() => Err("it is not recognised as a backup".to_owned()),
        [] => Err(format!("it is not recognised as a backup: it starts {}", told.others.join(", "))),
        _ => Ok(told),
    }
}

/// What entries share: when they run, and what they keep.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Terms {
    /// As the value of `full`; `None` when nobody can tell.
    full: Option<String>,
    /// The longest time from one run to the next.
    gap: Option<Duration>,
    zone: Option<String>,
    jitter: Option<String>,
    keep: Keep,
}

struct Draft<'a> {
    stores: &'a [StoreName],
    /// The policy of each, by its number.
    policies: BTreeMap<Terms, usize>,
    names: Names,
    bodies: String,
    notes: Vec<Note>,
}

impl Draft<'_> {
    fn note(&mut self, entry: &Entry, text: impl Into<String>) {
        self.notes.push(Note { place: plain(&entry.place), text: text.into() });
    }

    fn adopt(&mut self, entry: &Entry, told: &Told) {
        for dump in &told.dumps {
            if dump.source == Source::Unclear {
                self.note(entry, "what it dumps can't be told from the line: declare it by hand");
                continue;
            }
            let number = self.policies.len() + 1;
            let number = *self.policies.entry(terms(entry, told)).or_insert(number);
            if let Err(why) = &entry.when {
                self.note(entry, format!("its schedule could not be taken over: {why}"));
            }
            self.backup(entry, dump, &policy_name(number));
        }
    }

    fn backup(&mut self, entry: &Entry, dump: &Dump, policy: &str) {
        let name = self.names.give(dump);
        let out = &mut self.bodies;
        line(out, format_args!("# From {}", plain(&entry.place)));
        for remark in &dump.remarks {
            line(out, format_args!("# Look: {remark}."));
        }
        let stores: Vec<String> = self.stores.iter().map(|store| store.to_string()).collect();
        line(out, format_args!("[backup.{name}]\npolicy = {}\nstores = {}", quoted(policy), list(&stores)));
        source(out, &name, &dump.source);
        out.push('\n');
    }

    fn finish(self) -> Adopted {
        let mut declaration = String::from(
            "# What crontabs and timers dump already. Look at the comments, then commit it. The old lines go on: take them\n\
             # out once `backstay status` shows good backups.\n",
        );
        let zones: Vec<&str> = self.policies.keys().filter_map(|terms| terms.zone.as_deref()).collect();
        if !self.policies.is_empty() && zones.is_empty() {
            declaration
                .push_str("# The times are those of the host's zone: name it as `timezone` of [fleet].\n");
        }
        let mut policies: Vec<_> = self.policies.iter().collect();
        policies.sort_by_key(|(_, number)| **number);
        for (terms, number) in policies {
            declaration.push('\n');
            policy(&mut declaration, &policy_name(*number), terms);
        }
        declaration.push('\n');
        declaration.push_str(self.bodies.trim_end());
        let declaration = format!("{}\n", declaration.trim_end());
        Adopted { declaration, backups: self.names.given.len(), notes: self.notes }
    }
}

fn terms(entry: &Entry, told: &Told) -> Terms {
    let length = |length: Duration| humantime::format_duration(length).to_string();
    let keep = told.keep.clone();
    match &entry.when {
        Ok(When { cadence, zone, jitter }) => Terms {
            full: Some(match cadence {
                Cadence::Cron(cron) => quoted(cron.as_str()),
                Cadence::Every(period) => format!("{{ every = {} }}", quoted(&length(*period))),
            }),
            gap: Some(cadence.longest_gap()),
            zone: zone.clone(),
            jitter: jitter.map(length),
            keep,
        },
        Err(_) => Terms { full: None, gap: None, zone: None, jitter: None, keep },
    }
}

fn policy_name(number: usize) -> String {
    if number == 1 { "adopted".to_owned() } else { format!("adopted-{number}") }
}

fn policy(out: &mut String, name: &str, terms: &Terms) {
    line(out, format_args!("[policy.{name}]"));
    if let Some(zone) = &terms.zone {
        line(
            out,
            format_args!("# Look: these are times of {zone}; all schedules follow `timezone` of [fleet]."),
        );
    }
    match &terms.full {
        Some(full) => line(out, format_args!("full = {full}")),
        None => line(out, format_args!("# Look: choose a schedule, such as full = \"0 1 * * *\".")),
    }
    if let Some(jitter) = &terms.jitter {
        line(out, format_args!("jitter = {}", quoted(jitter)));
    }
    keep(out, terms);
}

/// What is kept: at least until the next dump, even where the lines delete the last one before it comes.
fn keep(out: &mut String, terms: &Terms) {
    let counts = terms.keep.counts.iter().map(|(key, count)| format!("{key} = {count}"));
    let needed = terms.gap.filter(|_| terms.keep.counts.is_empty()).map_or(0, days_to_outlast);
    let days = terms.keep.days.map(|days| (days, days.max(needed)));
    if let Some((stated, _)) = days.filter(|(stated, kept)| stated < kept) {
        line(
            out,
            format_args!(
                "# Look: the lines delete a dump after {stated} days, before the next one comes: it is kept longer."
            ),
        );
    }
    let age = days.map(|(_, kept)| format!("full = \"{kept}d\""));
    let rules: Vec<String> = age.into_iter().chain(counts).collect();
    if rules.is_empty() {
        line(
            out,
            format_args!(
                "# Look: nothing in the lines deletes old dumps, so all are kept; keep = {{ full = \"30d\" }}?"
            ),
        );
    } else {
        line(out, format_args!("keep = {{ {} }}", rules.join(", ")));
    }
}

/// The whole days that are not shorter than this.
fn days_to_outlast(gap: Duration) -> u32 {
    u32::try_from(gap.as_secs().div_ceil(24 * 3600)).unwrap_or(u32::MAX)
}

fn source(out: &mut String, name: &str, source: &Source) {
    match source {
        Source::Server(found) => server(out, name, found),
        Source::Sqlite { path } => line(out, format_args!("[backup.{name}.sqlite]\npath = {}", quoted(path))),
        Source::Files { paths, exclude } => {
            line(out, format_args!("[backup.{name}.files]\npaths = {}", list(paths)));
            if !exclude.is_empty() {
                line(out, format_args!("exclude = {}", list(exclude)));
            }
        }
        Source::Bucket { bucket, prefix, endpoint } => {
            line(out, format_args!("[backup.{name}.s3]\nbucket = {}", quoted(bucket)));
            let optional = [("prefix", prefix), ("endpoint", endpoint)];
            for (key, value) in optional.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
                line(out, format_args!("{key} = {}", quoted(value)));
            }
        }
        Source::Unclear => {}
    }
}

fn server(out: &mut String, name: &str, server: &Server) {
    line(out, format_args!("[backup.{name}.{}]", server.engine.table()));
    let texts = [("socket", &server.socket), ("host", &server.host), ("user", &server.user)];
    for (key, value) in texts.iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        line(out, format_args!("{key} = {}", quoted(value)));
        if let Some(port) = server.port.filter(|_| *key == "host") {
            line(out, format_args!("port = {port}"));
        }
        if let Some(port) = server.rpc_port.filter(|_| *key == "host") {
            line(out, format_args!("rpc_port = {port}"));
        }
    }
    if server.socket.is_none() {
        let file = quoted(&format!("/etc/backstay/secrets/{name}"));
        line(
            out,
            format_args!(
                "# Look: put the password into that file, and allow it in [allow] of the controller."
            ),
        );
        line(out, format_args!("password = {{ file = {file} }}"));
    }
    if !server.databases.is_empty() {
        line(out, format_args!("databases = {}", list(&server.databases)));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing into a string cannot fail.
    let _ = writeln!(out, "{text}");
}

fn list(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", "))
}

/// A string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A text that ends no comment.
fn plain(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Names that were given already.
#[derive(Default)]
struct Names {
    given: std::collections::BTreeSet<String>,
}

impl Names {
    /// A name that says what is backed up, and that no other backup has.
    fn give(&mut self, dump: &Dump) -> String {
        let name = named(&wanted(&dump.source));
        let numbered = |n: usize| if n == 1 { name.clone() } else { format!("{name}-{n}") };
        let mut n = 1;
        while self.given.contains(&numbered(n)) {
            n += 1;
        }
        self.given.insert(numbered(n));
        numbered(n)
    }
}

/// What a person would call it.
fn wanted(source: &Source) -> String {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    match source {
        Source::Server(server) => match (server.databases.as_slice(), server.host.as_deref()) {
            ([one], _) => one.clone(),
            (_, Some(host)) if host != "localhost" => format!("{}-{host}", server.engine.table()),
            _ => server.engine.table().to_owned(),
        },
        Source::Sqlite { path } => last(path).trim_end_matches(".db").trim_end_matches(".sqlite").to_owned(),
        Source::Files { paths, .. } => paths.first().map(|path| last(path)).unwrap_or_default(),
        Source::Bucket { bucket, .. } => bucket.clone(),
        Source::Unclear => String::new(),
    }
}

/// A text as a name of the declaration, without dots: they would nest tables.
fn named(text: &str) -> String {
    let plain = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' => c,
        _ => '-',
    };
    // Room for a number behind it.
    let name: String = text.chars().map(plain).take(LONGEST_NAME - 8).collect();
    match name.trim_matches(['-', '_']) {
        "" => "files".to_owned(),
        INFRA => "infra-files".to_owned(),
        name => name.to_owned(),
    }
}
