//! The definition of a domain, as a template rendered it: whether it is the one that it must be.

use std::path::Path;

use xmlparser::{ElementEnd, Token, Tokenizer};

use super::made::unescaped;

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

/// Checks that a stand-in has nothing that another machine could have too: no disk but its own two, no folder, device, firmware's memory or
/// hardware address that the template names, and no network but `network`.
///
/// # Errors
/// What it has, and what to write instead.
pub(super) fn stands_alone(xml: &str, own: &[&Path], network: &str) -> Result<(), String> {
    let no_xml = |error: xmlparser::Error| format!("it is no XML: {error}");
    let mut within = Vec::new();
    for token in Tokenizer::from(xml) {
        match token.map_err(no_xml)? {
            Token::ElementStart { local, .. } => {
                within.push(local.as_str());
                if matches!(local.as_str(), "hostdev" | "filesystem" | "nvram" | "mac" | "shmem" | "lease") {
                    return Err(format!("a stand-in may have no <{local}>: it could be the machine's own"));
                }
            }
            Token::Attribute { local, value, .. } if within.last() == Some(&"source") => {
                let of = within.iter().rev().nth(1).copied().unwrap_or_default();
                let is_own = match of {
                    "disk" => own.iter().any(|path| path.as_os_str() == unescaped(&value).as_str()),
                    "interface" => local.as_str() == "network" && unescaped(&value) == network,
                    _ => continue,
                };
                if !is_own {
                    return Err(format!(
                        "the <{of}> of a stand-in may only be its own: {} is not {}",
                        value.escape_debug(),
                        if of == "disk" {
                            "{{ libvirt.disk }} or {{ libvirt.seed }}"
                        } else {
                            "{{ libvirt.network }}"
                        }
                    ));
                }
            }
            Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => drop(within.pop()),
            _ => {}
        }
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
    fn a_stand_in_has_nothing_that_could_be_the_machine_s() {
        let own = [Path::new("/d/a&b.qcow2"), Path::new("/d/seed.iso")];
        let check = |devices: &str| stands_alone(&domain(devices), &own, "drills");
        let disk =
            |file: &str| format!("<devices><disk type='file'><source file='{file}'/></disk></devices>");
        assert_eq!(check(&disk("/d/a&amp;b.qcow2")), Ok(()));
        assert_eq!(
            check("<devices><interface type='network'><source network='drills'/></interface></devices>"),
            Ok(())
        );
        assert_eq!(check("<devices><serial><source path='/x'/></serial></devices>"), Ok(()));
        for bad in [
            &disk("/d/web-data.qcow2"),
            "<devices><disk type='block'><source dev='/dev/vg/web'/></disk></devices>",
            "<devices><disk type='network'><source protocol='rbd' name='pool/web'/></disk></devices>",
            "<devices><interface type='bridge'><source bridge='br0'/></interface></devices>",
            "<devices><interface type='network'><source network='default'/></interface></devices>",
            "<devices><interface type='network'><mac address='52:54:00:00:00:01'/></interface></devices>",
            "<devices><filesystem type='mount'><source dir='/srv/web'/></filesystem></devices>",
            "<os><nvram>/var/web.fd</nvram></os>",
            "<devices><hostdev/></devices>",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
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
