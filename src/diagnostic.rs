//! What is wrong with a declaration, and where: data, rendered elsewhere.

use std::ops::Range;

use serde::Serialize;

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing once; nothing has to be done.
    Note,
    /// Worth mending; the revision comes into force.
    Warning,
    /// The revision can't come into force.
    Error,
}

/// A place in one file of a revision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Location {
    /// Path inside the declaration's folder, `/` between its parts.
    pub file: String,
    /// Byte offsets into the file's text.
    pub span: Range<usize>,
}

/// A further place that explains a [`Diagnostic`], such as the first of two definitions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Related {
    /// Where it is.
    pub location: Location,
    /// What is to be seen there.
    pub message: String,
}

/// One fault or warning of a declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the revision may come into force all the same.
    pub severity: Severity,
    /// Stable kebab-case code, such as `unknown-key`.
    pub code: &'static str,
    /// What is wrong, lower case, naming the resource.
    pub message: String,
    /// Where; `None` when the fault is that something is missing altogether.
    pub location: Option<Location>,
    /// Further places.
    pub related: Vec<Related>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A fault that keeps the revision out of force.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// Something worth mending.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    /// Something worth knowing, about which nothing has to be done.
    pub fn note(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message.into())
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        Self { severity, code, message, location: None, related: Vec::new(), hint: None }
    }

    /// Sets the place.
    pub fn at(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds a further place.
    pub fn see(mut self, location: Location, message: impl Into<String>) -> Self {
        self.related.push(Related { location, message: message.into() });
        self
    }

    /// Sets what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
