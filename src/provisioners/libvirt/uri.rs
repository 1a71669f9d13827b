//! Which hypervisor: one of this host, for disks are made here.

use std::fmt;

/// The URI of a hypervisor of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri(String);

impl Uri {
    /// Reads `qemu:///system`, `qemu:///session`, or one of them by a socket of its own:
    /// `qemu+unix:///system?socket=/run/private/libvirt-sock`.
    ///
    /// # Errors
    /// Why it is none of them.
    pub fn parse(uri: &str) -> Result<Self, String> {
        let of_socket = uri.strip_prefix("qemu+unix:///").and_then(|rest| {
            rest.strip_prefix("system?socket=").or_else(|| rest.strip_prefix("session?socket="))
        });
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_' | '.' | '+');
        let local = matches!(uri, "qemu:///system" | "qemu:///session")
            || of_socket.is_some_and(|path| path.starts_with('/') && path.chars().all(plain));
        local.then(|| Self(uri.to_owned())).ok_or_else(|| {
            format!(
                "failed to use the hypervisor `{}`: it must be one of this host, for disks are made here; declare qemu:///system, \
                 qemu:///session or qemu+unix:///system?socket=PATH, and run the controller on the hypervisor's host",
                uri.escape_debug()
            )
        })
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hypervisors_of_this_host_are_taken() {
        for uri in ["qemu:///system", "qemu:///session", "qemu+unix:///system?socket=/tmp/a-b/libvirt-sock"] {
            assert_eq!(Uri::parse(uri).as_ref().map(Uri::as_str), Ok(uri));
        }
        for uri in [
            "",
            "qemu://host/system",
            "qemu+ssh://root@host/system",
            "qemu+ext:///system?command=/bin/evil",
            "qemu+unix:///system?socket=/a&command=/bin/evil",
            "qemu+unix:///system?socket=relative",
            "qemu:///embed?root=/tmp",
            "test:///default",
            "xen:///",
        ] {
            assert!(Uri::parse(uri).is_err(), "{uri}");
        }
    }
}
