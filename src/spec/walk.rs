//! A value against its schema: every fault, each at its place. What is faulty is left out, so that the rest can be
//! read and checked further.
//!
//! Understands what [`super::schema::schema_of`] makes of our own types: `type`, `properties`, `required`,
//! `additionalProperties`, `propertyNames`, `items`, `minItems`, `minimum`, `maximum`, `format`, `oneOf` as a choice of
//! words or of keys, and `anyOf` as a choice by type.

use std::ops::Range;

use serde_json::Value as Schema;
use toml::de::{DeArray, DeValue};

use super::{
    document::{Table, Value},
    places::{Path, Places},
    suggest::{closest, listed, shown},
    values::{self, Format},
};
use crate::diagnostic::{Diagnostic, Location};

/// A walk through one file.
pub struct Walk<'a> {
    /// The file.
    pub file: &'a str,
    /// Is told where each key stands.
    pub places: &'a mut Places,
    /// Is told every fault.
    pub diagnostics: &'a mut Vec<Diagnostic>,
}

impl Walk<'_> {
    /// What is sound of `value`; `None` when nothing is.
    pub fn value<'i>(&mut self, path: &mut Path, schema: &Schema, value: Value<'i>) -> Option<Value<'i>> {
        let span = value.span();
        self.places.note(path, self.file, span.clone());
        if schema["anyOf"].is_array() {
            // Of a value in one of several forms nothing is left when a part of it is missing.
            let before = self.diagnostics.len();
            let sound = self.value(path, branch(schema, value.get_ref()), value);
            return sound.filter(|_| self.diagnostics.len() == before);
        }
        if is_secret(schema) && !value.get_ref().is_table() {
            self.literal_secret(path, span);
            return None;
        }
        match schema["type"].as_str() {
            Some("object") => self.object(path, schema, value),
            Some("array") => self.array(path, schema, value),
            Some("string") => self.string(path, schema, &value).then_some(value),
            Some("integer") => self.integer(path, schema, &value).then_some(value),
            Some("number") => self.number(path, schema, &value).then_some(value),
            Some(_) => self.expect(path, schema, &value, value.get_ref().is_bool()).then_some(value),
            None if schema["oneOf"].is_array() => self.word(path, schema, &value).then_some(value),
            None => Some(value),
        }
    }

    fn object<'i>(&mut self, path: &mut Path, schema: &Schema, mut value: Value<'i>) -> Option<Value<'i>> {
        if !self.expect(path, schema, &value, value.get_ref().is_table()) {
            return None;
        }
        let span = value.span();
        let DeValue::Table(table) = value.get_mut() else { return None };
        self.missing(path, schema, table, &span);
        *table = self.table(path, schema, std::mem::take(table));
        Some(value)
    }

    fn table<'i>(&mut self, path: &mut Path, schema: &Schema, table: Table<'i>) -> Table<'i> {
        let mut sound = Table::new();
        for (key, value) in table {
            let name = key.get_ref().to_string();
            path.push(name.clone());
            let kept = match (&schema["properties"][&name], &schema["additionalProperties"]) {
                (Schema::Null, Schema::Object(_)) => {
                    let named = self.name(path, schema, &name, key.span());
                    let value = self.value(path, &schema["additionalProperties"], value);
                    value.filter(|_| named)
                }
                (Schema::Null, Schema::Bool(true)) => Some(value),
                (Schema::Null, _) => {
                    self.unknown_key(path, schema, &name, key.span(), &value);
                    None
                }
                (known, _) => self.value(path, known, value),
            };
            path.pop();
            if let Some(value) = kept {
                sound.insert(key, value);
            }
        }
        sound
    }

    fn array<'i>(&mut self, path: &mut Path, schema: &Schema, mut value: Value<'i>) -> Option<Value<'i>> {
        if !self.expect(path, schema, &value, value.get_ref().is_array()) {
            return None;
        }
        let span = value.span();
        let DeValue::Array(array) = value.get_mut() else { return None };
        let items = std::mem::replace(array, DeArray::new());
        if schema["minItems"].as_u64().is_some_and(|least| (items.len() as u64) < least) {
            let message = format!("`{}` is empty: it needs at least one item", show(path));
            self.error("empty-list", message, span);
            return None;
        }
        for (number, item) in items.into_iter().enumerate() {
            path.push(number.to_string());
            if let Some(item) = self.value(path, &schema["items"], item) {
                array.push(item);
            }
            path.pop();
        }
        Some(value)
    }

    fn string(&mut self, path: &Path, schema: &Schema, value: &Value) -> bool {
        let Some(text) = value.get_ref().as_str() else {
            return self.expect(path, schema, value, false);
        };
        let invalid = match format_of(schema) {
            Some(format) => (format.check)(text).err().map(|invalid| (invalid, format)),
            None if text.contains(|c: char| c.is_control() && c != '\n') => {
                let message = format!("`{}` holds control characters", show(path));
                self.error("invalid-value", message, value.span());
                return false;
            }
            None => None,
        };
        let Some((invalid, format)) = invalid else { return true };
        let message = match invalid.code {
            "literal-secret" => format!("`{}` holds a secret: {}", show(path), invalid.reason),
            _ => format!("`{}` is not {}: {}", show(path), format.noun, invalid.reason),
        };
        self.error(invalid.code, message, value.span());
        false
    }

    fn integer(&mut self, path: &Path, schema: &Schema, value: &Value) -> bool {
        let number =
            value.get_ref().as_integer().and_then(|n| i64::from_str_radix(n.as_str(), n.radix()).ok());
        match number {
            Some(number) => self.range(path, schema, number as f64, value.span()),
            None => self.expect(path, schema, value, false),
        }
    }

    fn number(&mut self, path: &Path, schema: &Schema, value: &Value) -> bool {
        let number = match value.get_ref() {
            DeValue::Float(float) => float.as_str().replace('_', "").parse::<f64>().ok(),
            DeValue::Integer(n) => i64::from_str_radix(n.as_str(), n.radix()).ok().map(|n| n as f64),
            _ => None,
        };
        match number.filter(|number| number.is_finite()) {
            Some(number) => self.range(path, schema, number, value.span()),
            None => self.expect(path, schema, value, false),
        }
    }

    fn range(&mut self, path: &Path, schema: &Schema, number: f64, span: Range<usize>) -> bool {
        let bound = |key: &str| schema[key].as_f64();
        let widest = match schema["format"].as_str() {
            Some("uint16") => f64::from(u16::MAX),
            Some("uint32") => f64::from(u32::MAX),
            _ => f64::MAX,
        };
        let (least, most) = (bound("minimum").unwrap_or(f64::MIN), bound("maximum").unwrap_or(widest));
        if (least..=most).contains(&number) {
            return true;
        }
        let limits = match (least, most) {
            (_, most) if number > most => format!("at most {most}"),
            (least, _) => format!("at least {least}"),
        };
        self.error("invalid-value", format!("`{}` must be {limits}", show(path)), span);
        false
    }

    /// One of a few words.
    fn word(&mut self, path: &Path, schema: &Schema, value: &Value) -> bool {
        let words = || choices(schema).filter_map(|choice| choice["const"].as_str());
        let given = value.get_ref().as_str();
        if given.is_some_and(|given| words().any(|word| word == given)) {
            return true;
        }
        let message = format!("`{}` must be {}", show(path), listed(words(), "or"));
        let diagnostic = self.diagnostic("invalid-value", message, value.span());
        let diagnostic = match given.and_then(|given| closest(given, words())) {
            Some(word) => diagnostic.hint(format!("did you mean `{word}`?")),
            None => diagnostic,
        };
        self.diagnostics.push(diagnostic);
        false
    }

    /// The name of a resource or of something that is listed by name.
    fn name(&mut self, path: &Path, schema: &Schema, name: &str, span: Range<usize>) -> bool {
        let Some(Err(invalid)) = format_of(&schema["propertyNames"]).map(|format| (format.check)(name))
        else {
            return true;
        };
        let message = format!("`{}` is not a name: {}", shown(name), invalid.reason);
        let table = show(&path[..path.len() - 1]);
        let diagnostic = self.diagnostic(invalid.code, message, span).hint(format!("rename it in `{table}`"));
        self.diagnostics.push(diagnostic);
        false
    }

    fn unknown_key(&mut self, path: &Path, schema: &Schema, name: &str, span: Range<usize>, value: &Value) {
        let known =
            || schema["properties"].as_object().into_iter().flat_map(|keys| keys.keys().map(String::as_str));
        let message = format!("unknown key `{}` in {}", shown(name), bracketed(&path[..path.len() - 1]));
        let diagnostic = self.diagnostic("unknown-key", message, span);
        let meant = closest(name, known());
        self.diagnostics.push(match meant {
            Some(word) => diagnostic.hint(format!("did you mean `{word}`?")),
            None => diagnostic.hint(format!("known here: {}", listed(known(), "and"))),
        });
        let secret = meant.is_some_and(|word| is_secret(&schema["properties"][word]));
        if secret && !value.get_ref().is_table() {
            self.literal_secret(path, value.span());
        }
    }

    /// Keys that must be there, and choices of which exactly one must be.
    fn missing(&mut self, path: &Path, schema: &Schema, table: &Table, span: &Range<usize>) {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Schema::as_str);
        for key in required.filter(|key| !table.contains_key(*key)) {
            let about = schema["properties"][key]["description"].as_str().unwrap_or_default();
            let message = format!("{} needs `{key}`", bracketed(path));
            let diagnostic = self.diagnostic("missing-key", message, span.clone());
            self.diagnostics.push(match about {
                "" => diagnostic,
                about => diagnostic.hint(format!("`{key}`: {}", about.replace('\n', " "))),
            });
        }
        let alternatives: Vec<&str> =
            choices(schema).filter_map(|choice| choice["required"][0].as_str()).collect();
        let given: Vec<&str> = alternatives.iter().copied().filter(|key| table.contains_key(*key)).collect();
        let message = match (alternatives.as_slice(), given.as_slice()) {
            ([], _) | (_, [_]) => return,
            (all, []) => format!("{} needs one of {}", bracketed(path), listed(all.iter().copied(), "and")),
            (_, many) => {
                format!("{} takes only one of {}", bracketed(path), listed(many.iter().copied(), "and"))
            }
        };
        self.error("choose-one", message, span.clone());
    }

    fn literal_secret(&mut self, path: &Path, span: Range<usize>) {
        let message = format!("`{}` holds a secret in clear text", show(path));
        let diagnostic = self.diagnostic("literal-secret", message, span).hint(
            "change the secret, for Git keeps this one, and refer to it: { file = \"/etc/backstay/secrets/NAME\" }, \
             { env = \"NAME\" }, { command = [\"PROGRAM\"] } or { age = \"…\" }",
        );
        self.diagnostics.push(diagnostic);
    }

    fn expect(&mut self, path: &Path, schema: &Schema, value: &Value, holds: bool) -> bool {
        if !holds {
            let message =
                format!("`{}` must be {}, not {}", show(path), expected(schema), kind(value.get_ref()));
            self.error("wrong-type", message, value.span());
        }
        holds
    }

    fn error(&mut self, code: &'static str, message: String, span: Range<usize>) {
        let diagnostic = self.diagnostic(code, message, span);
        self.diagnostics.push(diagnostic);
    }

    fn diagnostic(&self, code: &'static str, message: String, span: Range<usize>) -> Diagnostic {
        Diagnostic::error(code, message).at(Location { file: self.file.to_owned(), span })
    }
}

/// Of several forms the one that fits the value's type.
fn branch<'s>(schema: &'s Schema, value: &DeValue) -> &'s Schema {
    let wanted = if value.is_table() { "object" } else { "string" };
    let mut branches = schema["anyOf"].as_array().into_iter().flatten();
    branches.find(|branch| branch["type"] == wanted).unwrap_or(&Schema::Null)
}

fn choices(schema: &Schema) -> impl Iterator<Item = &Schema> {
    schema["oneOf"].as_array().into_iter().flatten()
}

fn format_of(schema: &Schema) -> Option<&'static Format> {
    schema["format"].as_str().and_then(values::format)
}

fn is_secret(schema: &Schema) -> bool {
    schema["format"] == "secret-reference"
}

fn expected(schema: &Schema) -> String {
    match (format_of(schema), schema["type"].as_str()) {
        (Some(format), _) => format!("{} such as \"{}\"", format.noun, format.example),
        (None, Some("object")) => "a table".to_owned(),
        (None, Some("array")) => "a list".to_owned(),
        (None, Some("integer")) => "a whole number".to_owned(),
        (None, Some("number")) => "a number".to_owned(),
        (None, Some("boolean")) => "true or false".to_owned(),
        (None, _) => "a text".to_owned(),
    }
}

fn kind(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A path as a person writes it: `recovery.site.steps[0].after`.
pub fn show(path: &[String]) -> String {
    let mut text = String::new();
    for (depth, key) in path.iter().enumerate() {
        // Items of lists are told by number only below a resource: a resource itself may be called `1`.
        if depth > 1 && key.bytes().all(|b| b.is_ascii_digit()) {
            text.push_str(&format!("[{key}]"));
        } else {
            text.push_str(if depth == 0 { "" } else { "." });
            text.push_str(&shown(key));
        }
    }
    text
}

fn bracketed(path: &[String]) -> String {
    match path {
        [] => "the file".to_owned(),
        path => format!("[{}]", show(path)),
    }
}
