//! What the loops of several fleets show over HTTP: those that name the same address share one listener.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, runtime::Handle, sync::Mutex, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    spec::names::FleetName,
    web::{
        self, ListenError, Shown,
        fleets::{Fleets, Place, Standing},
    },
};

/// The listeners of a process, by the address that configurations name.
pub(super) struct Pages {
    fleets: Arc<Fleets>,
    listeners: Mutex<BTreeMap<SocketAddr, Listening>>,
    /// Listeners outlive the loops, which end with their own threads.
    runtime: Handle,
}

struct Listening {
    address: Option<SocketAddr>,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Pages {
    /// None yet. Must be called within the runtime that serves them.
    pub(super) fn new() -> Self {
        Self { fleets: Arc::default(), listeners: Mutex::default(), runtime: Handle::current() }
    }

    /// Shows a fleet whose loop runs; tells where.
    pub(super) async fn show(
        &self,
        fleet: &FleetName,
        listen: SocketAddr,
        shown: Shown,
    ) -> Result<Option<SocketAddr>, ListenError> {
        let mut listeners = self.listeners.lock().await;
        let address = match listeners.get(&listen) {
            Some(listening) => listening.address,
            None => {
                let listening = self.listen(listen).await?;
                let address = listening.address;
                listeners.insert(listen, listening);
                address
            }
        };
        self.fleets.set(fleet.as_str(), Place::At(listen), Standing::Runs(shown));
        Ok(address)
    }

    async fn listen(&self, listen: SocketAddr) -> Result<Listening, ListenError> {
        let (fleets, stop) = (self.fleets.clone(), CancellationToken::new());
        // A listener belongs to the runtime that it was made on.
        let listener: TcpListener = match self.runtime.spawn(web::listen(listen)).await {
            Ok(listener) => listener?,
            Err(ended) => return Err(ListenError::new(listen, ended.into())),
        };
        let address = listener.local_addr().ok();
        tracing::info!(?address, "the web page listens");
        let served = self.runtime.spawn(web::fleets::serve(listener, fleets, listen, stop.clone()));
        Ok(Listening { address, stop, served })
    }

    /// Shows why the loop of a fleet does not run; everywhere, where it is not known where it would be shown.
    pub(super) fn rests(&self, fleet: &str, config: Option<&Config>, why: String) {
        let place = match config.map(|config| &config.http) {
            None => Place::Anywhere,
            Some(None) => Place::Nowhere,
            Some(Some(http)) => Place::At(http.listen),
        };
        self.fleets.set(fleet, place, Standing::Rests(why));
    }

    /// Shows no other fleets than these any more, and ends listeners that show none.
    pub(super) async fn keep(&self, is_there: impl Fn(&str) -> bool) {
        self.fleets.keep(is_there);
        let mut listeners = self.listeners.lock().await;
        let unused: Vec<SocketAddr> =
            listeners.keys().filter(|listen| !self.fleets.are_at(**listen)).copied().collect();
        for listen in unused {
            if let Some(Listening { stop, served, .. }) = listeners.remove(&listen) {
                stop.cancel();
                // The address is free once it has ended, and how it did is no matter.
                let _ = served.await;
            }
        }
    }
}
