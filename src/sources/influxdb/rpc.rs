//! Whether the service that backups are taken from answers. A program that can't reach it tries again for minutes.
//!
//! A connection begins with the byte of the service, the byte of a request and the request as JSON; the metadata come
//! back behind a magic number (InfluxDB's `services/snapshotter`).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::Failure;

/// The byte of the service.
const SERVICE: u8 = 3;

/// A request for the metadata.
const METADATA: u8 = 1;

/// What the metadata begin with.
const MAGIC: [u8; 8] = 0x5959_0101_u64.to_be_bytes();

/// Asks the service at `address`, which may be silent for `patience`.
pub(super) async fn answers(address: &str, patience: Duration) -> Result<(), Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::Unreached(format!("the RPC port, {address}: {why}"));
    match timeout(patience, begun(address)).await {
        Ok(Ok(MAGIC)) => Ok(()),
        Ok(Ok(_)) => Err(failed(&"what answers is not InfluxDB's backup service")),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(failed(&format!("it was silent for {}", humantime::format_duration(patience)))),
    }
}

async fn begun(address: &str) -> std::io::Result<[u8; 8]> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(&[SERVICE, METADATA]).await?;
    connection.write_all(b"{\"Type\":1}\n").await?;
    let mut magic = [0; 8];
    connection.read_exact(&mut magic).await?;
    Ok(magic)
}
