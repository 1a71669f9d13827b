//! Drivers that come to a halt where a test wants it, and go on when the test says so.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use backstay::{
    artifact::layout::ObjectName,
    drivers::{Drivers, Refusal, Registry},
    git::{Mirror, Tips},
    inventory::StoreRules,
    plan::CannotRun,
    reconcile::Controller,
    schedulers::Scheduler,
    sources::{CaptureRequest, Captured, Place, Probe, Restored, Sink, Source, SourceError},
    spec::{self, Spec},
    stores::{Capabilities, Listed, Put, Stat, Store, StoreError},
};
use bytes::Bytes;
use jiff::Timestamp;
use tokio::{io::AsyncRead, sync::watch};

/// What is shut, by a part of the name of what comes there; and whether somebody waits at it.
#[derive(Clone, Default)]
pub struct Gates(Arc<Mutex<BTreeMap<&'static str, watch::Sender<Gate>>>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Shut,
    Reached,
    Open,
}

impl Gates {
    /// Shuts the gate for whatever has `part` in its name: a source's file, `store/object`, or `list of store`.
    pub fn shut(&self, part: &'static str) {
        self.0.lock().unwrap().insert(part, watch::Sender::new(Gate::Shut));
    }

    pub fn open(&self, part: &'static str) {
        self.0.lock().unwrap()[part].send_replace(Gate::Open);
    }

    /// Waits until somebody stands at the gate.
    pub async fn reached(&self, part: &'static str) {
        let mut gate = self.0.lock().unwrap()[part].subscribe();
        let reached = gate.wait_for(|gate| *gate == Gate::Reached);
        let in_time = tokio::time::timeout(std::time::Duration::from_secs(60), reached).await;
        assert!(in_time.is_ok(), "nobody came to {part}");
    }

    async fn pass(&self, name: &str) {
        let gate = {
            let gates = self.0.lock().unwrap();
            let found = gates.iter().find(|(part, _)| name.contains(**part));
            found.map(|(_, gate)| gate.clone())
        };
        let Some(gate) = gate else { return };
        gate.send_if_modified(|gate| {
            let shut = *gate == Gate::Shut;
            if shut {
                *gate = Gate::Reached;
            }
            shut
        });
        // It ends at the latest with the test, which holds the sender.
        let _ = gate.subscribe().wait_for(|gate| *gate == Gate::Open).await;
    }

    /// A controller on its usual drivers behind these gates.
    pub fn before(&self, controller: Controller) -> Controller {
        let (config, keys) = (controller.config(), controller.keys());
        let inner = Drivers::new(config.clone(), keys.identities().to_vec(), controller.state());
        controller.on(Arc::new(Gated { inner, gates: self.clone() }))
    }
}

struct Gated {
    inner: Drivers,
    gates: Gates,
}

#[async_trait]
impl Registry for Gated {
    fn scheduler(&self, fleet: &spec::Fleet) -> Arc<dyn Scheduler> {
        self.inner.scheduler(fleet)
    }

    async fn store(&self, declared: &spec::Store) -> Result<Arc<dyn Store>, Refusal> {
        let inner = self.inner.store(declared).await?;
        Ok(Arc::new(GatedStore { inner, name: declared.name.to_string(), gates: self.gates.clone() }))
    }

    async fn source(&self, declared: &spec::Source) -> Result<Box<dyn Source>, Refusal> {
        let inner = self.inner.source(declared).await?;
        Ok(Box::new(GatedSource { inner, name: format!("{declared:?}"), gates: self.gates.clone() }))
    }

    fn infra(&self, mirror: &Mirror, prerequisites: Option<Tips>) -> Box<dyn Source> {
        self.inner.infra(mirror, prerequisites)
    }

    fn refused(&self, spec: &Spec) -> Vec<CannotRun> {
        self.inner.refused(spec)
    }
}

struct GatedStore {
    inner: Arc<dyn Store>,
    name: String,
    gates: Gates,
}

#[async_trait]
impl Store for GatedStore {
    async fn put_if_absent(&self, name: &ObjectName, content: Bytes) -> Result<Put, StoreError> {
        self.gates.pass(&format!("{}/{}", self.name, name.as_str())).await;
        self.inner.put_if_absent(name, content).await
    }

    async fn get(
        &self,
        name: &ObjectName,
        range: Option<std::ops::Range<u64>>,
        limit: u64,
    ) -> Result<Bytes, StoreError> {
        self.inner.get(name, range, limit).await
    }

    async fn stat(&self, name: &ObjectName) -> Result<Option<Stat>, StoreError> {
        self.inner.stat(name).await
    }

    async fn list(&self, under: &ObjectName) -> Result<Vec<Listed>, StoreError> {
        self.gates.pass(&format!("list of {}", self.name)).await;
        self.inner.list(under).await
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        self.inner.delete(name).await
    }

    async fn clock(&self) -> Result<Timestamp, StoreError> {
        self.inner.clock().await
    }

    async fn capabilities(&self) -> Result<Capabilities, StoreError> {
        self.inner.capabilities().await
    }

    async fn rules(&self, under: &ObjectName) -> Result<StoreRules, StoreError> {
        self.inner.rules(under).await
    }
}

struct GatedSource {
    inner: Box<dyn Source>,
    name: String,
    gates: Gates,
}

#[async_trait]
impl Source for GatedSource {
    async fn probe(&self) -> Result<Probe, SourceError> {
        self.inner.probe().await
    }

    fn stream_name(&self) -> String {
        self.inner.stream_name()
    }

    async fn capture(
        &self,
        request: &CaptureRequest<'_>,
        sink: &mut dyn Sink,
    ) -> Result<Captured, SourceError> {
        self.gates.pass(&self.name).await;
        self.inner.capture(request, sink).await
    }

    async fn restore(
        &self,
        stream: &mut (dyn AsyncRead + Send + Unpin),
        place: &Place,
    ) -> Result<Restored, SourceError> {
        self.inner.restore(stream, place).await
    }
}
