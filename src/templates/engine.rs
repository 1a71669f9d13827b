//! Tera, with two filters more than its own: `xml` escapes a value for XML, `json` writes it as JSON, which YAML takes as well.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use tera::{Context, Kwargs, State, Tera, Value};

use super::{BUILT_IN, PREFIX, apart::Request, machines};

/// The longest text that a template may render to, bytes.
pub(super) const MOST_TEXT: usize = 16 << 20;

/// Why there is no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The template, or what it includes, is faulty.
    #[error("{0}")]
    Faulty(String),
    /// The text would be longer than [`MOST_TEXT`].
    #[error("its text is too long")]
    TooLong,
}

/// Renders what is asked for, in this process, for as long as it takes.
pub(super) fn rendered(request: &Request) -> Result<String, Fault> {
    let name = request.name.as_str();
    let faulty = |error: tera::Error| Fault::Faulty(chain(&error));
    let context = Context::from_serialize(&request.context).map_err(faulty)?;
    let all: BTreeMap<&str, &str> =
        request.templates.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let needed =
        |known: &str| known == name || BUILT_IN.iter().any(|(own, _)| known == format!("{PREFIX}{own}"));
    let needed = all.keys().copied().filter(|known| needed(known)).collect();
    let tera = parsed_as_needed(&all, needed).map_err(faulty)?;
    let mut text = Text::default();
    match tera.render_to(name, &context, &mut text) {
        _ if text.is_too_long => Err(Fault::TooLong),
        Err(error) => Err(faulty(error)),
        Ok(()) => String::from_utf8(text.written).map_err(|error| Fault::Faulty(error.to_string())),
    }
}

/// A text that grows to [`MOST_TEXT`] and no further.
#[derive(Default)]
struct Text {
    written: Vec<u8>,
    is_too_long: bool,
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written.len() + bytes.len() > MOST_TEXT {
            self.is_too_long = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The engine with those of `all` that are `needed`, and with what they include and extend: what another one is faulty in, or takes
/// too much for, must not keep these from a recovery.
fn parsed_as_needed<'a>(
    all: &BTreeMap<&'a str, &'a str>,
    mut needed: BTreeSet<&'a str>,
) -> Result<Tera, tera::Error> {
    loop {
        let error = match parsed(needed.iter().filter_map(|name| Some((*name, *all.get(name)?)))) {
            Ok(tera) => return Ok(tera),
            Err(error) => error,
        };
        let lacking = lacking(&error, all.keys().copied());
        if lacking.is_subset(&needed) {
            return Err(error);
        }
        needed.extend(lacking);
    }
}

/// Which of `known` templates an error asks for.
fn lacking<'a>(error: &tera::Error, known: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let said = error.to_string();
    // Nothing tells which template has a component.
    let is_any = said.contains("Unknown component `");
    let is_asked_for = |name: &&str| match error.kind() {
        tera::ErrorKind::MissingParent { parent, .. } => parent == name,
        // Tera has no kind of its own for what is included.
        _ => is_any || said.contains(&format!("Unknown template `{name}`")),
    };
    known.filter(is_asked_for).collect()
}

fn parsed<'a>(templates: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Tera, tera::Error> {
    let mut tera = Tera::new();
    // Everything else is no HTML.
    tera.autoescape_on(vec![".html.tera"]);
    tera.register_filter("xml", xml);
    tera.register_filter("json", json);
    tera.add_raw_templates(templates)?;
    Ok(tera)
}

/// A value as the text of an element or an attribute of XML.
fn xml(value: &Value, _: Kwargs, _: &State) -> String {
    machines::escaped(&value.to_string())
}

/// A value as JSON.
fn json(value: &Value, _: Kwargs, _: &State) -> Result<String, tera::Error> {
    serde_json::to_string(value).map_err(|error| tera::Error::message(error.to_string()))
}

/// An error with what caused it.
fn chain(error: &tera::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}
