//! Machines of libvirt: a domain with a disk over a base image, set up by cloud-init. By `virsh` and `qemu-img`, on this host.
//!
//! ```text
//! up      render ─▶ check ─▶ disk (over the image) ─▶ seed (user data) ─▶ define ─▶ start ─▶ wait for an address
//! down    stop ─▶ undefine ─▶ remove the disk and the seed
//! ```
//!
//! A domain is Backstay's own where its `<metadata>` say so, for this fleet and this machine; any other is never touched. The
//! key that a machine proves itself with is made for it, handed to it by cloud-init, and its public half kept in the metadata: so
//! the first connection to it is pinned already.

mod by_hand;
mod disks;
mod domain;
mod keys;
mod made;
mod uri;
mod virsh;

use std::time::Duration;

use async_trait::async_trait;
use rand::RngExt as _;
use tokio::time::{Instant, sleep};

pub use keys::public_half;
pub use uri::Uri;

use self::{
    disks::Disks,
    keys::HostKey,
    made::Made,
    virsh::{Uuid, Virsh},
};
use super::{ProvisionError, Provisioner, Said};
use crate::{
    inventory::{Machine, MachineAddress, PreviewMark, Running},
    plan::by_hand::MadeByHand,
    process::PrivateFile,
    spec::{Libvirt, Vm, names::FleetName},
    templates::{
        TemplateError, Templates,
        machines::{
            Context, ContextDomain, ContextHostKey, ContextLibvirt, ContextMachine, ContextVm, DOMAIN,
        },
    },
};

/// How long a new machine may take to tell its address.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// How often a new machine is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// The port of SSH where none is declared.
const SSH_PORT: u16 = 22;

/// What a machine is made by and from.
#[derive(Clone, Debug)]
pub struct LibvirtOptions {
    /// The fleet that declares it.
    pub fleet: FleetName,
    /// The controller, by which the machines of its drills are told from those of another's.
    pub controller: String,
    /// The machine.
    pub vm: Vm,
    /// What it says of the domain.
    pub libvirt: Libvirt,
    /// The public half of the identity that logs in, if one does.
    pub public_key: Option<String>,
    /// The templates of the revision.
    pub templates: Templates,
    /// How long it may take to tell its address.
    pub patience: Duration,
}

/// Makes one machine.
#[derive(Debug)]
pub struct LibvirtProvisioner {
    options: LibvirtOptions,
    virsh: Virsh,
    disks: Disks,
}

/// A domain of the machine's name, as it was found.
enum Found {
    None,
    Foreign(String),
    /// Another controller's drill made it.
    OfAnotherDrill(String),
    Own(Uuid, Made),
}

/// What is defined and what is on the seed.
struct Rendered {
    user_data: String,
    domain: String,
}

impl LibvirtProvisioner {
    /// Checks what is declared.
    ///
    /// # Errors
    /// A hypervisor that is not this host's.
    pub fn new(options: LibvirtOptions) -> Result<Self, ProvisionError> {
        let uri = Uri::parse(&options.libvirt.uri).map_err(ProvisionError::stalled)?;
        let disks = Disks::of(&options.fleet, &options.vm.name, &options.libvirt.disks);
        Ok(Self { options, virsh: Virsh::new(uri), disks })
    }

    async fn find(&self) -> Result<Found, ProvisionError> {
        let name = self.options.vm.name.as_str();
        let Some(uuid) = self.virsh.find(name).await? else { return Ok(Found::None) };
        let made = self.virsh.metadata(&uuid).await?.as_deref().and_then(Made::read);
        let Vm { name: ours, stands_for, .. } = &self.options.vm;
        // A stand-in is never taken for a machine of its name, nor the other way round.
        let of_us = |made: &Made| {
            made.fleet == self.options.fleet
                && made.vm == *ours
                && made.stands_for == *stands_for
                && made.controller.as_ref().is_none_or(|it| *it == self.options.controller)
        };
        Ok(match made {
            Some(made) if of_us(&made) => Found::Own(uuid, made),
            Some(made)
                if made.fleet == self.options.fleet && made.vm == *ours && made.stands_for == *stands_for =>
            {
                Found::OfAnotherDrill(format!(
                    "the domain `{name}` is of a drill of another controller of the fleet; wait for that drill to end, or remove the \
                     domain by hand"
                ))
            }
            Some(made) => {
                let Made { fleet, vm, stands_for, .. } = made;
                let place =
                    stands_for.map(|vm| format!(", in the place of {vm} in a drill")).unwrap_or_default();
                Found::Foreign(format!("the domain `{name}` is machine {vm} of the fleet {fleet}{place}"))
            }
            None => Found::Foreign(format!("the domain `{name}` was not made by Backstay")),
        })
    }

    /// Nothing of it may be there.
    async fn nothing_is_there(&self) -> Result<(), ProvisionError> {
        let name = &self.options.vm.name;
        let refused =
            |why: String| ProvisionError::stalled(format!("failed to make the machine {name}: {why}"));
        match self.find().await? {
            Found::None => {}
            Found::OfAnotherDrill(why) => return Err(refused(why)),
            Found::Foreign(why) => {
                return Err(refused(format!(
                    "{why}; give the machine another name, or remove that domain yourself"
                )));
            }
            Found::Own(..) => {
                return Err(refused("its domain is there already; remove the machine first".to_owned()));
            }
        }
        match self.disks.there()?.as_slice() {
            [] => Ok(()),
            [path, ..] => Err(refused(format!(
                "{} is left of it, with what is on it; remove the machine first",
                path.display()
            ))),
        }
    }

    /// What would be recorded of a machine made now.
    async fn made(&self, host_key: String) -> Result<Made, ProvisionError> {
        let LibvirtOptions { fleet, vm, libvirt, templates, .. } = &self.options;
        Ok(Made {
            fleet: fleet.clone(),
            vm: vm.name.clone(),
            stands_for: vm.stands_for.clone(),
            controller: vm.stands_for.as_ref().map(|_| self.options.controller.clone()),
            host_key,
            image: libvirt.image.clone(),
            disk: libvirt.disk,
            templates: made::digest(fleet, vm, libvirt, self.public_key(), templates).await?,
        })
    }

    fn public_key(&self) -> &str {
        self.options.public_key.as_deref().unwrap_or_default()
    }

    async fn render(&self, made: &Made, key: ContextHostKey<'_>) -> Result<Rendered, ProvisionError> {
        let LibvirtOptions { fleet, vm, libvirt, templates, .. } = &self.options;
        let metadata = made.element()?;
        let context = Context {
            libvirt: ContextLibvirt {
                image: &libvirt.image,
                disk: &self.disks.disk,
                seed: &self.disks.seed,
                memory: libvirt.memory,
                cpus: libvirt.cpus,
                network: &libvirt.network,
            },
            machine: ContextMachine { host_key: key },
            domain: ContextDomain { name: &vm.name, metadata: &metadata },
            ..Context::declared(fleet, vm, libvirt, self.public_key())
        };
        // The domain has what is its own alone: a path with the declared name could be the machine's.
        let of_domain = Context { vm: ContextVm { name: &vm.name }, ..context.clone() };
        let failed = |error: TemplateError| ProvisionError::stalled(error.to_string());
        let user_data = templates.render(&vm.template, &context).await.map_err(failed)?;
        let domain = templates.render(DOMAIN, &of_domain).await.map_err(failed)?;
        domain::check(&domain, vm.name.as_str(), &metadata).map_err(|why| self.unusable(why))?;
        if vm.stands_for.is_some() {
            let own = [self.disks.disk.as_path(), self.disks.seed.as_path()];
            domain::stands_alone(&domain, &own, &libvirt.network).map_err(|why| self.unusable(why))?;
        }
        Ok(Rendered { user_data, domain })
    }

    fn unusable(&self, why: String) -> ProvisionError {
        let name = &self.options.vm.name;
        ProvisionError::stalled(format!("failed to use the template {DOMAIN} for {name}: {why}"))
    }

    /// Makes all parts, of which `left` is told where one fails.
    async fn make(
        &self,
        made: &Made,
        rendered: &Rendered,
        said: Said<'_>,
        left: &mut Vec<String>,
    ) -> Result<Uuid, ProvisionError> {
        let LibvirtOptions { fleet, vm, libvirt, .. } = &self.options;
        let disk = self.disks.disk.display().to_string();
        said(&format!("making the disk {disk} over {}", libvirt.image.display()));
        self.disks.make_disk(libvirt).await?;
        left.push(disk);

        let instance = format!("{fleet}-{}-{:016x}", vm.name, rand::rng().random::<u64>());
        said("making the seed with its user data");
        self.disks.make_seed(&instance, vm.declared_name().as_str(), &rendered.user_data).await?;
        left.push(self.disks.seed.display().to_string());

        said(&format!("defining the domain {} at {}", vm.name, libvirt.uri));
        let xml = PrivateFile::new(&rendered.domain).map_err(|error| {
            ProvisionError::retry(format!("failed to write a temporary file: {error}; make room"))
        })?;
        let claim = self.disks.claim()?;
        self.virsh.define(xml.path(), &claim).await?;
        left.push(format!("the domain {}", vm.name));
        let Found::Own(uuid, found) = self.find().await? else {
            return Err(ProvisionError::stalled("failed to find the domain that was defined just now"));
        };
        if found != *made {
            return Err(ProvisionError::stalled("the domain that was defined just now is another one's"));
        }
        said("starting it");
        self.virsh.boot(&uuid, &claim).await?;
        Ok(uuid)
    }

    /// Waits until it tells where it is.
    async fn come_up(&self, domain: &Uuid, said: Said<'_>) -> Result<Option<MachineAddress>, ProvisionError> {
        let deadline = Instant::now() + self.options.patience;
        said("waiting for its address");
        loop {
            let state = self.virsh.state(domain).await?;
            if state != "running" {
                return Err(ProvisionError::stalled(format!(
                    "the machine started and is `{state}` now; look at its console: virsh console {}",
                    self.options.vm.name
                )));
            }
            if let Some(address) = self.address(domain).await {
                return Ok(Some(address));
            }
            // Nothing is to be run on it, so nobody needs to know.
            if self.options.vm.ssh.is_none() {
                return Ok(None);
            }
            if Instant::now() >= deadline {
                let patience = humantime::format_duration(self.options.patience);
                return Err(ProvisionError::stalled(format!(
                    "the machine runs, and nothing told its address within {patience}: look at its console (virsh console {}), let \
                     its image have qemu-guest-agent, or declare ssh.host",
                    self.options.vm.name
                )));
            }
            sleep(LOOK).await;
        }
    }

    /// Where it is declared to be, or where the network's leases or its agent say that it is.
    async fn address(&self, domain: &Uuid) -> Option<MachineAddress> {
        let ssh = self.options.vm.ssh.as_ref();
        let port = ssh.and_then(|ssh| ssh.port).unwrap_or(SSH_PORT);
        if let Some(host) = ssh.and_then(|ssh| ssh.host.clone()) {
            return Some(MachineAddress { host, port });
        }
        let host = match self.virsh.address(domain, "lease").await {
            Some(host) => host,
            None => self.virsh.address(domain, "agent").await?,
        };
        Some(MachineAddress { host, port })
    }

    /// How a machine differs from what is declared.
    async fn drift(&self, domain: &Uuid, made: &Made) -> Result<Vec<String>, ProvisionError> {
        let Libvirt { memory, cpus, .. } = self.options.libvirt;
        let mut drift = match self.made(made.host_key.clone()).await {
            Ok(now) => made.differs(&now),
            // A machine that runs is not unknown for that.
            Err(error) => vec![error.message],
        };
        if let Some((has_memory, has_cpus)) = self.virsh.size(domain).await? {
            // libvirt counts in KiB.
            if has_memory / 1024 != memory.div_ceil(1024) {
                drift.push(format!("it has {has_memory} bytes of memory, and {memory} are declared"));
            }
            if has_cpus != cpus {
                drift.push(format!("it has {has_cpus} processors, and {cpus} are declared"));
            }
        }
        Ok(drift)
    }

    /// Its disk would be left, and nobody would know of it, were the domain undefined while `disks` is declared otherwise.
    async fn has_its_disk_where_it_is_declared(&self, own: &Uuid) -> Result<(), ProvisionError> {
        let disks = self.virsh.disks(own).await?;
        if disks.iter().any(|disk| disks::same_file(&self.disks.disk, disk))
            || !self.disks.disk.exists() && disks.is_empty()
        {
            return Ok(());
        }
        Err(ProvisionError::stalled(format!(
            "failed to remove the machine {}: its disk is {}, and is declared as {}; declare `disks` as it was, or remove the domain \
             and its disks by hand",
            self.options.vm.name,
            disks.join(", "),
            self.disks.disk.display()
        )))
    }

    /// No other domain may have a disk of this machine.
    async fn no_other_uses_the_disks(&self, own: Option<&Uuid>) -> Result<(), ProvisionError> {
        let there = self.disks.there()?;
        if there.is_empty() {
            return Ok(());
        }
        for (domain, name) in self.virsh.domains().await? {
            if Some(&domain) == own {
                continue;
            }
            let disks = self.virsh.disks(&domain).await?;
            if let Some(path) =
                there.iter().find(|path| disks.iter().any(|disk| disks::same_file(path, disk)))
            {
                return Err(ProvisionError::stalled(format!(
                    "failed to remove {}: the domain `{}` has it as a disk; remove that domain first",
                    path.display(),
                    name.escape_debug()
                )));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Provisioner for LibvirtProvisioner {
    async fn observe(&self) -> Result<Machine, ProvisionError> {
        let (uuid, made) = match self.find().await? {
            Found::Own(uuid, made) => (uuid, made),
            // Of what this controller's drill made nothing is there.
            Found::OfAnotherDrill(_) => return Ok(Machine::Gone),
            Found::Foreign(why) => return Ok(Machine::Broken { why }),
            Found::None => {
                let there = self.disks.there()?;
                return Ok(match there.first() {
                    None => Machine::Gone,
                    Some(path) => {
                        Machine::Broken { why: format!("its domain is gone, and {} is left", path.display()) }
                    }
                });
            }
        };
        let state = self.virsh.state(&uuid).await?;
        if state != "running" {
            return Ok(Machine::Broken { why: format!("its domain is `{state}`") });
        }
        let drift = self.drift(&uuid, &made).await?;
        Ok(Machine::Running(Running {
            address: self.address(&uuid).await,
            host_key: Some(made.host_key),
            drift,
        }))
    }

    async fn preview(&self, _: &PreviewMark) -> Result<Vec<String>, ProvisionError> {
        let LibvirtOptions { vm, libvirt, .. } = &self.options;
        self.nothing_is_there().await?;
        self.disks.check_image(libvirt).await?;
        let made = self.made(ContextHostKey::NONE.public.to_owned()).await?;
        self.render(&made, ContextHostKey::NONE).await?;
        let size = libvirt.disk.map_or("as large as it".to_owned(), |size| format!("of {size} bytes"));
        Ok(vec![
            format!("make the disk {} over {}, {size}", self.disks.disk.display(), libvirt.image.display()),
            format!("make the seed {} from the template {}", self.disks.seed.display(), vm.template),
            format!(
                "define the domain {} at {}: {} processors, {} bytes of memory, network {}",
                vm.name, libvirt.uri, libvirt.cpus, libvirt.memory, libvirt.network
            ),
            "start it, and wait for its address".to_owned(),
        ])
    }

    async fn by_hand(&self, folder: &str) -> Result<MadeByHand, ProvisionError> {
        by_hand::made(self, folder).await
    }

    async fn up(&self, said: Said<'_>) -> Result<Running, ProvisionError> {
        self.nothing_is_there().await?;
        self.disks.check_image(&self.options.libvirt).await?;
        let key = HostKey::new()?;
        let made = self.made(key.public.clone()).await?;
        let rendered =
            self.render(&made, ContextHostKey { private: &key.private, public: &key.public }).await?;
        let mut left = Vec::new();
        let up = async {
            let domain = self.make(&made, &rendered, said, &mut left).await?;
            self.come_up(&domain, said).await
        };
        match up.await {
            Ok(address) => Ok(Running { address, host_key: Some(key.public), drift: Vec::new() }),
            Err(error) => Err(half_made(error, &left)),
        }
    }

    async fn down(&self, said: Said<'_>) -> Result<(), ProvisionError> {
        let name = &self.options.vm.name;
        self.disks.settle().await?;
        let own = match self.find().await? {
            Found::None => None,
            Found::Own(uuid, _) => Some(uuid),
            Found::Foreign(why) | Found::OfAnotherDrill(why) => {
                return Err(ProvisionError::stalled(format!("failed to remove the machine {name}: {why}")));
            }
        };
        self.no_other_uses_the_disks(own.as_ref()).await?;
        if let Some(domain) = &own {
            if self.virsh.state(domain).await? != "shut off" {
                said(&format!("stopping the domain {name}"));
                self.virsh.destroy(domain).await?;
            }
            self.has_its_disk_where_it_is_declared(domain).await?;
            said(&format!("undefining the domain {name}"));
            self.virsh.undefine(domain).await?;
        }
        self.disks.must_be_unused().await?;
        for path in self.disks.remove()? {
            said(&format!("removed {}", path.display()));
        }
        Ok(())
    }
}

/// A failure with what is left of what was made before it.
fn half_made(error: ProvisionError, left: &[String]) -> ProvisionError {
    if left.is_empty() {
        return error;
    }
    let message = format!(
        "{}; left of it: {}; remove the machine before it is made again",
        error.message,
        left.join(", ")
    );
    ProvisionError { message, ..error }
}
