//! The first setup of a new server, for a restore: the organization and the token that are declared, so that what is declared reaches it.

use super::{Failure, Influxdb2Source};

/// The user that a setup must make. Nobody knows its password.
const USER: &str = "backstay";

/// Sets the server up where nobody did yet. Returns what to tell of it.
pub(super) async fn set_up(source: &Influxdb2Source) -> Result<&'static str, Failure> {
    if !source.api.is_to_be_set_up().await? {
        return Ok("");
    }
    // The one bucket that a setup must make, and that is not wanted.
    let bucket = format!("backstay_{:016x}", rand::random::<u64>());
    let password = format!("{:032x}", rand::random::<u128>());
    let made = source.api.set_up(USER, &password, &bucket).await?;
    source.api.remove(&made).await?;
    Ok(
        "; the server was new, and set up with the declared organization and token: its user `backstay` gets a password by \
        `influx user password --name backstay`",
    )
}
