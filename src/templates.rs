//! Templates: the infra repo's own, over those that are built in. What is not defined is an error with its place.
//!
//! Two filters are added to Tera's own: `xml` escapes a value for XML, `json` writes it as JSON, which YAML takes as well.

pub mod machines;
pub mod stacks;

use std::collections::BTreeMap;

use serde::Serialize;
use tera::{Context, Kwargs, State, Tera, Value};

/// The folder of the infra repo that holds its own.
pub const FOLDER: &str = "templates";

/// What is built in, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("runbook.html.tera", include_str!("../templates/runbook/runbook.html.tera")),
    ("runbook.md.tera", include_str!("../templates/runbook/runbook.md.tera")),
    ("cloudformation-vm.yaml.tera", include_str!("../templates/machines/cloudformation-vm.yaml.tera")),
    ("cloud-init.yaml.tera", include_str!("../templates/machines/cloud-init.yaml.tera")),
    ("libvirt-domain.xml.tera", include_str!("../templates/machines/libvirt-domain.xml.tera")),
];

/// Before the name of a template that is built in: by this one it is there also where the infra repo has its own of that name,
/// which may so extend it.
const PREFIX: &str = "built-in/";

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
        let needed =
            |known: &str| known == name || BUILT_IN.iter().any(|(own, _)| known == format!("{PREFIX}{own}"));
        let alone =
            all.iter().filter(|(known, _)| needed(known)).map(|(name, text)| (name.clone(), *text)).collect();
        let tera = parsed(all).or_else(|error| parsed(alone).map_err(|_| error)).map_err(faulty)?;
        tera.render(name, &context).map_err(faulty)
    }

    fn all(&self) -> BTreeMap<String, &str> {
        let own = self.own.iter().map(|(name, text)| (name.clone(), text.as_str()));
        let built_in = BUILT_IN.into_iter().map(|(name, text)| (name.to_owned(), text));
        let prefixed = BUILT_IN.into_iter().map(|(name, text)| (format!("{PREFIX}{name}"), text));
        built_in.chain(own).chain(prefixed).collect()
    }
}

fn parsed(templates: BTreeMap<String, &str>) -> Result<Tera, tera::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn templates(all: &[(&str, &str)]) -> Templates {
        Templates::of(all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_is_defined_is_rendered_as_it_is() {
        let templates = templates(&[("a.yaml.tera", "{{ vm.name }}: {{ vars.memory }}<")]);
        let context = serde_json::json!({ "vm": { "name": "<web>" }, "vars": { "memory": 4 } });
        assert_eq!(templates.render("a.yaml.tera", &context).as_deref(), Ok("<web>: 4<"));
    }

    #[test]
    fn values_cannot_leave_their_place_in_xml_and_json() {
        let templates =
            templates(&[("a.xml.tera", "<a b='{{ v | xml }}'/>"), ("a.yaml.tera", "a: {{ v | json }}")]);
        let context = serde_json::json!({ "v": "'/><evil a=\"&\">\nb: c" });
        let rendered = |name| templates.render(name, &context).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rendered("a.xml.tera"), "<a b='&apos;/&gt;&lt;evil a=&quot;&amp;&quot;&gt;\nb: c'/>");
        assert_eq!(rendered("a.yaml.tera"), r#"a: "'/><evil a=\"&\">\nb: c""#);
    }

    #[test]
    fn a_template_may_extend_the_built_in_one_whose_place_it_takes() {
        let own =
            "{% extends \"built-in/libvirt-domain.xml.tera\" %}{% block network %}<none/>{% endblock %}";
        let templates = templates(&[("libvirt-domain.xml.tera", own), ("broken.tera", "{{ broken")]);
        let context = serde_json::json!({
            "vars": {}, "domain": { "name": "web", "metadata": "" },
            "libvirt": { "memory": 1, "cpus": 1, "disk": "/d", "seed": "/s", "network": "n" },
        });
        let rendered =
            templates.render("libvirt-domain.xml.tera", &context).unwrap_or_else(|error| panic!("{error}"));
        assert!(rendered.contains("<none/>") && !rendered.contains("<interface"), "{rendered}");
    }

    #[test]
    fn as_json_a_value_stays_one_value_whatever_is_in_it() {
        let templates = templates(&[("a.tera", "a: {{ vars.text | json }}\nb: {{ vars.list | json }}\n")]);
        let context = serde_json::json!({ "vars": { "text": "x\n\"y\": {{ z }}", "list": [1, "b"] } });
        let rendered = templates.render("a.tera", &context).unwrap();
        assert_eq!(rendered, "a: \"x\\n\\\"y\\\": {{ z }}\"\nb: [1,\"b\"]\n");
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
