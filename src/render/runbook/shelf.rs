//! All runbooks of a fleet as they were at one moment: each document is rendered when it is first asked for, and once.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::OnceCell;

use super::{Format, Runbook};
use crate::{
    spec::names::RecoveryName,
    templates::{TemplateError, Templates},
};

/// The runbooks, with the templates that they are rendered by.
#[derive(Debug)]
pub struct Shelf {
    papers: BTreeMap<String, Paper>,
    names: Vec<RecoveryName>,
    templates: Result<Templates, String>,
}

/// What lies on a shelf.
#[derive(Debug)]
enum Paper {
    Document { runbook: Arc<Runbook>, format: Format, rendered: OnceCell<Result<String, String>> },
    File(String),
}

impl Shelf {
    /// Puts runbooks on a shelf; `templates` are those of the same revision, or why there are none.
    pub fn of(runbooks: Vec<Runbook>, templates: Result<Templates, String>) -> Self {
        let mut papers = BTreeMap::new();
        let mut names = Vec::new();
        for runbook in runbooks.into_iter().map(Arc::new) {
            names.push(runbook.name.clone());
            for (path, content) in runbook.files() {
                papers.insert(path.to_owned(), Paper::File(content.to_owned()));
            }
            for format in [Format::Markdown, Format::Html] {
                let path = format!("{}.{}", runbook.name, format.ending());
                let paper = Paper::Document { runbook: runbook.clone(), format, rendered: OnceCell::new() };
                papers.insert(path, paper);
            }
        }
        Self { papers, names, templates }
    }

    /// The recoveries that have runbooks here.
    pub fn names(&self) -> &[RecoveryName] {
        &self.names
    }

    /// What lies at a path, such as `site.md` or `site.ssh_config`; `None` where nothing does.
    ///
    /// # Errors
    /// Templates that can't be read, that are faulty, or that would take too much.
    pub async fn get(&self, path: &str) -> Option<Result<&str, String>> {
        match self.papers.get(path) {
            Some(paper) => Some(self.read(paper).await),
            None => None,
        }
    }

    /// Everything, by its path.
    ///
    /// # Errors
    /// As [`Shelf::get`].
    pub async fn all(&self) -> Result<BTreeMap<String, String>, String> {
        let mut all = BTreeMap::new();
        for (path, paper) in &self.papers {
            all.insert(path.clone(), self.read(paper).await?.to_owned());
        }
        Ok(all)
    }

    /// Whether a document can be rendered is found out once; what only kept it from being tried is tried again.
    async fn read<'a>(&'a self, paper: &'a Paper) -> Result<&'a str, String> {
        let (runbook, format, rendered) = match paper {
            Paper::File(content) => return Ok(content),
            Paper::Document { runbook, format, rendered } => (runbook, format, rendered),
        };
        let render = || async {
            let templates = match &self.templates {
                Ok(templates) => templates,
                Err(why) => return Ok(Err(why.clone())),
            };
            match runbook.render(*format, templates).await {
                Err(TemplateError::CouldNotRun { name, why }) => {
                    Err(TemplateError::CouldNotRun { name, why })
                }
                rendered => Ok(rendered.map_err(|error| error.to_string())),
            }
        };
        let rendered = rendered.get_or_try_init(render).await.map_err(|error| error.to_string())?;
        rendered.as_ref().map(String::as_str).map_err(Clone::clone)
    }
}
