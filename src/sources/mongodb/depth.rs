//! Documents that nest no deeper than servers let them: what is decoded is decoded by recursion, and a deeper one would exhaust the
//! stack.

use std::fmt::{self, Display};

use bson::{Document, RawBsonRef, RawDocument};

/// The levels that a document may have, itself included: those that servers allow what they send to each other (MongoDB's
/// `src/mongo/bson/bson_depth.h`).
const DEEPEST: usize = 200;

/// Why a document can't be decoded.
#[derive(Debug)]
pub(super) enum Undecodable {
    TooDeep,
    Malformed(bson::error::Error),
}

impl Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undecodable::TooDeep => write!(f, "a document of more than {DEEPEST} levels"),
            Undecodable::Malformed(why) => why.fmt(f),
        }
    }
}

/// Decodes a document.
pub(super) fn decoded(raw: &RawDocument) -> Result<Document, Undecodable> {
    must_be_shallow(raw)?;
    Document::try_from(raw).map_err(Undecodable::Malformed)
}

/// Refuses a document of too many levels, or of which a part is none.
pub(super) fn must_be_shallow(raw: &RawDocument) -> Result<(), Undecodable> {
    let mut levels = vec![raw.iter()];
    while let Some(level) = levels.last_mut() {
        let inner = match level.next().transpose().map_err(Undecodable::Malformed)? {
            None => {
                levels.pop();
                continue;
            }
            Some((_, RawBsonRef::Document(inner))) => inner,
            Some((_, RawBsonRef::Array(inner))) => {
                RawDocument::from_bytes(inner.as_bytes()).map_err(Undecodable::Malformed)?
            }
            Some((_, RawBsonRef::JavaScriptCodeWithScope(code))) => code.scope,
            Some(_) => continue,
        };
        if levels.len() == DEEPEST {
            return Err(Undecodable::TooDeep);
        }
        levels.push(inner.iter());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bson::{Bson, JavaScriptCodeWithScope, RawDocumentBuf, doc};

    use super::*;

    /// A document of so many levels, by hand: the library's own way there is a recursion.
    fn nested(levels: usize) -> RawDocumentBuf {
        let mut bytes = Vec::new();
        for within in (1..levels).rev() {
            let length = u32::try_from(5 + 8 * within).unwrap();
            bytes.extend([&length.to_le_bytes()[..], b"\x03a\0"].concat());
        }
        bytes.extend([5, 0, 0, 0]);
        bytes.extend(vec![0; levels]);
        RawDocumentBuf::from_bytes(bytes).unwrap()
    }

    #[test]
    fn as_many_levels_as_servers_allow_are_decoded_and_more_are_refused() {
        for levels in [1, 2, 180, DEEPEST] {
            let mut document = decoded(&nested(levels)).unwrap();
            for _ in 1..levels {
                let Some(Bson::Document(inner)) = document.remove("a") else { panic!("{levels}") };
                document = inner;
            }
            assert!(document.is_empty());
        }
        for levels in [DEEPEST + 1, 100_000, 2_000_000] {
            assert!(matches!(decoded(&nested(levels)), Err(Undecodable::TooDeep)), "{levels}");
        }
    }

    #[test]
    fn arrays_and_scopes_are_levels_as_well() {
        let mut value = Bson::Document(Document::new());
        for level in 0..199 {
            value = match level % 3 {
                0 => Bson::Array(vec![1.into(), value]),
                1 => Bson::Document(doc! { "x": value }),
                _ => Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope {
                    code: "f".to_owned(),
                    scope: doc! { "y": value },
                }),
            };
        }
        let raw = |value: &Bson| RawDocumentBuf::try_from(&doc! { "z": value }).unwrap();
        let inner = match &value {
            Bson::Array(values) => values[1].clone(),
            _ => panic!("the last level is an array"),
        };
        assert!(must_be_shallow(&raw(&inner)).is_ok());
        assert!(matches!(must_be_shallow(&raw(&value)), Err(Undecodable::TooDeep)));
    }

    #[test]
    fn what_is_no_document_inside_is_refused() {
        let mut bytes = nested(3).as_bytes().to_vec();
        bytes[7] = 0xff;
        assert!(RawDocumentBuf::from_bytes(bytes).is_ok_and(|raw| must_be_shallow(&raw).is_err()));
    }
}
