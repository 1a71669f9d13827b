//! Ports for servers. The kernel gives each connection a port for its own end; it must never be one that a server is about to
//! listen on: whoever waits for that server by connecting to it may even get that very port, and talk to itself.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The lowest of them, far from those that well-known servers have.
const LOWEST: u16 = 20_000;

/// The lowest port that the kernel gives to connections (`ip_local_port_range`, ip-sysctl.rst of the kernel).
static KERNELS: LazyLock<u16> = LazyLock::new(|| {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").expect("/proc is mounted");
    range.split_whitespace().next().and_then(|lowest| lowest.parse().ok()).expect("it is two numbers")
});

/// Each process begins elsewhere.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(7919)));

/// A port that nothing listens on, that no connection gets, and that no other test is given.
pub fn free_port() -> u16 {
    let number = KERNELS.checked_sub(LOWEST).filter(|number| *number >= 1000);
    let number = u32::from(number.expect("there are ports below those of connections"));
    let next = || LOWEST + (NEXT.fetch_add(1, Ordering::Relaxed) % number) as u16;
    let free = (0..number).map(|_| next()).find(|port| is_free(*port));
    free.expect("a port of the loopback interface is free")
}

fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}
