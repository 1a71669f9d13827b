//! The registry: the only file that names concrete drivers. From what is declared to something that runs, within what
//! the host allows.

mod machines;
mod permits;
mod sandboxes;

use std::{
    collections::BTreeMap,
    fmt,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use crate::{
    aws::{self, AwsCredentials, DynamodbOptions, RdsOptions, S3Options, ServiceOptions},
    config::{Allow, Config, Host, Schedules, allow},
    git::{Mirror, Tips},
    inventory::Running,
    plan::{CannotRun, action::SandboxKind, cannot_run},
    provisioners::{Configurer, Provisioner, Remote, here::HereRemote},
    sandboxes::Sandbox,
    schedulers::{
        self, Scheduler,
        controller::Timetable,
        cron::{self, CronFolder},
        systemd::{self, SystemdUnits},
    },
    secrets::{Resolver, Secret, SecretError},
    sources::{
        Source, SourceError,
        atlas::{AtlasOptions, AtlasSource, Tokens},
        dynamodb::DynamodbSource,
        etcd::EtcdSource,
        files::FilesSource,
        git::GitSource,
        influxdb::InfluxdbSource,
        influxdb2::Influxdb2Source,
        mongodb::MongodbSource,
        mysql::MysqlSource,
        postgres::PostgresSource,
        rds::RdsSource,
        redis::RedisSource,
        s3::S3Source,
        sqlite::SqliteSource,
    },
    spec::{
        self, SecretRef, Spec, StorePlace, Traffic,
        names::{FleetName, StoreName},
        traffic::{AwsReach, LedBy},
    },
    state::StateDir,
    stores::{
        Store, StoreError,
        limit::LimitedStore,
        local::LocalStore,
        retry::{Attempts, RetryStore},
        s3::S3Store,
        sftp::{self, Identity, SftpOptions, SftpStore},
        whole::WholeStore,
    },
    templates::Templates,
    traffic::{
        Switch, SwitchError, dns::DnsSwitch, load_balancer::LoadBalancerSwitch, route53::Route53Switch,
    },
};
use permits::{balancer_host, dynamodb_host, host_of, host_of_url, rds_host, route53_host, s3_host};

/// Calls to one store at once.
const CALLS: NonZeroUsize = NonZeroUsize::new(16).expect("sixteen is not zero");

/// From what is declared to something that runs, within what the host allows. [`Drivers`] is the one of this build;
/// whoever brings another runs the same passes on other stores and sources.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Where the schedules of a fleet are armed.
    fn scheduler(&self, fleet: &spec::Fleet) -> Arc<dyn Scheduler>;

    /// A declared store; the same connection as long as its declaration stays the same.
    async fn store(&self, declared: &spec::Store) -> Result<Arc<dyn Store>, Refusal>;

    /// A declared source.
    async fn source(&self, declared: &spec::Source) -> Result<Box<dyn Source>, Refusal>;

    /// A sandbox of this kind for what a declared source restores.
    async fn sandbox(
        &self,
        _kind: SandboxKind,
        _declared: &spec::Source,
    ) -> Result<Box<dyn Sandbox>, Refusal> {
        Err(Refusal::NotBuilt("sandboxes".to_owned()))
    }

    /// What makes a declared machine of a fleet, from the templates of the revision.
    async fn provisioner(
        &self,
        _fleet: &FleetName,
        _vm: &spec::Vm,
        _templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        Err(Refusal::NotBuilt("machines".to_owned()))
    }

    /// What runs playbooks.
    fn configurer(&self) -> Result<Box<dyn Configurer>, Refusal> {
        Err(Refusal::NotBuilt("playbooks".to_owned()))
    }

    /// Whether a commit may have this host run a program, as it spells it.
    fn may_run(&self, program: &str) -> Result<(), Refusal> {
        Err(Refusal::NotBuilt(format!("the program {program} on this host")))
    }

    /// What runs the programs on this host that it allows.
    fn here(&self) -> Result<Box<dyn Remote>, Refusal> {
        Err(Refusal::NotBuilt("programs on this host".to_owned()))
    }

    /// What runs programs on a declared machine that runs.
    async fn remote(&self, _vm: &spec::Vm, _running: &Running) -> Result<Box<dyn Remote>, Refusal> {
        Err(Refusal::NotBuilt("programs on machines".to_owned()))
    }

    /// What leads users by a declared record.
    async fn switch(&self, _traffic: &Traffic) -> Result<Box<dyn Switch>, Refusal> {
        Err(Refusal::NotBuilt("traffic".to_owned()))
    }

    /// The infra repo itself, as a source: bundles on top of `prerequisites`.
    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source>;

    /// What restores a stream whose source nothing declares any more: into a file, or from an archive into a folder.
    fn undeclared(&self) -> Box<dyn Source> {
        Box::new(FilesSource::undeclared())
    }

    /// What `spec` declares and this host does not allow. Reads no secret, and opens nothing.
    fn refused(&self, spec: &Spec) -> Vec<CannotRun>;
}

/// What this host lets a declaration do, and the drivers that do it.
pub struct Drivers {
    allow: Allow,
    resolver: Resolver,
    /// Where databases are copied to when they can't be streamed.
    scratch: PathBuf,
    timetable: Arc<Timetable>,
    /// The scheduler in use, with the fleet that it is for.
    scheduler: Mutex<Option<(spec::Fleet, Arc<dyn Scheduler>)>>,
    config: Config,
    /// What Atlas let its service accounts in with, until that expires.
    tokens: Tokens,
    /// What tells the machines of this controller's drills from those of another's.
    controller: String,
    /// Open stores, by name, with what they were opened for: connections outlive a pass, but not a change of declaration.
    open: Mutex<BTreeMap<StoreName, Opened>>,
}

/// An open store, and the place that it was opened for.
type Opened = (String, Arc<dyn Store>);

/// Why there is no driver for what is declared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This build has none.
    #[error("this build has no driver for {0} yet")]
    NotBuilt(String),
    /// The host does not allow it.
    #[error(transparent)]
    NotAllowed(#[from] allow::Refusal),
    /// A secret can't be had.
    #[error("{0}")]
    Secret(String),
    /// Its settings are no good.
    #[error("{0}")]
    Settings(String),
}

impl From<SecretError> for Refusal {
    fn from(error: SecretError) -> Self {
        Refusal::Secret(error.to_string())
    }
}

impl From<SourceError> for Refusal {
    fn from(error: SourceError) -> Self {
        Refusal::Settings(error.to_string())
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Refusal::Settings(error.to_string())
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drivers").field("allow", &self.allow).finish_non_exhaustive()
    }
}

impl Drivers {
    /// The drivers of a host.
    pub fn new(config: Config, identities: Vec<age::x25519::Identity>, state: &StateDir) -> Self {
        let allow = config.allow.clone();
        let resolver = Resolver::new(allow.secrets.clone(), allow.run.clone(), identities);
        Self {
            allow,
            resolver,
            scratch: state.root().to_owned(),
            timetable: Arc::new(Timetable::open(state.timetable())),
            scheduler: Mutex::default(),
            controller: String::new(),
            config,
            tokens: Tokens::default(),
            open: Mutex::default(),
        }
    }

    /// The same, of the controller that signs with `key`: what its drills make says so.
    pub fn signing_with(self, key: &str) -> Self {
        // Another state directory is another controller: what it makes it remembers, and nobody else does.
        let state = std::path::absolute(&self.scratch).unwrap_or_else(|_| self.scratch.clone());
        let digest = Sha256::digest([key.as_bytes(), b"\n", state.as_os_str().as_encoded_bytes()].concat());
        Self { controller: hex::encode(&digest[..8]), ..self }
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<StoreName, Opened>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self, place: &StorePlace) -> Result<Arc<dyn Store>, Refusal> {
        Ok(match place {
            StorePlace::Local { path } => {
                self.allow.check_write(path)?;
                Arc::new(LocalStore::new(path))
            }
            StorePlace::Sftp(declared) => Arc::new(self.sftp(declared).await?),
            StorePlace::S3(declared) => Arc::new(S3Store::new(self.bucket(declared).await?)?),
            StorePlace::Azblob { .. } => return Err(Refusal::NotBuilt("stores of kind `azblob`".to_owned())),
            StorePlace::Gcs { .. } => return Err(Refusal::NotBuilt("stores of kind `gcs`".to_owned())),
        })
    }

    async fn sftp(&self, declared: &spec::Sftp) -> Result<SftpStore, Refusal> {
        // A key in a file is handed to ssh by its name, once it is allowed; others go through a private file.
        self.resolver.permit(&declared.identity, &declared.host)?;
        let identity = match &declared.identity {
            SecretRef::File(path) => Identity::File(path.clone()),
            other => {
                Identity::Key(self.resolver.resolve(other, &declared.host).await?.expose().to_owned().into())
            }
        };
        Ok(SftpStore::new(SftpOptions {
            host: declared.host.clone(),
            port: declared.port,
            user: declared.user.clone(),
            path: declared.path.clone(),
            host_key: declared.host_key.clone(),
            identity,
            silence: sftp::DEFAULT_SILENCE,
        })?)
    }

    /// How a declared bucket is reached, of a store or of a source.
    async fn bucket(&self, declared: &spec::S3) -> Result<S3Options, Refusal> {
        let credentials = self.access_key(declared.credentials.as_ref(), &s3_host(declared)).await?;
        Ok(S3Options {
            bucket: declared.bucket.clone(),
            region: declared.region.clone(),
            endpoint: declared.endpoint.clone(),
            prefix: declared.prefix.clone(),
            addressing: declared.addressing,
            credentials,
            silence: aws::DEFAULT_SILENCE,
        })
    }

    /// How a declared table is reached.
    async fn table(&self, declared: &spec::Dynamodb) -> Result<DynamodbOptions, Refusal> {
        let credentials = self.access_key(declared.credentials.as_ref(), &dynamodb_host(declared)).await?;
        Ok(DynamodbOptions {
            table: declared.table.clone(),
            region: declared.region.clone(),
            endpoint: declared.endpoint.clone(),
            credentials,
            silence: aws::DEFAULT_SILENCE,
        })
    }

    /// How a declared instance is reached.
    async fn instance(&self, declared: &spec::Rds) -> Result<RdsOptions, Refusal> {
        let credentials = self.access_key(declared.credentials.as_ref(), &rds_host(declared)).await?;
        Ok(RdsOptions {
            instance: declared.instance.clone(),
            region: declared.region.clone(),
            endpoint: declared.endpoint.clone(),
            credentials,
            silence: aws::DEFAULT_SILENCE,
        })
    }

    /// How a declared cluster of Atlas is reached.
    async fn cluster(&self, declared: &spec::Atlas) -> Result<AtlasOptions, Refusal> {
        let host = host_of_url(&declared.url);
        Ok(AtlasOptions {
            url: declared.url.clone(),
            project: declared.project.clone(),
            cluster: declared.cluster.clone(),
            client_id: self.resolver.resolve(&declared.account.client_id, &host).await?,
            client_secret: self.resolver.resolve(&declared.account.client_secret, &host).await?,
            tokens: self.tokens.clone(),
        })
    }

    async fn access_key(
        &self,
        declared: Option<&spec::AwsCredentials>,
        host: &str,
    ) -> Result<AwsCredentials, Refusal> {
        let Some(key) = declared else { return Ok(AwsCredentials::Environment) };
        Ok(AwsCredentials::Key {
            id: self.resolver.resolve(&key.access_key_id, host).await?.expose().to_owned(),
            secret: self.resolver.resolve(&key.secret_access_key, host).await?.expose().to_owned().into(),
        })
    }

    async fn reach(&self, reach: &AwsReach, host: &str) -> Result<ServiceOptions, Refusal> {
        Ok(ServiceOptions {
            region: reach.region.clone(),
            endpoint: reach.endpoint.clone(),
            credentials: self.access_key(reach.credentials.as_ref(), host).await?,
            silence: aws::DEFAULT_SILENCE,
        })
    }

    fn schedules(&self, fleet: &spec::Fleet) -> Arc<dyn Scheduler> {
        match &self.config.schedules {
            Schedules::Controller => self.timetable.clone(),
            Schedules::Cron { host, mail_to } => {
                let options = cron::Options {
                    folder: host.folder.clone().unwrap_or_else(|| cron::FOLDER.into()),
                    command: self.command(host),
                    mail_to: mail_to.clone(),
                    machine_zone: jiff::tz::TimeZone::system(),
                };
                Arc::new(CronFolder::new(options, fleet))
            }
            Schedules::Systemd { host, on_failure } => {
                let written = [&self.config.state_dir, &self.config.keys.dir];
                let options = systemd::Options {
                    folder: host.folder.clone().unwrap_or_else(|| systemd::FOLDER.into()),
                    command: self.command(host),
                    on_failure: on_failure.clone(),
                    write: written.into_iter().chain(&self.allow.write).cloned().collect(),
                    read: self.allow.read.clone(),
                };
                Arc::new(SystemdUnits::new(options, fleet))
            }
        }
    }

    /// Declared data folders that no restore may replace: better known before one has to.
    fn kept_data(&self, spec: &Spec) -> Vec<CannotRun> {
        let kept = spec.backups.iter().filter_map(|(name, backup)| {
            let spec::Source::Postgres(postgres) = &backup.source else { return None };
            let why = self.permit_data_dir(postgres).err()?.to_string();
            Some(CannotRun { resource: cannot_run::in_place_of(name.as_str()), why })
        });
        kept.collect()
    }

    /// Drills whose checks run a program that this host does not allow.
    fn refused_checks(&self, spec: &Spec) -> Vec<(String, Result<(), Refusal>)> {
        let of_drill = |(name, drill): (_, &spec::Drill)| {
            let programs = drill.checks.iter().filter_map(spec::DrillCheck::program);
            let refused = programs.map(|program| self.may_run(program)).find(Result::is_err)?;
            Some((format!("drill.{name}"), refused))
        };
        spec.drills.iter().filter_map(of_drill).collect()
    }

    fn command(&self, host: &Host) -> schedulers::Command {
        let running = || std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/usr/bin/backstay"));
        schedulers::Command {
            program: host.program.clone().unwrap_or_else(running),
            config: self.config.file.clone(),
            user: host.user.clone(),
        }
    }

    /// Schedules that the host's scheduler can't hold.
    fn not_held(&self, spec: &Spec) -> Vec<CannotRun> {
        let scheduler = self.scheduler(&spec.fleet);
        let not_held = spec.schedules().filter_map(|schedule| {
            let why = scheduler.can_hold(&schedule).err()?;
            let resource = cannot_run::schedule_of(schedule.backup.as_str(), schedule.kind);
            Some(CannotRun { resource, why })
        });
        not_held.collect()
    }

    async fn password(&self, server: &spec::Server) -> Result<Option<Secret>, Refusal> {
        match &server.password {
            Some(password) => Ok(Some(self.resolver.resolve(password, host_of(server)).await?)),
            None => Ok(None),
        }
    }

    /// Opens etcd's secrets, each of which may be sent to every one of its endpoints.
    async fn etcd(&self, declared: &spec::Etcd) -> Result<EtcdSource, Refusal> {
        let host = declared.endpoints.first().map(|endpoint| host_of_url(endpoint)).unwrap_or_default();
        let password = match &declared.login {
            Some(login) => Some(self.resolver.resolve(&login.password, &host).await?),
            None => None,
        };
        let key = match &declared.certificate {
            Some(certificate) => Some(self.resolver.resolve(&certificate.key, &host).await?),
            None => None,
        };
        Ok(EtcdSource::new(declared.clone(), password, key).staging_in(self.scratch.clone()))
    }
}

#[async_trait]
impl Registry for Drivers {
    fn scheduler(&self, fleet: &spec::Fleet) -> Arc<dyn Scheduler> {
        let mut scheduler = self.scheduler.lock().unwrap_or_else(PoisonError::into_inner);
        match &*scheduler {
            Some((of, scheduler)) if of == fleet => scheduler.clone(),
            _ => {
                let new = self.schedules(fleet);
                *scheduler = Some((fleet.clone(), new.clone()));
                new
            }
        }
    }

    async fn store(&self, declared: &spec::Store) -> Result<Arc<dyn Store>, Refusal> {
        let purpose = format!("{:?}", declared.place);
        if let Some((opened_for, store)) = self.opened().get(&declared.name)
            && *opened_for == purpose
        {
            return Ok(store.clone());
        }
        let store = self.connect(&declared.place).await?;
        let store = Arc::new(RetryStore::new(store, Attempts::default()));
        let store = Arc::new(LimitedStore::new(store, CALLS));
        let store: Arc<dyn Store> = Arc::new(WholeStore::new(store));
        self.opened().insert(declared.name.clone(), (purpose, store.clone()));
        Ok(store)
    }

    async fn source(&self, declared: &spec::Source) -> Result<Box<dyn Source>, Refusal> {
        self.permit(declared)?;
        Ok(match declared {
            spec::Source::Sqlite { path } => Box::new(SqliteSource::new(path.clone(), self.scratch.clone())),
            spec::Source::Files(files) => Box::new(FilesSource::new(files)?),
            spec::Source::Mysql(mysql) => {
                Box::new(MysqlSource::new(mysql.clone(), self.password(&mysql.server).await?))
            }
            spec::Source::Postgres(postgres) => {
                let source = PostgresSource::new(postgres.clone(), self.password(&postgres.server).await?)
                    .staging_in(self.scratch.clone());
                Box::new(match self.permit_data_dir(postgres) {
                    Ok(()) => source,
                    Err(refusal) => source.keep_data_folder(refusal.to_string()),
                })
            }
            spec::Source::Influxdb(influxdb) => {
                let password = self.password(&influxdb.server).await?;
                Box::new(InfluxdbSource::new(influxdb.clone(), password, self.scratch.clone())?)
            }
            spec::Source::Influxdb2(influxdb2) => {
                let host = host_of_url(&influxdb2.url);
                let token = self.resolver.resolve(&influxdb2.token, &host).await?;
                Box::new(Influxdb2Source::new(influxdb2.clone(), token, self.scratch.clone())?)
            }
            spec::Source::Dynamodb(it) => {
                Box::new(DynamodbSource::new(self.table(it).await?)?.captured_by(it.method))
            }
            spec::Source::S3(s3) => Box::new(S3Source::new(self.bucket(s3).await?)?),
            spec::Source::Redis(redis) => {
                let password = match &redis.password {
                    Some(password) => Some(self.resolver.resolve(password, &redis.host).await?),
                    None => None,
                };
                Box::new(RedisSource::new(redis.clone(), password).staging_in(self.scratch.clone()))
            }
            spec::Source::Etcd(etcd) => Box::new(self.etcd(etcd).await?),
            spec::Source::Mongodb(mongodb) => {
                Box::new(MongodbSource::new(mongodb.clone(), self.password(&mongodb.server).await?))
            }
            spec::Source::Rds(it) => Box::new(RdsSource::new(self.instance(it).await?)?),
            spec::Source::Atlas(it) => Box::new(AtlasSource::new(self.cluster(it).await?)?),
        })
    }

    async fn sandbox(&self, kind: SandboxKind, declared: &spec::Source) -> Result<Box<dyn Sandbox>, Refusal> {
        self.sandbox_of(kind, declared).await
    }

    fn may_run(&self, program: &str) -> Result<(), Refusal> {
        Ok(self.allow.check_run(program)?)
    }

    fn here(&self) -> Result<Box<dyn Remote>, Refusal> {
        Ok(Box::new(HereRemote::new(self.allow.clone())))
    }

    async fn provisioner(
        &self,
        fleet: &FleetName,
        vm: &spec::Vm,
        templates: &Templates,
    ) -> Result<Box<dyn Provisioner>, Refusal> {
        self.machine(fleet, vm, templates).await
    }

    fn configurer(&self) -> Result<Box<dyn Configurer>, Refusal> {
        self.ansible()
    }

    async fn remote(&self, vm: &spec::Vm, running: &Running) -> Result<Box<dyn Remote>, Refusal> {
        self.ssh(vm, running).await
    }

    async fn switch(&self, traffic: &Traffic) -> Result<Box<dyn Switch>, Refusal> {
        self.permit_traffic(traffic)?;
        let settings = |error: SwitchError| Refusal::Settings(error.to_string());
        match &traffic.led_by {
            LedBy::Dns(record, server) => {
                let secret = self.resolver.resolve(&server.secret, &server.server).await?;
                let switch = DnsSwitch::new(&traffic.name, record.clone(), server.clone(), secret);
                Ok(Box::new(switch.map_err(settings)?))
            }
            LedBy::Route53(record, zone) => {
                let options = self.reach(&zone.reach, &route53_host(&zone.reach)).await?;
                let switch = Route53Switch::new(&options, record.clone(), zone.clone());
                Ok(Box::new(switch.map_err(settings)?))
            }
            LedBy::LoadBalancer(balancer) => {
                let options = self.reach(&balancer.reach, &balancer_host(&balancer.reach)).await?;
                let switch = LoadBalancerSwitch::new(&options, balancer.forwards.clone());
                Ok(Box::new(switch.map_err(settings)?))
            }
        }
    }

    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source> {
        Box::new(GitSource::new(mirror.path().to_owned(), prerequisites))
    }

    fn refused(&self, spec: &Spec) -> Vec<CannotRun> {
        let stores =
            spec.stores.iter().map(|(name, store)| (format!("store.{name}"), self.permit_store(store)));
        let backups =
            spec.backups.iter().map(|(name, backup)| (format!("backup.{name}"), self.permit(&backup.source)));
        let traffic = spec
            .traffic
            .iter()
            .map(|(name, traffic)| (format!("traffic.{name}"), self.permit_traffic(traffic)));
        let all = stores
            .chain(backups)
            .chain(traffic)
            .chain(self.refused_machines(spec))
            .chain(self.refused_checks(spec));
        let refused = all.filter_map(|(resource, permitted)| match permitted {
            Ok(()) | Err(Refusal::NotBuilt(_)) => None,
            Err(refusal) => Some(CannotRun { resource, why: refusal.to_string() }),
        });
        refused.chain(self.kept_data(spec)).chain(self.not_held(spec)).collect()
    }
}
