//! Provisioners: what makes the declared machines, and what configures them. Three traits, each with its conformance.
//!
//! ```text
//! Provisioner   makes a machine, removes it, tells how it stands
//! Configurer    runs playbooks on machines
//! Remote        runs programs on one
//! ```

pub mod ansible;
pub mod cloudformation;
pub mod here;
pub mod libvirt;
pub mod login;
pub mod ssh;
pub mod terraform;

use std::{collections::BTreeMap, path::Path, time::Duration};

use async_trait::async_trait;

use crate::{
    inventory::{Machine, PreviewMark, Running},
    plan::by_hand::MadeByHand,
    spec::{
        Vm,
        names::{DrillName, VmName},
    },
    stores::Class,
};

/// Hears what is going on, a line at a time, for people.
pub type Said<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// What makes one declared machine.
///
/// What drivers must meet:
/// - [`Provisioner::observe`] changes nothing. It answers [`Machine::Gone`] only where whoever would know says so: an answer that
///   can't be had is an error, never a machine that is gone.
/// - [`Provisioner::preview`] changes nothing that lasts, and tells everything that [`Provisioner::up`] would do. What it has others make
///   for that bears the mark in its name, so that [`Provisioner::clear_preview`] finds what is left of one that was cut off; that
///   removes nothing else, and is done when nothing is left.
/// - [`Provisioner::by_hand`] asks nobody: what it tells rests on what is declared alone. It holds no secret, and whoever types it
///   gets a machine that this provisioner knows for its own, as far as its state is anywhere but on this host.
/// - [`Provisioner::up`] makes a machine where there is none; where something of it is there already it is an error, and nothing is
///   changed. It returns once the machine runs. What fails half-way is an error that says what is left; `down` removes that.
/// - [`Provisioner::down`] removes the machine with its own disks, and nothing else: never a base image, a network, or another's. It
///   is done when nothing is left; where nothing was there it is done at once.
/// - Both bound every wait, tell of each stage as it comes, and leave nothing running when they are dropped.
#[async_trait]
pub trait Provisioner: Send + Sync {
    /// How the machine stands.
    async fn observe(&self) -> Result<Machine, ProvisionError>;

    /// What making it would do, a line for each part.
    async fn preview(&self, mark: &PreviewMark) -> Result<Vec<String>, ProvisionError>;

    /// Removes what a preview under this mark left, which nobody is at any more.
    async fn clear_preview(&self, _mark: &PreviewMark, _said: Said<'_>) -> Result<(), ProvisionError> {
        Ok(())
    }

    /// How a person makes it without Backstay, with files that lie in `folder`.
    async fn by_hand(&self, folder: &str) -> Result<MadeByHand, ProvisionError>;

    /// Makes it.
    async fn up(&self, said: Said<'_>) -> Result<Running, ProvisionError>;

    /// Removes it.
    async fn down(&self, said: Said<'_>) -> Result<(), ProvisionError>;
}

/// A playbook with the machines that it may reach.
#[derive(Clone, Copy)]
pub struct Play<'a> {
    /// The infra repo's files as the revision has them.
    pub tree: &'a Path,
    /// The playbook's path in it.
    pub playbook: &'a str,
    /// The hosts to limit the run to.
    pub limit: Option<&'a str>,
    /// The inventory's path in the tree; one of `machines` is made when `None`.
    pub inventory: Option<&'a str>,
    /// The machines that are there.
    pub machines: &'a BTreeMap<VmName, (Vm, Running)>,
    /// The drill that it is run for, which reaches nothing but those machines: this host neither.
    pub drill: Option<&'a DrillName>,
}

/// What a playbook did on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostResult {
    /// Tasks that held already, or were made to.
    pub ok: u64,
    /// Tasks that changed something.
    pub changed: u64,
    /// Tasks that failed, those that could not reach the host among them.
    pub failed: u64,
}

/// What runs playbooks.
///
/// What drivers must meet: `Ok` only when the run ended well on every host that it was meant for, and on at least one. Nothing is
/// taken from the configuration of whoever runs Backstay; the playbook's own folder is the tree's.
#[async_trait]
pub trait Configurer: Send + Sync {
    /// Runs a playbook to its end.
    async fn run(
        &self,
        play: &Play<'_>,
        said: Said<'_>,
    ) -> Result<BTreeMap<String, HostResult>, ProvisionError>;
}

/// What runs programs on one machine.
///
/// What drivers must meet: the machine's key is pinned, and a machine with another one is never talked to. Arguments reach the
/// program as they are. `Ok` only when it exited 0.
#[async_trait]
pub trait Remote: Send + Sync {
    /// Waits until programs can be run there.
    async fn wait(&self, within: Duration) -> Result<(), ProvisionError>;

    /// Runs a program to its end; the end of what it printed.
    async fn run(&self, command: &[String], within: Duration) -> Result<String, ProvisionError>;
}

/// What failed in making, configuring or reaching a machine. Complete: what, why, what to do next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProvisionError {
    /// What is to be done about it.
    pub class: Class,
    /// For people.
    pub message: String,
}

impl ProvisionError {
    /// What a person must see to.
    pub fn stalled(message: impl Into<String>) -> Self {
        Self { class: Class::Stalled, message: message.into() }
    }

    /// What may go another way the next time.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { class: Class::Retry, message: message.into() }
    }
}
