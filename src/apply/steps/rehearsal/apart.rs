//! Whether what a drill would restore into is apart from everything that people work with, whatever the declaration, a template or a name
//! server says.

use std::net::{IpAddr, SocketAddr};

use futures::future::join_all;
use tokio::net::lookup_host;

use crate::{
    apply::{
        executor::Failure,
        world::{World, stalled},
    },
    inventory::{Machine, Observed},
    spec::Endpoint,
};

/// The port of SSH where none is declared.
const SSH_PORT: u16 = 22;

/// Where people's work is.
pub(super) struct Work {
    /// Where it listens.
    places: Vec<SocketAddr>,
    /// The machines that run, by whatever port.
    machines: Vec<IpAddr>,
}

impl Work {
    /// All that is declared or was found.
    pub(super) async fn of(world: &World) -> Self {
        let listening: Vec<(String, u16)> = world
            .spec
            .backups
            .values()
            .flat_map(|backup| backup.source.places())
            .map(|place| (place.host().to_owned(), place.port()))
            .collect();
        let (mut places, machines) = tokio::join!(found(listening), found(machines(world)));
        places.extend(&machines);
        let machines = machines.iter().map(SocketAddr::ip).collect();
        Self { places, machines }
    }

    /// The address of a place; refuses one that is theirs. `is_said`: by whoever declared it, port by port; what the maker of a machine tells of its
    /// address must be no address of any other machine.
    pub(super) async fn refuse(&self, place: &Endpoint, is_said: bool) -> Result<SocketAddr, Failure> {
        let found = addresses(place.host(), place.port()).await;
        let found = found
            .map_err(|why| stalled(format!("failed to find {place}, where a drill would restore: {why}")))?;
        let is_work = |address: &SocketAddr| {
            self.places.contains(address) || !is_said && self.machines.contains(&address.ip())
        };
        match found.iter().find(|address| is_work(address)) {
            Some(address) => Err(stalled(format!(
                "failed to use {place}: that is {address}, where people work; see the stand-in's `reach` and `ssh`, and \
                 what its template says of its address"
            ))),
            None => found.first().copied().ok_or_else(|| stalled(format!("failed to find {place}"))),
        }
    }
}

/// Where the machines are logged in to, as it is declared and as it was found.
fn machines(world: &World) -> Vec<(String, u16)> {
    let ssh = world.spec.vms.values().filter_map(|vm| vm.ssh.as_ref());
    let declared = ssh.filter_map(|ssh| Some((ssh.host.clone()?, ssh.port.unwrap_or(SSH_PORT))));
    let seen = world.inventory.machines.values().filter_map(|machine| match machine {
        Observed::Known(Machine::Running(running)) => {
            running.address.as_ref().map(|address| (address.host.clone(), address.port))
        }
        _ => None,
    });
    declared.chain(seen).collect()
}

/// All of their addresses. What has none is nowhere.
async fn found(places: Vec<(String, u16)>) -> Vec<SocketAddr> {
    let looks = places.iter().map(|(host, port)| addresses(host, *port));
    join_all(looks).await.into_iter().flat_map(Result::unwrap_or_default).collect()
}

async fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found = lookup_host((host, port)).await.map_err(|error| error.to_string())?;
    // An IPv4 address is itself in an IPv6 one too.
    let found: Vec<SocketAddr> =
        found.map(|address| SocketAddr::new(address.ip().to_canonical(), address.port())).collect();
    if found.is_empty() { Err("nothing tells its address".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_anybody_s_place_is_refused_however_it_is_called() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let work =
            Work { places: vec![address("127.0.0.1:3306")], machines: vec![address("192.0.2.7:22").ip()] };
        let refused =
            async |place: &str, is_said: bool| work.refuse(&place.parse().unwrap(), is_said).await.is_err();
        for is_said in [true, false] {
            assert!(refused("127.0.0.1:3306", is_said).await);
            assert!(refused("[::ffff:127.0.0.1]:3306", is_said).await);
            assert!(refused("localhost:3306", is_said).await);
            assert!(!refused("127.0.0.1:3307", is_said).await);
            assert!(!refused("192.0.2.8:3306", is_said).await);
        }
        // A forward of the same host leads elsewhere; an address that a machine has is that machine's.
        assert!(!refused("192.0.2.7:43306", true).await);
        assert!(refused("192.0.2.7:43306", false).await);
        assert!(refused("no-such-host.invalid:1", true).await);
    }
}
