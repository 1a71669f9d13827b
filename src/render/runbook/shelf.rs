//! All runbooks of a fleet as they were at one moment: each document is rendered when it is first asked for, and once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::OnceCell;

use super::{Format, Runbook};
use crate::{
    spec::names::RecoveryName,
    templates::{TemplateError, Templates},
};

/// The most text that lies on a shelf, bytes: each document is bounded by itself, and there may be hundreds of them.
const MOST_TEXT: usize = 64 << 20;

/// The runbooks, with the templates that they are rendered by.
#[derive(Debug)]
pub struct Shelf {
    /// How much more text may be put on it, bytes; nothing, once something was longer than that.
    room: AtomicUsize,
    papers: BTreeMap<String, Paper>,
    names: Vec<RecoveryName>,
    templates: Result<Templates, String>,
}

/// What lies on a shelf.
#[derive(Debug)]
enum Paper {
    Document {
        runbook: Arc<Runbook>,
        format: Format,
        rendered: OnceCell<Result<Arc<str>, String>>,
    },
    File(Arc<str>),
    /// A file that there was no room for.
    LeftOut,
}

impl Shelf {
    /// Puts runbooks on a shelf; `templates` are those of the same revision, or why there are none.
    pub fn of(runbooks: Vec<Runbook>, templates: Result<Templates, String>) -> Self {
        Self::with_room(MOST_TEXT, runbooks, templates)
    }

    fn with_room(room: usize, runbooks: Vec<Runbook>, templates: Result<Templates, String>) -> Self {
        let room = AtomicUsize::new(room);
        let mut papers = BTreeMap::new();
        let mut names = Vec::new();
        for runbook in runbooks.into_iter().map(Arc::new) {
            names.push(runbook.name.clone());
            for (path, content) in runbook.files() {
                let file = match has_room(&room, content) {
                    true => Paper::File(content.into()),
                    false => Paper::LeftOut,
                };
                papers.insert(path.to_owned(), file);
            }
            for format in [Format::Markdown, Format::Html] {
                let path = format!("{}.{}", runbook.name, format.ending());
                let paper = Paper::Document { runbook: runbook.clone(), format, rendered: OnceCell::new() };
                papers.insert(path, paper);
            }
        }
        Self { room, papers, names, templates }
    }

    /// The recoveries that have runbooks here.
    pub fn names(&self) -> &[RecoveryName] {
        &self.names
    }

    /// What lies at a path, such as `site.md` or `site.ssh_config`; `None` where nothing does.
    ///
    /// # Errors
    /// Templates that can't be read, that are faulty, or that would take too much, alone or with all others.
    pub async fn get(&self, path: &str) -> Option<Result<Arc<str>, String>> {
        match self.papers.get(path) {
            Some(paper) => Some(self.read(path, paper).await),
            None => None,
        }
    }

    /// Everything, by its path.
    ///
    /// # Errors
    /// As [`Shelf::get`].
    pub async fn all(&self) -> Result<BTreeMap<String, Arc<str>>, String> {
        let mut all = BTreeMap::new();
        for (path, paper) in &self.papers {
            all.insert(path.clone(), self.read(path, paper).await?);
        }
        Ok(all)
    }

    /// Whether a document can be rendered is found out once; what only kept it from being tried is tried again.
    async fn read(&self, path: &str, paper: &Paper) -> Result<Arc<str>, String> {
        let (runbook, format, rendered) = match paper {
            Paper::File(content) => return Ok(content.clone()),
            Paper::LeftOut => return Err(too_much(path)),
            Paper::Document { runbook, format, rendered } => (runbook, format, rendered),
        };
        let render = || async {
            let templates = match &self.templates {
                Ok(templates) => templates,
                Err(why) => return Ok(Err(why.clone())),
            };
            // What was not rendered must not be, either: each would hold its whole text for a moment.
            if self.room.load(Ordering::Relaxed) == 0 {
                return Ok(Err(too_much(path)));
            }
            match runbook.render(*format, templates).await {
                Err(TemplateError::CouldNotRun { name, why }) => {
                    Err(TemplateError::CouldNotRun { name, why })
                }
                Ok(text) if !has_room(&self.room, &text) => Ok(Err(too_much(path))),
                rendered => Ok(rendered.map(Arc::from).map_err(|error| error.to_string())),
            }
        };
        let rendered = rendered.get_or_try_init(render).await.map_err(|error| error.to_string())?;
        rendered.clone()
    }
}

/// Whether there is room for a text, which is taken then. Where there is not, nothing else has room afterwards either.
fn has_room(room: &AtomicUsize, text: &str) -> bool {
    let left = |room: usize| Some(room.saturating_sub(text.len()));
    let before = room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or(0);
    text.len() <= before
}

fn too_much(path: &str) -> String {
    format!(
        "failed to show {path}: all runbooks together, with their files, are longer than {} MiB; have the templates of runbooks and \
         machines write less, or declare fewer recoveries",
        MOST_TEXT >> 20
    )
}

#[cfg(test)]
mod tests {
    use super::{super::FileLines, *};

    fn runbook(name: &str, files: &[(&str, &str)]) -> Runbook {
        let file = |(path, content): &(&str, &str)| FileLines {
            path: (*path).to_owned(),
            content: (*content).to_owned(),
            fence: String::new(),
        };
        Runbook {
            name: name.parse().unwrap(),
            fleet: String::new(),
            revision: String::new(),
            when: String::new(),
            contacts: Vec::new(),
            rto: None,
            estimate: None,
            last: None,
            command: String::new(),
            resume: String::new(),
            cannot: None,
            infra: "INFRA",
            files: files.iter().map(file).collect(),
            steps: Vec::new(),
            objectives: Vec::new(),
            mermaid: String::new(),
            svg: String::new(),
        }
    }

    #[tokio::test]
    async fn all_that_is_on_a_shelf_is_bounded_together() {
        let runbooks = || {
            let first = runbook("site", &[("site.files/a", "12345"), ("site.files/b", "1234")]);
            vec![first, runbook("other", &[("other.files/a", "1")])]
        };
        let shelf = Shelf::with_room(8, runbooks(), Ok(Templates::default()));
        let get = async |path: &str| shelf.get(path).await.unwrap();
        assert_eq!(get("site.files/a").await.as_deref(), Ok("12345"));
        for refused in ["site.files/b", "other.files/a", "site.md", "other.html"] {
            let why = get(refused).await.unwrap_err();
            assert!(why.contains(refused) && why.contains("64 MiB"), "{why}");
        }
        assert!(shelf.all().await.is_err());
        let roomy = Shelf::of(runbooks(), Ok(Templates::default()));
        assert_eq!(roomy.get("other.files/a").await.unwrap().as_deref(), Ok("1"));
    }

    #[test]
    fn what_is_longer_than_the_room_leaves_none() {
        let room = AtomicUsize::new(8);
        let fits = |text: &str| has_room(&room, text);
        assert_eq!((fits("12345"), fits("123"), fits(""), fits("1")), (true, true, true, false));
        let room = AtomicUsize::new(8);
        let fits = |text: &str| has_room(&room, text);
        assert_eq!((fits("12345"), fits("1234"), fits("1")), (true, false, false));
    }
}
