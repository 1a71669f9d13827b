//! Templates: the infra repo's own, over those that are built in. What is not defined is an error with its place.
//!
//! A template is data of whoever may commit, and a program all the same: it may repeat itself without end and hold any amount of
//! memory. Each is rendered in a process of its own ([`apart`]), by what [`engine`] does there.

pub mod apart;
mod engine;
pub mod machines;
pub mod stacks;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use apart::{Bound, Request};

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

/// So many templates of a revision may break a bound; then no other one of it is rendered, for each costs its whole time.
const MOST_UNBOUNDED: usize = 3;

/// So many renderings are remembered at most; then it begins anew.
const MOST_REMEMBERED: usize = 1024;

/// The templates of one revision.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    own: BTreeMap<String, String>,
    /// Those that broke a bound.
    unbounded: Arc<Mutex<BTreeMap<String, Bound>>>,
    /// What broke one before, of whatever revision.
    remembered: Remembered,
}

/// What broke a bound, by all that its rendering rests on: as long as none of that changes, it would break it again. For whoever renders
/// the same again and again.
#[derive(Clone, Debug, Default)]
pub struct Remembered(Arc<Mutex<BTreeMap<[u8; 32], Bound>>>);

impl Remembered {
    fn bound(&self, digest: &[u8; 32]) -> Option<Bound> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(digest).copied()
    }

    fn remember(&self, digest: [u8; 32], bound: Bound) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(digest, bound);
    }
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
    /// It would take more than any template may.
    #[error(
        "failed to render {name}: {bound}; look in it, and in what it extends and includes, for what repeats or grows without need, \
         and make that smaller"
    )]
    Unbounded {
        /// Which.
        name: String,
        /// What it would take more of.
        bound: Bound,
    },
    /// Others have taken too much already.
    #[error(
        "failed to render {name}: it was not tried, since {others} of the same revision took too much already; mend those first"
    )]
    NotTried {
        /// Which.
        name: String,
        /// The others.
        others: String,
    },
    /// The process that renders did not do it.
    #[error("failed to render {name}: {why}; nothing is known of the template, so try again")]
    CouldNotRun {
        /// Which.
        name: String,
        /// Why.
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
        Self { own, ..Self::default() }
    }

    /// The same, which are not rendered again where `remembered` knows that they would break a bound.
    pub fn remembering(self, remembered: Remembered) -> Self {
        Self { remembered, ..self }
    }

    /// Renders a template with what `context` defines, in a process of its own.
    ///
    /// # Errors
    /// Where there is none of that name, where it or one that it includes is faulty or asks for what is not defined, or where it
    /// would take more time, memory or text than a template may.
    pub async fn render(&self, name: &str, context: &impl Serialize) -> Result<String, TemplateError> {
        let request = self.request(name, context)?;
        let digest = digest(&request);
        if let Some(bound) = self.remembered.bound(&digest) {
            return Err(TemplateError::Unbounded { name: name.to_owned(), bound });
        }
        self.refuse_after_others(name)?;
        let rendered = apart::rendered(&request).await;
        if let Err(TemplateError::Unbounded { bound, .. }) = &rendered {
            self.unbounded().insert(name.to_owned(), *bound);
            self.remembered.remember(digest, *bound);
        }
        rendered
    }

    fn unbounded(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Bound>> {
        self.unbounded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What broke a bound would break it again, and many of them would hold up whoever asks for as long as they like.
    fn refuse_after_others(&self, name: &str) -> Result<(), TemplateError> {
        let broken = self.unbounded();
        if let Some(bound) = broken.get(name) {
            return Err(TemplateError::Unbounded { name: name.to_owned(), bound: *bound });
        }
        if broken.len() < MOST_UNBOUNDED {
            return Ok(());
        }
        let others = broken.keys().cloned().collect::<Vec<_>>().join(", ");
        Err(TemplateError::NotTried { name: name.to_owned(), others })
    }

    fn request(&self, name: &str, context: &impl Serialize) -> Result<Request, TemplateError> {
        let all = self.all();
        if !all.contains_key(name) {
            return Err(TemplateError::Missing(name.to_owned()));
        }
        let context = serde_json::to_value(context)
            .map_err(|error| TemplateError::Faulty { name: name.to_owned(), why: error.to_string() })?;
        Ok(Request { name: name.to_owned(), templates: all, context })
    }

    fn all(&self) -> BTreeMap<String, String> {
        let text = |(name, text): (&str, &str)| (name.to_owned(), text.to_owned());
        let own = self.own.iter().map(|(name, text)| (name.clone(), text.clone()));
        let prefixed = BUILT_IN.into_iter().map(|(name, text)| (format!("{PREFIX}{name}"), text.to_owned()));
        BUILT_IN.into_iter().map(text).chain(own).chain(prefixed).collect()
    }
}

/// Of all that a rendering rests on. Objects of JSON are in the order of their keys.
fn digest(request: &Request) -> [u8; 32] {
    let mut digest = Sha256::new();
    let context = request.context.to_string();
    let texts = request.templates.iter().flat_map(|(name, text)| [name, text]);
    for part in [&request.name, &context].into_iter().chain(texts) {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Templates that are rendered in this process.
    struct Here(Templates);

    impl Here {
        fn render(&self, name: &str, context: &impl Serialize) -> Result<String, TemplateError> {
            let request = self.0.request(name, context)?;
            engine::rendered(&request)
                .map_err(|why| TemplateError::Faulty { name: name.to_owned(), why: why.to_string() })
        }
    }

    fn templates(all: &[(&str, &str)]) -> Here {
        let own = all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Here(Templates::of(own))
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
    fn only_what_a_template_needs_is_parsed_with_it() {
        let templates = templates(&[
            ("a.tera", "{% extends \"base.tera\" %}{% block b %}{% include \"part.tera\" %}{% endblock %}"),
            ("base.tera", "<{% block b %}{% endblock %}>"),
            ("part.tera", "{% include \"deeper.tera\" %}"),
            ("deeper.tera", "here"),
            ("broken.tera", "{{ broken"),
            ("lost.tera", "{% include \"broken.tera\" %}"),
            ("nowhere.tera", "{% include \"none.tera\" %}"),
        ]);
        let none = serde_json::json!({});
        assert_eq!(templates.render("a.tera", &none).as_deref(), Ok("<here>"));
        let why = |name| templates.render(name, &none).unwrap_err().to_string();
        assert!(why("lost.tera").contains("broken.tera"), "{}", why("lost.tera"));
        assert!(why("nowhere.tera").contains("none.tera"), "{}", why("nowhere.tera"));
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

    #[test]
    fn after_some_that_took_too_much_no_other_is_tried() {
        let templates = Templates::default();
        let refused = |name: &str| templates.refuse_after_others(name).err();
        for name in ["a", "b"] {
            templates.unbounded().insert(name.to_owned(), Bound::Time);
        }
        let again = TemplateError::Unbounded { name: "a".to_owned(), bound: Bound::Time };
        assert_eq!((refused("a"), refused("c")), (Some(again), None));
        templates.unbounded().insert("d".to_owned(), Bound::Memory);
        assert!(matches!(refused("c"), Some(TemplateError::NotTried { others, .. }) if others == "a, b, d"));
    }
}
