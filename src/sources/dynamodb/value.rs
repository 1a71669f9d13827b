//! DynamoDB JSON: values of attributes with their types, as DynamoDB's exports and its command line write them. Maps and sets are
//! written in the order of their keys and members, so that the same item is the same bytes. Pure.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Serialize, Serializer, ser::Error};
use serde_json::{Map, Value};

/// The attributes of one item.
pub(super) type Item = HashMap<String, AttributeValue>;

/// An item that is written.
pub(super) struct WrittenItem<'a>(pub &'a Item);

impl Serialize for WrittenItem<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        attributes(self.0).serialize(serializer)
    }
}

struct Written<'a>(&'a AttributeValue);

fn attributes(of: &HashMap<String, AttributeValue>) -> BTreeMap<&str, Written<'_>> {
    of.iter().map(|(name, value)| (name.as_str(), Written(value))).collect()
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let blob = |blob: &Blob| BASE64_STANDARD.encode(blob.as_ref());
        match self.0 {
            AttributeValue::S(text) => typed(serializer, "S", text),
            AttributeValue::N(number) => typed(serializer, "N", number),
            AttributeValue::B(bytes) => typed(serializer, "B", &blob(bytes)),
            AttributeValue::Bool(truth) => typed(serializer, "BOOL", truth),
            AttributeValue::Null(null) => typed(serializer, "NULL", null),
            AttributeValue::M(map) => typed(serializer, "M", &attributes(map)),
            AttributeValue::L(list) => typed(serializer, "L", &list.iter().map(Written).collect::<Vec<_>>()),
            AttributeValue::Ss(set) => typed(serializer, "SS", &sorted(set.clone())),
            AttributeValue::Ns(set) => typed(serializer, "NS", &sorted(set.clone())),
            AttributeValue::Bs(set) => typed(serializer, "BS", &sorted(set.iter().map(blob).collect())),
            _ => Err(S::Error::custom("an attribute has a type that is not known here")),
        }
    }
}

fn typed<S: Serializer>(
    serializer: S,
    name: &'static str,
    value: &(impl Serialize + ?Sized),
) -> Result<S::Ok, S::Error> {
    serializer.collect_map([(name, value)])
}

fn sorted(mut set: Vec<String>) -> Vec<String> {
    set.sort_unstable();
    set
}

/// Reads an item back; `None` where it is none.
pub(super) fn item(attributes: Map<String, Value>) -> Option<Item> {
    attributes.into_iter().map(|(name, value)| Some((name, read(value)?))).collect()
}

fn read(value: Value) -> Option<AttributeValue> {
    let Value::Object(typed) = value else { return None };
    let mut typed = typed.into_iter();
    let (name, value) = typed.next()?;
    if typed.next().is_some() {
        return None;
    }
    let blob = |text: String| BASE64_STANDARD.decode(text).ok().map(Blob::new);
    Some(match (name.as_str(), value) {
        ("S", Value::String(text)) => AttributeValue::S(text),
        ("N", Value::String(number)) => AttributeValue::N(number),
        ("B", Value::String(bytes)) => AttributeValue::B(blob(bytes)?),
        ("BOOL", Value::Bool(truth)) => AttributeValue::Bool(truth),
        ("NULL", Value::Bool(null)) => AttributeValue::Null(null),
        ("M", Value::Object(map)) => AttributeValue::M(item(map)?),
        ("L", Value::Array(list)) => AttributeValue::L(list.into_iter().map(read).collect::<Option<_>>()?),
        ("SS", Value::Array(set)) => AttributeValue::Ss(texts(set)?),
        ("NS", Value::Array(set)) => AttributeValue::Ns(texts(set)?),
        ("BS", Value::Array(set)) => {
            AttributeValue::Bs(texts(set)?.into_iter().map(blob).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn texts(set: Vec<Value>) -> Option<Vec<String>> {
    let text = |value| if let Value::String(text) = value { Some(text) } else { None };
    set.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> AttributeValue {
        AttributeValue::S(text.to_owned())
    }

    #[test]
    fn an_item_is_written_as_dynamodb_exports_it_and_comes_back() {
        let nested =
            HashMap::from([("z".to_owned(), text("")), ("a".to_owned(), AttributeValue::Null(true))]);
        let of: Item = HashMap::from([
            ("id".to_owned(), text("tõõ \"1\"\n")),
            ("n".to_owned(), AttributeValue::N("12345678901234567890123456789012345678".to_owned())),
            ("b".to_owned(), AttributeValue::B(Blob::new([0, 255]))),
            ("t".to_owned(), AttributeValue::Bool(false)),
            ("m".to_owned(), AttributeValue::M(nested)),
            ("l".to_owned(), AttributeValue::L(vec![text("x"), AttributeValue::L(Vec::new())])),
            ("ss".to_owned(), AttributeValue::Ss(vec!["a".to_owned(), "b".to_owned()])),
            ("ns".to_owned(), AttributeValue::Ns(vec!["-1".to_owned(), "1E+5".to_owned()])),
            ("bs".to_owned(), AttributeValue::Bs(vec![Blob::new([1]), Blob::new([2])])),
        ]);
        let written = serde_json::to_string(&WrittenItem(&of)).unwrap();
        assert_eq!(
            written,
            r#"{"b":{"B":"AP8="},"bs":{"BS":["AQ==","Ag=="]},"id":{"S":"tõõ \"1\"\n"},"l":{"L":[{"S":"x"},{"L":[]}]},"#
                .to_owned()
                + r#""m":{"M":{"a":{"NULL":true},"z":{"S":""}}},"n":{"N":"12345678901234567890123456789012345678"},"#
                + r#""ns":{"NS":["-1","1E+5"]},"ss":{"SS":["a","b"]},"t":{"BOOL":false}}"#
        );
        assert_eq!(item(serde_json::from_str(&written).unwrap()), Some(of));
    }

    #[test]
    fn the_order_of_a_set_changes_no_bytes() {
        let set = |members: [&str; 2]| AttributeValue::Ss(members.map(str::to_owned).to_vec());
        let written = |value| serde_json::to_string(&Written(&value)).unwrap();
        assert_eq!(written(set(["a", "b"])), written(set(["b", "a"])));
    }

    #[test]
    fn what_is_no_item_is_refused() {
        for wrong in [
            r#"{"a":1}"#,
            r#"{"a":{"S":1}}"#,
            r#"{"a":{"N":1}}"#,
            r#"{"a":{"B":"?"}}"#,
            r#"{"a":{"S":"x","N":"1"}}"#,
            r#"{"a":{}}"#,
            r#"{"a":{"X":"x"}}"#,
            r#"{"a":{"L":[{"S":1}]}}"#,
            r#"{"a":{"NS":[1]}}"#,
        ] {
            assert_eq!(item(serde_json::from_str(wrong).unwrap()), None, "{wrong}");
        }
    }
}
