//! Templates: the infra repo's own, over those that are built in. What is not defined is an error with its place.

use std::collections::BTreeMap;

use serde::Serialize;
use tera::{Context, Tera};

/// The folder of the infra repo that holds its own.
pub const FOLDER: &str = "templates";

/// What is built in, by name.
const BUILT_IN: [(&str, &str); 0] = [];

/// The templates of one revision.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    own: BTreeMap<String, String>,
}

/// A template that can't be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is none of that name.
    #[error(
        "failed to render {0}: there is no such template; add it as {FOLDER}/{0} to the infra repo, or name one of those that are \
         built in: {known}",
        known = built_in().collect::<Vec<_>>().join(", ")
    )]
    Missing(String),
    /// It is faulty, or asks for what is not defined.
    #[error("failed to render {name}: {why}")]
    Faulty {
        /// Which.
        name: String,
        /// Where, and why.
        why: String,
    },
}

/// The names of those that are built in.
pub fn built_in() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

impl Templates {
    /// The built-in ones, and over them those of an infra repo, by their paths in its folder.
    pub fn of(own: BTreeMap<String, String>) -> Self {
        Self { own }
    }

    /// Renders a template with what `context` defines.
    ///
    /// # Errors
    /// Where there is none of that name, or where it or one that it includes is faulty, or asks for what is not defined.
    pub fn render(&self, name: &str, context: &impl Serialize) -> Result<String, TemplateError> {
        let all = self.all();
        if !all.contains_key(name) {
            return Err(TemplateError::Missing(name.to_owned()));
        }
        let faulty = |error: tera::Error| TemplateError::Faulty { name: name.to_owned(), why: chain(&error) };
        let context = Context::from_serialize(context).map_err(faulty)?;
        // What another template is faulty in must not keep this one from a recovery, unless it needs that one.
        let alone =
            all.iter().filter(|(known, _)| **known == name).map(|(name, text)| (*name, *text)).collect();
        let tera = parsed(all).or_else(|error| parsed(alone).map_err(|_| error)).map_err(faulty)?;
        tera.render(name, &context).map_err(faulty)
    }

    fn all(&self) -> BTreeMap<&str, &str> {
        let own = self.own.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        BUILT_IN.into_iter().chain(own).collect()
    }
}

fn parsed(templates: BTreeMap<&str, &str>) -> Result<Tera, tera::Error> {
    let mut tera = Tera::new();
    // What is rendered is no HTML; templates of pages escape by filter.
    tera.autoescape_on(Vec::<&str>::new());
    tera.add_raw_templates(templates)?;
    Ok(tera)
}

/// An error with what caused it.
fn chain(error: &tera::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |error| error.source());
    std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(all: &[(&str, &str)]) -> Templates {
        Templates::of(all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_is_defined_is_rendered_as_it_is() {
        let templates = templates(&[("a.html.tera", "{{ vm.name }}: {{ vars.memory }}<")]);
        let context = serde_json::json!({ "vm": { "name": "<web>" }, "vars": { "memory": 4 } });
        assert_eq!(templates.render("a.html.tera", &context).as_deref(), Ok("<web>: 4<"));
    }

    #[test]
    fn what_is_not_defined_is_an_error_with_its_place() {
        let templates = templates(&[("a.tera", "one\n{{ vars.nothing }}\n"), ("b.tera", "{{ broken")]);
        let context = serde_json::json!({ "vars": {} });
        let error = templates.render("a.tera", &context).unwrap_err().to_string();
        assert!(error.contains("a.tera") && error.contains('2') && error.contains("nothing"), "{error}");
        assert!(matches!(templates.render("c.tera", &context), Err(TemplateError::Missing(_))));
        assert!(matches!(templates.render("b.tera", &context), Err(TemplateError::Faulty { .. })));
    }
}
