//! The `virsh` program, a call at a time.

use std::{fs::File, io, path::Path, time::Duration};

use super::{made::NAMESPACE, uri::Uri};
use crate::{
    process::{self, Files, ProcessError, Program},
    provisioners::ProvisionError,
};

/// The longest that one call may take.
const LONGEST: Duration = Duration::from_secs(120);

/// The most that one call may print, bytes.
const MOST: usize = 4 << 20;

/// A hypervisor.
#[derive(Clone, Debug)]
pub(super) struct Virsh {
    uri: Uri,
}

/// A domain, by what no name can be mistaken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Uuid(String);

impl Virsh {
    pub(super) fn new(uri: Uri) -> Self {
        Self { uri }
    }

    /// The domain of this name; `None` only where the hypervisor lists all that it has without it.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Uuid>, ProvisionError> {
        let domains = self.domains().await?;
        Ok(domains.into_iter().find(|(_, known)| known == name).map(|(uuid, _)| uuid))
    }

    /// All domains with their names.
    pub(super) async fn domains(&self) -> Result<Vec<(Uuid, String)>, ProvisionError> {
        let listed = self.call("list its domains", &["list", "--all", "--uuid", "--name"]).await?;
        listed.lines().filter(|line| !line.trim().is_empty()).map(domain_of).collect()
    }

    /// What a domain's metadata hold of Backstay's; `None` where there is nothing of it.
    pub(super) async fn metadata(&self, domain: &Uuid) -> Result<Option<String>, ProvisionError> {
        let arguments = ["metadata", "--domain", &domain.0, "--config", "--uri", NAMESPACE];
        match self.start(&arguments).await {
            Ok(metadata) => Ok(Some(metadata)),
            Err(ProcessError::Failed { said, .. }) if said.as_str().contains("metadata not found") => {
                Ok(None)
            }
            Err(error) => Err(self.failed("read the metadata of a domain", &error)),
        }
    }

    /// How it stands, in libvirt's words: `running`, `shut off`, `paused`, …
    pub(super) async fn state(&self, domain: &Uuid) -> Result<String, ProvisionError> {
        let state = self.call("ask for a domain's state", &["domstate", "--domain", &domain.0]).await?;
        Ok(state.trim().to_owned())
    }

    /// Its memory in bytes, and how many processors it has.
    pub(super) async fn size(&self, domain: &Uuid) -> Result<Option<(u64, u32)>, ProvisionError> {
        let info = self.call("ask for a domain's size", &["dominfo", "--domain", &domain.0]).await?;
        Ok(size_of(&info))
    }

    /// The files of its disks.
    pub(super) async fn disks(&self, domain: &Uuid) -> Result<Vec<String>, ProvisionError> {
        let arguments = ["domblklist", "--details", "--domain", &domain.0];
        let listed = self.call("list a domain's disks", &arguments).await?;
        Ok(listed.lines().filter_map(disk_of).collect())
    }

    /// Its address, as `source` knows it: `lease` (the network's DHCP server) or `agent` (the guest's own).
    pub(super) async fn address(&self, domain: &Uuid, source: &str) -> Option<String> {
        let listed = self.start(&["domifaddr", "--domain", &domain.0, "--source", source]).await.ok()?;
        address_of(&listed)
    }

    /// Defines a domain that was claimed. The call goes on where this process is killed, and keeps the claim until then.
    pub(super) async fn define(&self, xml: &Path, claim: &File) -> Result<(), ProvisionError> {
        let path = xml.to_string_lossy();
        self.make("define the domain", &["define", "--validate", "--file", &path], claim).await
    }

    /// Starts one, likewise.
    pub(super) async fn boot(&self, domain: &Uuid, claim: &File) -> Result<(), ProvisionError> {
        self.make("start the domain", &["start", "--domain", &domain.0], claim).await
    }

    /// Ends it as a power cut would.
    pub(super) async fn destroy(&self, domain: &Uuid) -> Result<(), ProvisionError> {
        self.call("stop the domain", &["destroy", "--domain", &domain.0]).await.map(drop)
    }

    /// Forgets it, with what libvirt itself keeps of it; its disks stay.
    pub(super) async fn undefine(&self, domain: &Uuid) -> Result<(), ProvisionError> {
        let kept = ["--nvram", "--managed-save", "--snapshots-metadata", "--checkpoints-metadata"];
        let arguments = [&["undefine", "--domain", &domain.0][..], &kept].concat();
        self.call("undefine the domain", &arguments).await.map(drop)
    }

    async fn call(&self, doing: &str, arguments: &[&str]) -> Result<String, ProvisionError> {
        self.start(arguments).await.map_err(|error| self.failed(doing, &error))
    }

    async fn make(&self, doing: &str, arguments: &[&str], claim: &File) -> Result<(), ProvisionError> {
        let files = || {
            let (printed, said) = (tempfile::tempfile()?, tempfile::tempfile()?);
            Ok(Files { input: claim.try_clone()?, printed, said })
        };
        let files = files().map_err(|error: io::Error| {
            ProvisionError::retry(format!("failed to write a temporary file: {error}; make room"))
        })?;
        let made = async {
            let mut call = self.virsh(arguments)?.start_outliving(files)?;
            while call.read().await?.is_some() {}
            call.finish().await
        };
        made.await.map_err(|error| self.failed(doing, &error))
    }

    async fn start(&self, arguments: &[&str]) -> Result<String, ProcessError> {
        let printed = self.virsh(arguments)?.output(&[], MOST).await?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    fn virsh(&self, arguments: &[&str]) -> Result<Program, ProcessError> {
        let virsh = process::find(&["virsh"], &process::search_path())?;
        let program = Program::new(virsh).arguments(["-q", "-c", self.uri.as_str()]).arguments(arguments);
        Ok(program.variable("LC_ALL", "C").inherit("XDG_RUNTIME_DIR").timeout(LONGEST))
    }

    fn failed(&self, doing: &str, error: &ProcessError) -> ProvisionError {
        let message = format!("failed to {doing} at {}: {error}", self.uri);
        match error {
            ProcessError::Missing { .. } => {
                ProvisionError::stalled(format!("{message} (Debian: libvirt-clients)"))
            }
            ProcessError::Failed { said, .. } if said.as_str().contains("failed to connect") => {
                let hint =
                    "start libvirtd there, and let whoever runs Backstay connect to it (group libvirt)";
                ProvisionError::retry(format!("{message}; {hint}"))
            }
            ProcessError::Stalled { .. } | ProcessError::TimedOut { .. } => ProvisionError::retry(message),
            _ => ProvisionError::stalled(message),
        }
    }
}

fn domain_of(line: &str) -> Result<(Uuid, String), ProvisionError> {
    let unreadable = || {
        let line = line.escape_debug();
        ProvisionError::stalled(format!(
            "failed to read the list of domains: `{line}` is no UUID with a name"
        ))
    };
    let (uuid, name) = line.trim().split_once(' ').ok_or_else(unreadable)?;
    let plain = uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plain { Ok((Uuid(uuid.to_owned()), name.trim().to_owned())) } else { Err(unreadable()) }
}

fn size_of(info: &str) -> Option<(u64, u32)> {
    let value = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let memory: u64 = value("Max memory:")?.strip_suffix("KiB")?.trim().parse().ok()?;
    Some((memory.checked_mul(1024)?, value("CPU(s):")?.parse().ok()?))
}

/// The source of a line `file disk vda /path`; the path may hold spaces.
fn disk_of(line: &str) -> Option<String> {
    let mut rest = line.trim_start();
    for _ in 0..3 {
        rest = rest.split_once(char::is_whitespace)?.1.trim_start();
    }
    let path = rest.trim_end();
    (!path.is_empty() && path != "-").then(|| path.to_owned())
}

/// Of lines `vnet0 52:54:… ipv4 192.168.122.7/24` the first address that others can reach, one of IPv4 before one of IPv6.
fn address_of(listed: &str) -> Option<String> {
    let addresses = |protocol: &'static str| {
        listed.lines().filter_map(move |line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [.., kind, address] = words.as_slice() else { return None };
            let address = (*kind == protocol).then_some(address)?.split('/').next()?;
            let near = ["127.", "169.254.", "fe80:"].iter().any(|start| address.starts_with(start))
                || address == "::1";
            (!near && address.parse::<std::net::IpAddr>().is_ok()).then(|| address.to_owned())
        })
    };
    addresses("ipv4").chain(addresses("ipv6")).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_known_by_their_ids() {
        let line = "467fa69c-8f79-4758-8475-11199ce89c4c 3  ";
        let (uuid, name) = domain_of(line).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((uuid.0.as_str(), name.as_str()), ("467fa69c-8f79-4758-8475-11199ce89c4c", "3"));
        assert!(domain_of("web").is_err() && domain_of("3 web").is_err());
    }

    #[test]
    fn an_address_is_one_that_others_can_reach() {
        let agent = " lo         00:00:00:00:00:00    ipv4         127.0.0.1/8
 -          -                    ipv6         ::1/128
 eth0       52:54:00:12:34:56    ipv6         fe80::5054:ff:fe12:3456/64
 -          -                    ipv6         fec0::5054/64
 -          -                    ipv4         10.0.2.15/24
";
        assert_eq!(address_of(agent).as_deref(), Some("10.0.2.15"));
        assert_eq!(address_of(" eth0 52:54 ipv6 2001:db8::7/64\n").as_deref(), Some("2001:db8::7"));
        assert_eq!(address_of("\n"), None);
    }

    #[test]
    fn sizes_and_disks_are_read() {
        assert_eq!(size_of("CPU(s):         2\nMax memory:     786432 KiB\n"), Some((768 << 20, 2)));
        assert_eq!(size_of("CPU(s):         2\n"), None);
        assert_eq!(disk_of(" file   disk     vda      /srv/a b.qcow2").as_deref(), Some("/srv/a b.qcow2"));
        assert_eq!(disk_of(" file   cdrom    sda      -"), None);
    }
}
