//! A folder of another host, by SFTP with a key, over the `ssh` program.
//!
//! A put is written aside in `.backstay-tmp` of the folder, synced, and hard-linked into place without overwriting, by
//! the extensions `fsync@openssh.com` and `hardlink@openssh.com` of OpenSSH's server (its file PROTOCOL). The host's key
//! is pinned; passwords, agents and the user's own configuration of ssh are never used.

mod fault;
mod login;
mod objects;
mod session;
mod ssh;
mod transfer;
mod walk;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell};

use self::{fault::Fault, login::Login, session::Session};
pub use crate::ssh::Identity;

use super::{Capabilities, Held, Listed, Put, Stat, Store, StoreError, probe};
use crate::{artifact::layout::ObjectName, inventory::StoreRules};

/// How a folder of another host is reached.
#[derive(Clone)]
pub struct SftpOptions {
    /// Name or address.
    pub host: String,
    /// TCP port of its sshd.
    pub port: u16,
    /// Whom to log in as.
    pub user: String,
    /// Absolute folder on the host; it must exist.
    pub path: String,
    /// The host's public key as in `/etc/ssh/ssh_host_*_key.pub`: `ssh-ed25519 AAAA…`.
    pub host_key: String,
    /// The private key to log in with, without a passphrase.
    pub identity: Identity,
    /// Silence of the host that ends a call, and the connection with it.
    pub silence: Duration,
}

/// Silence of a host that ends a call, unless declared otherwise.
pub const DEFAULT_SILENCE: Duration = Duration::from_secs(60);

/// A folder of another host. Clones share one connection.
#[derive(Clone)]
pub struct SftpStore {
    place: Arc<Place>,
}

struct Place {
    login: Login,
    link: Mutex<Link>,
    /// How often a connection was tried.
    attempts: AtomicU64,
    /// Whether the folder was seen with the marks of a store: from then on a folder without them is another one.
    known: AtomicBool,
    /// Whether files that dead writers left were looked for.
    swept: AtomicBool,
    capabilities: OnceCell<Capabilities>,
}

/// The connection, or why there is none.
#[derive(Default)]
struct Link {
    session: Option<Arc<Session>>,
    failure: Option<Fault>,
}

impl SftpStore {
    /// The store that `options` name. Connects when it is first used; fails on options that no host could have.
    pub fn new(options: SftpOptions) -> Result<Self, StoreError> {
        let place = Place {
            login: Login::new(options)
                .map_err(|fault| fault.into_error("use", "the store's settings".into()))?,
            link: Mutex::default(),
            attempts: AtomicU64::new(0),
            known: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            capabilities: OnceCell::new(),
        };
        Ok(Self { place: Arc::new(place) })
    }

    /// Runs `effect` on a connection; one that broke is left, so that the next call makes a new one.
    async fn on_session<T, F>(
        &self,
        operation: &'static str,
        subject: Option<&ObjectName>,
        effect: impl FnOnce(Arc<Place>, Arc<Session>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let done = match self.place.session().await {
            Ok(session) => {
                let done = effect(self.place.clone(), session.clone()).await;
                if done.as_ref().is_err_and(Fault::breaks_session) {
                    self.place.leave(&session).await;
                }
                done
            }
            Err(fault) => Err(fault),
        };
        done.map_err(|fault| {
            let place = &self.place.login;
            let subject = subject.map_or_else(|| place.to_string(), |name| format!("{name} in {place}"));
            fault.into_error(operation, subject)
        })
    }
}

impl Place {
    /// The connection, made if there is none. Calls that waited while another one tried share its failure, so that a
    /// host which is away costs all of them one wait.
    async fn session(&self) -> Result<Arc<Session>, Fault> {
        let attempts = self.attempts.load(Ordering::Relaxed);
        let mut link = self.link.lock().await;
        if let Some(session) = &link.session {
            return Ok(session.clone());
        }
        if attempts != self.attempts.load(Ordering::Relaxed)
            && let Some(failure) = &link.failure
        {
            return Err(failure.clone());
        }
        let opened = Session::open(&self.login).await.map(Arc::new);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        *link = Link { session: opened.as_ref().ok().cloned(), failure: opened.as_ref().err().cloned() };
        opened
    }

    async fn leave(&self, broken: &Arc<Session>) {
        let mut link = self.link.lock().await;
        if link.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, broken)) {
            *link = Link::default();
        }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.login.folder())
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    fn set_known(&self) {
        self.known.store(true, Ordering::Relaxed);
    }

    /// Whether this is the first time that it is asked.
    fn sweeps_now(&self) -> bool {
        !self.swept.swap(true, Ordering::Relaxed)
    }
}

#[async_trait]
impl Store for SftpStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        self.on_session("put", Some(name), |place, session| async move {
            objects::put(&place, &session, name, content).await
        })
        .await
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        self.on_session("read", Some(name), |place, session| async move {
            objects::get(&place, &session, name, range, limit).await
        })
        .await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.on_session("look at", Some(name), |place, session| async move {
            objects::stat(&place, &session, name).await
        })
        .await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.on_session("list", Some(under), |place, session| async move {
            walk::list(&place, &session, under).await
        })
        .await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.on_session("delete", Some(name), |place, session| async move {
            objects::delete(&place, &session, name).await
        })
        .await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.on_session("ask for the time of", None, |place, session| async move {
            objects::now(&place, &session).await
        })
        .await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        let probe = async || {
            Ok(Capabilities {
                conditional_put: probe::conditional_put(self).await?,
                checksums: Held::Untried,
                object_lock: Held::Untried,
            })
        };
        self.place.capabilities.get_or_try_init(probe).await.copied()
    }

    async fn rules(&self, _under: &ObjectName) -> Result<StoreRules, StoreError> {
        Ok(StoreRules::default())
    }
}
