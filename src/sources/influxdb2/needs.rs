//! What a token lacks for captures.

use super::{Failure, Influxdb2Source};
use crate::sources::Lack;

/// Asks for what every capture begins with, which the server gives to operator tokens only; nothing of it is read.
pub(super) async fn lacks(source: &Influxdb2Source) -> Result<Vec<Lack>, Failure> {
    match source.api.metadata().await {
        Ok(_) => Ok(Vec::new()),
        Err(Failure::Unauthorized(why)) => {
            let organization = source.api.organization_name();
            Ok(vec![Lack::error(
                format!("the token is no operator token, and the server gives backups to no other: {why}"),
                format!(
                    "influx auth create --operator --org '{}' --description backstay",
                    organization.replace('\'', r"'\''")
                ),
            )])
        }
        Err(failure) => Err(failure),
    }
}
