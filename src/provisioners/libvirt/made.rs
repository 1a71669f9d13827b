//! What Backstay writes into the metadata of a domain that it makes: whose it is, and what it was made from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    provisioners::ProvisionError,
    spec::{
        Libvirt, Vm,
        names::{FleetName, VmName},
    },
    templates::{
        Templates,
        machines::{Context, DOMAIN, escaped},
    },
};

/// The namespace of the element in `<metadata>`.
pub(super) const NAMESPACE: &str = "urn:backstay:machine:1";

/// A machine as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Made {
    pub(super) fleet: FleetName,
    pub(super) vm: VmName,
    /// The machine that it stands in for, where a drill made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) stands_for: Option<VmName>,
    /// The controller whose drill made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) controller: Option<String>,
    /// The public half of the key that the machine proves itself with.
    pub(super) host_key: String,
    pub(super) image: PathBuf,
    /// The declared size of the disk.
    pub(super) disk: Option<u64>,
    /// SHA-256 of what the templates rendered to, but for what is told by itself here.
    pub(super) templates: String,
}

impl Made {
    /// The element for `<metadata>`.
    pub(super) fn element(&self) -> Result<String, ProvisionError> {
        let json = serde_json::to_string(self);
        let json =
            json.map_err(|error| ProvisionError::stalled(format!("failed to describe a machine: {error}")))?;
        Ok(format!("<backstay:machine xmlns:backstay='{NAMESPACE}'>{}</backstay:machine>", escaped(&json)))
    }

    /// Reads it from the element, as `virsh metadata` prints it; `None` for what Backstay did not write.
    pub(super) fn read(element: &str) -> Option<Self> {
        let (_, rest) = element.split_once('>')?;
        let (text, _) = rest.split_once("</")?;
        serde_json::from_str(&unescaped(text)).ok()
    }

    /// How it differs from what would be made now.
    pub(super) fn differs(&self, now: &Made) -> Vec<String> {
        let mut drift = Vec::new();
        if self.image != now.image {
            let (was, is) = (self.image.display(), now.image.display());
            drift.push(format!("it was made from the image {was}, and {is} is declared"));
        }
        if self.disk != now.disk {
            let size = |disk: Option<u64>| {
                disk.map_or("the image's size".to_owned(), |bytes| format!("{bytes} bytes"))
            };
            drift.push(format!(
                "its disk was made with {}, and {} is declared",
                size(self.disk),
                size(now.disk)
            ));
        }
        if self.templates != now.templates {
            drift.push("its templates, their variables or its ssh render to something else now".to_owned());
        }
        drift
    }
}

/// The digest of what the templates of a machine render to, whatever keys it is made with, and of what size it is.
pub(super) async fn digest(
    fleet: &FleetName,
    vm: &Vm,
    libvirt: &Libvirt,
    public_key: &str,
    templates: &Templates,
) -> Result<String, ProvisionError> {
    let sizeless =
        Libvirt { memory: 1 << 30, cpus: 1, image: "/image".into(), disk: None, ..libvirt.clone() };
    let context = Context::declared(fleet, vm, &sizeless, public_key);
    let mut digest = Sha256::new();
    for name in [vm.template.as_str(), DOMAIN] {
        let rendered = templates
            .render(name, &context)
            .await
            .map_err(|error| ProvisionError::stalled(error.to_string()))?;
        digest.update((rendered.len() as u64).to_be_bytes());
        digest.update(rendered.as_bytes());
    }
    Ok(hex::encode(digest.finalize()))
}

/// The text that stands in XML.
pub(super) fn unescaped(text: &str) -> String {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
    plain.replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Made {
        Made {
            fleet: "pavroto".parse().unwrap(),
            vm: "web".parse().unwrap(),
            stands_for: None,
            controller: None,
            host_key: "ssh-ed25519 AAAA".into(),
            image: "/srv/<a> & 'b' &lt;.qcow2".into(),
            disk: None,
            templates: "00".into(),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let element = made().element().unwrap();
        // As libxml2 writes the same text.
        let printed = element.replace("&quot;", "\"").replace("&apos;", "'");
        assert_eq!((Made::read(&element), Made::read(&printed)), (Some(made()), Some(made())));
        for foreign in ["", "<a/>", "<a>{}</a>", "<a>text</a>"] {
            assert_eq!(Made::read(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn each_difference_is_told_once() {
        assert_eq!(made().differs(&made()), Vec::<String>::new());
        let other = Made { image: "/other".into(), disk: Some(1), templates: "11".into(), ..made() };
        assert_eq!(made().differs(&other).len(), 3);
    }
}
