//! The definition of a domain, as a template rendered it: whether it is the one that it must be.

use xmlparser::{ElementEnd, Token, Tokenizer};

/// Checks that a definition names `name`, holds `metadata`, and no identity of its own, by which it could take another's place.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(xml: &str, name: &str, metadata: &str) -> Result<(), String> {
    let found = children(xml).map_err(|error| format!("it is no XML: {error}"))?;
    let named: Vec<&str> =
        found.iter().filter(|(tag, _)| *tag == "name").map(|(_, text)| text.trim()).collect();
    if named != [name] {
        return Err(format!("its <name> is not `{name}`; write {{{{ domain.name | xml }}}} there"));
    }
    if found.iter().any(|(tag, _)| *tag == "uuid") {
        return Err("it has a <uuid>; leave it out, so that it takes no other domain's place".to_owned());
    }
    if !xml.contains(metadata) {
        return Err(
            "it lacks {{ domain.metadata }} in <metadata>, by which Backstay knows its own".to_owned()
        );
    }
    Ok(())
}

/// The elements right below the root, with the text that each begins with.
fn children(xml: &str) -> Result<Vec<(&str, &str)>, xmlparser::Error> {
    let (mut depth, mut found) = (0_usize, Vec::new());
    for token in Tokenizer::from(xml) {
        match token? {
            Token::ElementStart { local, .. } => {
                depth += 1;
                if depth == 2 {
                    found.push((local.as_str(), ""));
                }
            }
            Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => {
                depth = depth.saturating_sub(1);
            }
            Token::Text { text } | Token::Cdata { text, .. } if depth == 2 => {
                if let Some((_, known)) = found.last_mut().filter(|(_, known)| known.trim().is_empty()) {
                    *known = text.as_str();
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "<b:machine xmlns:b='u'>{}</b:machine>";

    fn domain(inner: &str) -> String {
        format!("<?xml version='1.0'?>\n<!-- <name>x</name> -->\n<domain type='kvm'>{inner}</domain>")
    }

    #[test]
    fn a_domain_has_its_own_name_and_the_metadata() {
        let good = domain(&format!(
            "<name>web</name><metadata>{METADATA}</metadata><devices><name>x</name></devices>"
        ));
        assert_eq!(check(&good, "web", METADATA), Ok(()));
        for (bad, why) in [
            (format!("<name>other</name><metadata>{METADATA}</metadata>"), "<name>"),
            (format!("<name>web</name><name>other</name><metadata>{METADATA}</metadata>"), "<name>"),
            (format!("<!--<name>web</name>--><name>o</name><metadata>{METADATA}</metadata>"), "<name>"),
            (format!("<name>web</name><uuid>1</uuid><metadata>{METADATA}</metadata>"), "<uuid>"),
            ("<name>web</name>".to_owned(), "metadata"),
            ("<name>web</name".to_owned(), "no XML"),
        ] {
            let error = check(&domain(&bad), "web", METADATA).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
