//! A TOML file that stands alone, such as the controller's configuration, read as thoroughly as a declaration.

use serde::de::DeserializeOwned;
use serde_json::Value as Schema;
use toml::{
    Spanned,
    de::{DeValue, ValueDeserializer},
};

use super::{
    document,
    places::{Places, path},
    suggest::shown,
    walk::Walk,
};
use crate::diagnostic::{Diagnostic, Location};

/// What is sound of a file, and what is wrong with it.
pub struct Single<T> {
    /// What is sound of it.
    pub mirror: T,
    diagnostics: Vec<Diagnostic>,
    places: Places,
}

impl<T: DeserializeOwned + Default> Single<T> {
    /// Reads `content` against the schema of its mirror.
    pub fn read(file: &str, content: &[u8], schema: &Schema) -> Self {
        let mut single = Self { mirror: T::default(), diagnostics: Vec::new(), places: Places::default() };
        let Some(document) = document::read(file, content, &mut single.diagnostics) else { return single };
        let faults_of_syntax = single.diagnostics.len();
        let mut walk = Walk { file, places: &mut single.places, diagnostics: &mut single.diagnostics };
        let whole = Spanned::new(0..0, DeValue::Table(document.table));
        let sound = walk.value(&mut Vec::new(), schema, whole);
        if faults_of_syntax > 0 {
            // What is missing may only be unreadable.
            let mut number = 0;
            single.diagnostics.retain(|found| {
                number += 1;
                number <= faults_of_syntax || !matches!(found.code, "missing-key" | "choose-one")
            });
        }
        match sound.map(|value| T::deserialize(ValueDeserializer::from(value))) {
            Some(Ok(mirror)) => single.mirror = mirror,
            Some(Err(error)) => {
                single.diagnostics.push(Diagnostic::error("invalid-value", shown(error.message())));
            }
            None => {}
        }
        single
    }
}

impl<T> Single<T> {
    /// Adds a fault of the value at `keys`.
    pub fn error<const N: usize>(&mut self, keys: [&str; N], message: String, hint: impl Into<String>) {
        let diagnostic = Diagnostic::error("invalid-value", message).hint(hint);
        self.diagnostics.push(match self.places.find(&path(keys)) {
            Some(place) => diagnostic.at(place.clone()),
            None => diagnostic,
        });
    }

    /// Where the value at `keys` stands, or the nearest table around it.
    pub fn place<const N: usize>(&self, keys: [&str; N]) -> Option<Location> {
        self.places.find(&path(keys)).cloned()
    }

    /// Everything that is wrong with the file, in the order of places.
    pub fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(|found| found.location.as_ref().map(|place| place.span.start));
        self.diagnostics
    }
}
