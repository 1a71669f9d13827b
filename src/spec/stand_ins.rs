//! Machines that the drill of a recovery makes in the places of the declared ones, to be thrown away, and where what is declared of
//! those is found on them.
//!
//! Nothing that is not known to be on a stand-in is found at all: a drill must never reach a machine that people work with.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Serialize};

use super::{
    Backup, DrillCheck, Endpoint, MysqlMethod, PostgresMethod, Provision, Ready, Recovery, RecoveryAction,
    Source, Spec, Ssh, TerraformState, Vm, WebAddress, names::*,
};

/// The ports of servers where none is declared.
const MYSQL: u16 = 3306;
const POSTGRES: u16 = 5432;
const INFLUXDB: u16 = 8086;
const MONGODB: u16 = 27017;

/// The drill of a whole recovery.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    /// Which.
    pub recovery: RecoveryName,
    /// What differs in the machines that are made for it.
    pub stand_ins: BTreeMap<VmName, StandIn>,
    /// What must hold afterwards.
    pub checks: Vec<RehearsalCheck>,
}

/// What must hold of machines and data that came back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearsalCheck {
    /// The backup whose data is asked, where it is data.
    pub backup: Option<BackupName>,
    /// What is asked.
    pub check: DrillCheck,
}

impl Rehearsal {
    /// The backups that are restored in it: what is on no stand-in is left out.
    pub fn tried<'a>(&self, spec: &'a Spec, drill: &DrillName) -> Vec<&'a Backup> {
        let (Some(recovery), Ok(stand_ins)) =
            (spec.recoveries.get(&self.recovery), StandIns::of(spec, drill, self))
        else {
            return Vec::new();
        };
        let declared = restored(recovery).filter_map(|name| spec.backups.get(name));
        declared.filter(|backup| stand_ins.have(&backup.source)).collect()
    }

    /// The backup whose data a check asks: the one that is named, or the only one that could be; `None` where it asks a service.
    ///
    /// # Errors
    /// Why it can ask none.
    pub fn asked<'a>(
        &'a self,
        spec: &'a Spec,
        check: &'a RehearsalCheck,
    ) -> Result<Option<&'a Backup>, String> {
        match (check.check.endpoint(), &check.backup) {
            (Some(_), None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err("it asks a service, and no backup; leave `backup` out".to_owned());
            }
            (None, _) => {}
        }
        let restored: Vec<&Backup> = match spec.recoveries.get(&self.recovery) {
            Some(recovery) => restored(recovery).filter_map(|name| spec.backups.get(name)).collect(),
            None => Vec::new(),
        };
        let can = |backup: &&&Backup| check.check.unmakeable(&backup.source).is_none();
        let found: Vec<&&Backup> = match &check.backup {
            Some(name) => restored.iter().filter(|backup| backup.name == *name).collect(),
            None => restored.iter().filter(can).collect(),
        };
        match (found.as_slice(), &check.backup) {
            ([one], _) => Ok(Some(one)),
            ([], Some(name)) => Err(format!("recovery `{}` does not restore {name}", self.recovery)),
            ([], None) => {
                Err(format!("recovery `{}` restores nothing that it could be made of", self.recovery))
            }
            (_, _) => Err(format!(
                "recovery `{}` restores several backups that it could be made of; say which: backup = \"{}\"",
                self.recovery, found[0].name
            )),
        }
    }
}

/// The backups that a recovery restores.
fn restored(recovery: &Recovery) -> impl Iterator<Item = &BackupName> {
    recovery.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::Restore(backup) => Some(backup),
        _ => None,
    })
}

/// What differs in the machine that a drill makes in a declared one's place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StandIn {
    /// Variables of the template that take the place of the declared ones.
    pub vars: BTreeMap<String, toml::Value>,
    /// The network that a domain of libvirt is in.
    pub network: Option<String>,
    /// Parameters of a stack that take the place of the declared ones.
    pub parameters: BTreeMap<String, String>,
    /// Variables of a module of Terraform that take the place of the declared ones.
    pub variables: BTreeMap<String, String>,
    /// Where programs are run on it; what makes the machine tells when `None`.
    pub host: Option<String>,
    /// The port of SSH; the declared one when `None`.
    pub port: Option<u16>,
    /// Further hosts that are the declared machine: names of it that others know it by.
    pub names: Vec<String>,
    /// Where what listens at the declared machine's places listens at the stand-in's. What is not named is looked for at the same port of
    /// the stand-in's own address, where what makes it tells that.
    pub reach: BTreeMap<Endpoint, Endpoint>,
}

impl StandIn {
    /// Whether the module of the stand-in is told by what it is another.
    fn is_another_module(&self) -> bool {
        !self.vars.is_empty() || !self.variables.is_empty()
    }
}

/// The stand-ins of one drill.
pub struct StandIns<'a> {
    machines: BTreeMap<&'a VmName, Machine<'a>>,
}

struct Machine<'a> {
    declared: &'a Vm,
    differs: Option<&'a StandIn>,
    made: Vm,
}

/// Where the stand-ins are that run: the name or address of each.
pub type Hosts = BTreeMap<VmName, String>;

/// How something at a declared machine is found at its stand-in.
enum Found<'a> {
    /// It is said where.
    Said(&'a Endpoint),
    /// At the same port of the stand-in's address.
    SamePort(&'a VmName),
}

impl<'a> StandIns<'a> {
    /// Those of the machines that a recovery rebuilds.
    ///
    /// # Errors
    /// Why a machine can have none.
    pub fn of(spec: &'a Spec, drill: &DrillName, rehearsal: &'a Rehearsal) -> Result<Self, String> {
        let recovery = spec.recoveries.get(&rehearsal.recovery);
        let rebuilt = recovery.into_iter().flat_map(rebuilt).filter_map(|vm| spec.vms.get(vm));
        let mut machines = BTreeMap::new();
        for declared in rebuilt {
            let differs = rehearsal.stand_ins.get(&declared.name);
            let is_another = differs.is_some_and(StandIn::is_another_module);
            if !is_another && matches!(declared.provision, Provision::Terraform(_)) {
                return Err(unsaid(drill, &declared.name));
            }
            let made = made(drill, declared, &differs.cloned().unwrap_or_default())?;
            machines.insert(&declared.name, Machine { declared, differs, made });
        }
        Ok(Self { machines })
    }

    /// The machines that are made, by the names of the declared ones.
    pub fn vms(&self) -> impl Iterator<Item = (&'a VmName, &Vm)> {
        self.machines.iter().map(|(name, machine)| (*name, &machine.made))
    }

    /// Whether what a source is read from is on stand-ins.
    pub fn have(&self, source: &Source) -> bool {
        source.tells_what_it_holds() && source.elsewhere(self.known()).is_some()
    }

    fn known(&self) -> impl Fn(&Endpoint) -> Option<Endpoint> {
        |endpoint| self.find(endpoint).map(|_| endpoint.clone())
    }

    /// Whether a place is known to be on a stand-in.
    pub fn know(&self, declared: &Endpoint) -> bool {
        self.find(declared).is_some()
    }

    /// Whether a place was said to be on a stand-in by whoever declared it, and not told by what made that.
    pub fn is_said(&self, declared: &Endpoint) -> bool {
        matches!(self.find(declared), Some(Found::Said(_)))
    }

    /// Whether what is waited for is on stand-ins.
    pub fn tell(&self, until: &Ready, spec: &Spec) -> bool {
        match until {
            Ready::Source(backup) => spec.backups.get(backup).is_some_and(|it| self.have(&it.source)),
            other => elsewhere(other, self.known()).is_some(),
        }
    }

    /// What is waited for, as it is found on stand-ins that run; `None` where it is not known to be on one.
    pub fn ready(&self, until: &Ready, hosts: &Hosts) -> Option<Ready> {
        elsewhere(until, |endpoint| self.endpoint(endpoint, hosts))
    }

    /// Where something is found; `None` where it is not known to be on a stand-in that runs.
    pub fn endpoint(&self, declared: &Endpoint, hosts: &Hosts) -> Option<Endpoint> {
        match self.find(declared)? {
            Found::Said(endpoint) => Some(endpoint.clone()),
            Found::SamePort(vm) => Endpoint::at(hosts.get(vm)?, declared.port()),
        }
    }

    /// The declaration in which the stand-ins that run take the places of the machines. Backups of what is not on them are left out of
    /// it, so that nothing can be restored over what people work with.
    pub fn spec(&self, spec: &Spec, hosts: &Hosts) -> Spec {
        let mut stood_in = spec.clone();
        stood_in.vms = self.vms().map(|(name, made)| (name.clone(), made.clone())).collect();
        stood_in.backups.retain(|_, backup| {
            let moved = backup.source.elsewhere(|endpoint| self.endpoint(endpoint, hosts));
            moved.map(|moved| backup.source = moved).is_some()
        });
        stood_in
    }

    /// Whose it is: said, or the only machine that has the host's name. Two that could be meant are none.
    fn find(&self, endpoint: &Endpoint) -> Option<Found<'a>> {
        let said = |machine: &Machine<'a>| machine.differs?.reach.get(endpoint);
        let mut said = self.machines.values().filter_map(said);
        match (said.next(), said.next()) {
            (Some(one), None) => return Some(Found::Said(one)),
            (Some(_), Some(_)) => return None,
            (None, _) => {}
        }
        let mut known = self.machines.iter().filter(|(_, machine)| machine.is(endpoint.host()));
        match (known.next(), known.next()) {
            // An address that somebody wrote down says nothing of its other ports.
            (Some((name, machine)), None) if machine.differs.is_none_or(|it| it.host.is_none()) => {
                Some(Found::SamePort(name))
            }
            _ => None,
        }
    }
}

/// The machines that a recovery rebuilds.
fn rebuilt(recovery: &Recovery) -> impl Iterator<Item = &VmName> {
    recovery.steps.iter().filter_map(|step| match &step.action {
        RecoveryAction::Rebuild(vm) => Some(vm),
        _ => None,
    })
}

impl Machine<'_> {
    /// Whether a host is the declared machine: by its name, by what is declared for SSH, or by a further name.
    fn is(&self, host: &str) -> bool {
        let ssh = self.declared.ssh.as_ref().and_then(|ssh| ssh.host.as_deref());
        let names = self.differs.into_iter().flat_map(|differs| &differs.names).map(String::as_str);
        let mut known = names.chain(ssh).chain([self.declared.name.as_str()]);
        known.any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Why a module has no stand-in that nobody declared: what it names in words is the machine's, and no plan tells.
fn unsaid(drill: &DrillName, vm: &VmName) -> String {
    format!(
        "machine {vm} is made by a module, whose names might be the machine's own; declare [drill.{drill}.stand_in.{vm}] with the `vars` or \
         `variables` by which its stand-in is another"
    )
}

/// The machine that is made in the place of a declared one: under a name of its own, with nothing of the declared one's places.
fn made(drill: &DrillName, declared: &Vm, differs: &StandIn) -> Result<Vm, String> {
    let name = format!("drill-{drill}-{}", declared.name);
    let name: VmName = name.parse().map_err(|_| {
        format!(
            "the stand-in of {} would be called {name}, which is too long; give the drill a shorter name",
            declared.name
        )
    })?;
    let provision = match &declared.provision {
        Provision::Libvirt(libvirt) => {
            let mut libvirt = libvirt.clone();
            libvirt.network = differs.network.clone().unwrap_or(libvirt.network);
            Provision::Libvirt(libvirt)
        }
        Provision::Cloudformation(stack) => {
            let mut stack = stack.clone();
            // A stack's name has no other sign than this one.
            stack.stack = Some(name.as_str().replace(['.', '_'], "-"));
            stack.parameters.extend(differs.parameters.clone());
            Provision::Cloudformation(stack)
        }
        Provision::Terraform(module) => {
            let mut module = module.clone();
            module.variables.extend(differs.variables.clone());
            // The declared one knows of the machine itself.
            module.state = TerraformState::Local;
            Provision::Terraform(module)
        }
    };
    let mut vars = declared.vars.clone();
    vars.extend(differs.vars.clone());
    let ssh = declared.ssh.clone().map(|ssh| Ssh {
        host: differs.host.clone(),
        port: differs.port.or(ssh.port),
        host_key: None,
        ..ssh
    });
    let stands_for = Some(declared.name.clone());
    Ok(Vm { name, stands_for, vars, provision, ssh, ..declared.clone() })
}

/// What is waited for, at another place; `None` where that is not known.
fn elsewhere(until: &Ready, find: impl Fn(&Endpoint) -> Option<Endpoint>) -> Option<Ready> {
    match until {
        Ready::Tcp(place) => Some(Ready::Tcp(find(&place.parse().ok()?)?.to_string())),
        Ready::Http(url) => {
            let url: WebAddress = url.parse().ok()?;
            Some(Ready::Http(url.moved(find(url.endpoint())?).to_string()))
        }
        Ready::Source(_) => Some(until.clone()),
    }
}

impl Source {
    /// Where a network leads to it; empty where it is of this host or of a provider.
    pub fn places(&self) -> Vec<Endpoint> {
        let places = RefCell::new(Vec::new());
        let _ = self.elsewhere(|endpoint| {
            places.borrow_mut().push(endpoint.clone());
            Some(endpoint.clone())
        });
        places.into_inner()
    }

    /// Whether its driver tells whether there is data already: a drill restores nowhere else.
    fn tells_what_it_holds(&self) -> bool {
        match self {
            Source::Mysql(_)
            | Source::Postgres(_)
            | Source::Influxdb(_)
            | Source::Influxdb2(_)
            | Source::Mongodb(_)
            | Source::Redis(_)
            | Source::Etcd(_) => true,
            Source::Files(_)
            | Source::Sqlite { .. }
            | Source::Dynamodb(_)
            | Source::Rds { .. }
            | Source::Atlas(_)
            | Source::S3(_) => false,
        }
    }

    /// The same source at another place, where a network leads to it: `find` tells where each of its places is found. `None` where it
    /// is of this host or of a provider, or is found nowhere.
    pub fn elsewhere(&self, find: impl Fn(&Endpoint) -> Option<Endpoint>) -> Option<Source> {
        let of_host = |host: &str, port: u16| find(&Endpoint::at(host, port)?);
        let of_url = |url: &str| {
            let url: WebAddress = url.parse().ok()?;
            Some(url.moved(find(url.endpoint())?).to_string().trim_end_matches('/').to_owned())
        };
        let mut moved = self.clone();
        let (server, port) = match &mut moved {
            Source::Mysql(it) if it.method == MysqlMethod::Logical => (&mut it.server, MYSQL),
            Source::Postgres(it) if it.method == PostgresMethod::Logical => (&mut it.server, POSTGRES),
            Source::Mongodb(it) => (&mut it.server, MONGODB),
            Source::Influxdb(it) => {
                let rpc = of_host(&it.server.host, it.rpc_port)?;
                let http = of_host(&it.server.host, it.server.port.unwrap_or(INFLUXDB))?;
                if http.host() != rpc.host() {
                    return None;
                }
                it.rpc_port = rpc.port();
                (&mut it.server, INFLUXDB)
            }
            Source::Influxdb2(it) => {
                it.url = of_url(&it.url)?;
                return Some(moved);
            }
            Source::Redis(it) => {
                let found = of_host(&it.host, it.port)?;
                (it.host, it.port) = (found.host().to_owned(), found.port());
                return Some(moved);
            }
            Source::Etcd(it) => {
                it.endpoints = it.endpoints.iter().map(|url| of_url(url)).collect::<Option<_>>()?;
                return Some(moved);
            }
            Source::Mysql(_)
            | Source::Postgres(_)
            | Source::Files(_)
            | Source::Sqlite { .. }
            | Source::Dynamodb(_)
            | Source::Rds { .. }
            | Source::Atlas(_)
            | Source::S3(_) => return None,
        };
        if server.socket.is_some() {
            return None;
        }
        let found = of_host(&server.host, server.port.unwrap_or(port))?;
        (server.host, server.port) = (found.host().to_owned(), Some(found.port()));
        Some(moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Libvirt, OnLoss, Redis, Server, Tls};

    fn at(text: &str) -> Endpoint {
        text.parse().unwrap()
    }

    fn vm(name: &str, ssh_host: &str) -> Vm {
        Vm {
            name: name.parse().unwrap(),
            stands_for: None,
            template: "cloud-init.yaml.tera".to_owned(),
            vars: BTreeMap::from([("a".to_owned(), 1.into()), ("b".to_owned(), 1.into())]),
            provision: Provision::Libvirt(Libvirt {
                uri: "qemu:///system".to_owned(),
                image: "/base".into(),
                disks: "/disks".into(),
                disk: None,
                memory: 1,
                cpus: 1,
                network: "default".to_owned(),
            }),
            ssh: Some(Ssh {
                user: "root".to_owned(),
                host: Some(ssh_host.to_owned()),
                port: Some(2222),
                identity: super::super::SecretRef::File("/key".into()),
                host_key: Some("ssh-ed25519 AAAA".to_owned()),
            }),
            ansible: None,
            on_loss: OnLoss::Report,
        }
    }

    fn stand_ins<'a>(vms: &'a [Vm], differing: &'a [StandIn]) -> StandIns<'a> {
        let machine = |(declared, differs): (&'a Vm, &'a StandIn)| {
            let made = made(&"site".parse().unwrap(), declared, differs).unwrap();
            (&declared.name, Machine { declared, differs: Some(differs), made })
        };
        StandIns { machines: vms.iter().zip(differing).map(machine).collect() }
    }

    fn redis(host: &str) -> Source {
        Source::Redis(Redis {
            host: host.to_owned(),
            port: 6379,
            user: None,
            password: None,
            tls: Tls::Default,
        })
    }

    #[test]
    fn what_is_not_known_to_be_on_a_stand_in_is_found_nowhere() {
        let vms = [vm("web", "127.0.0.1"), vm("db", "127.0.0.1")];
        let differing = [
            StandIn {
                host: Some("127.0.0.1".to_owned()),
                reach: BTreeMap::from([(at("127.0.0.1:8080"), at("127.0.0.1:9080"))]),
                ..StandIn::default()
            },
            StandIn { names: vec!["db.example.org".to_owned()], ..StandIn::default() },
        ];
        let stand_ins = stand_ins(&vms, &differing);
        let hosts: Hosts = [("db".parse().unwrap(), "10.0.0.7".to_owned())].into();
        let check = |declared: &str, expect: Option<&str>| {
            assert_eq!(stand_ins.endpoint(&at(declared), &hosts), expect.map(at), "{declared}");
        };
        check("db:3306", Some("10.0.0.7:3306"));
        check("DB.example.org:3306", Some("10.0.0.7:3306"));
        check("127.0.0.1:8080", Some("127.0.0.1:9080"));
        // Both machines have this address: whose it is nothing tells.
        check("127.0.0.1:3306", None);
        // Where its address was written down nothing tells that another port of it is the stand-in's.
        check("web:80", None);
        check("web:8080", None);
        check("db.elsewhere.org:3306", None);
        check("other:3306", None);
        check("db2.example.org:3306", None);
        assert!(
            stand_ins.have(&mysql("db"))
                && !stand_ins.have(&mysql("web"))
                && !stand_ins.have(&mysql("cache"))
        );
        assert!(stand_ins.have(&redis("db")) && !stand_ins.have(&redis("web")));
        assert_eq!(redis("db").places(), [at("db:6379")]);
        assert!(!stand_ins.have(&Source::Sqlite { path: "/srv/db".into() }));
        let Source::Mysql(mut local) = mysql("db") else { unreachable!() };
        local.server.socket = Some("/run/mysql.sock".into());
        assert!(!stand_ins.have(&Source::Mysql(local)));
        let waits = |until: Ready| stand_ins.ready(&until, &hosts);
        let url = |text: &str| Ready::Http(text.to_owned());
        assert_eq!(waits(url("http://db:8086/ping?x=1")), Some(url("http://10.0.0.7:8086/ping?x=1")));
        assert_eq!(waits(url("https://example.org/")), None);
        assert_eq!(waits(Ready::Tcp("db:22".into())), Some(Ready::Tcp("10.0.0.7:22".into())));
    }

    fn mysql(host: &str) -> Source {
        Source::Mysql(super::super::Mysql {
            server: Server { host: host.to_owned(), ..server() },
            method: MysqlMethod::Logical,
            binary_logs: super::super::BinaryLogs::Left,
            counting: Default::default(),
        })
    }

    fn server() -> Server {
        Server {
            host: String::new(),
            port: None,
            socket: None,
            user: None,
            password: None,
            databases: Vec::new(),
            tls: Tls::Default,
        }
    }

    #[test]
    fn a_module_is_another_by_its_variables_only() {
        let network = StandIn { network: Some("drills".to_owned()), ..StandIn::default() };
        assert!(!StandIn::default().is_another_module() && !network.is_another_module());
        let vars = BTreeMap::from([("b".to_owned(), 2.into())]);
        assert!(StandIn { vars, ..StandIn::default() }.is_another_module());
        let variables = BTreeMap::from([("size".to_owned(), "small".to_owned())]);
        assert!(StandIn { variables, ..StandIn::default() }.is_another_module());
    }

    #[test]
    fn a_stand_in_has_nothing_of_the_machine_s_places() {
        let declared = vm("web", "192.0.2.1");
        let differs = StandIn {
            vars: BTreeMap::from([("b".to_owned(), 2.into())]),
            network: Some("drills".to_owned()),
            ..StandIn::default()
        };
        let made = made(&"site".parse().unwrap(), &declared, &differs).unwrap();
        assert_eq!((made.name.as_str(), made.declared_name().as_str()), ("drill-site-web", "web"));
        assert_eq!(made.vars, BTreeMap::from([("a".to_owned(), 1.into()), ("b".to_owned(), 2.into())]));
        let ssh = made.ssh.unwrap();
        assert_eq!((ssh.host, ssh.port, ssh.host_key), (None, Some(2222), None));
        let Provision::Libvirt(libvirt) = made.provision else { panic!() };
        assert_eq!(libvirt.network, "drills");
        let long: DrillName = "d".repeat(60).parse().unwrap();
        assert!(super::made(&long, &declared, &differs).unwrap_err().contains("too long"));
    }
}
