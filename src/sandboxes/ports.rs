//! Ports of the loopback interface, for servers that listen on no socket.

use std::net::{Ipv4Addr, TcpListener};

use super::SandboxError;

/// Ports that nobody listens on, each another.
pub(super) fn free<const N: usize>() -> Result<[u16; N], SandboxError> {
    // All at once: so that they differ.
    let held: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(SandboxError::cannot)?;
    let mut ports = [0; N];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().map_err(SandboxError::cannot)?.port();
    }
    Ok(ports)
}
