//! How the declared machines stand.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;

use crate::{
    inventory::{Machine, Observed},
    provisioners::Provisioner,
};

/// Looks at all of them, beside each other, for so long each before it counts as not seen.
pub async fn look<K: Clone + Ord>(
    machines: &BTreeMap<K, Result<Box<dyn Provisioner>, String>>,
    limit: Duration,
) -> BTreeMap<K, Observed<Machine>> {
    let looks = machines.values().map(|provisioner| async move {
        let provisioner = match provisioner {
            Ok(provisioner) => provisioner,
            Err(why) => return Observed::Unknown(why.clone()),
        };
        match tokio::time::timeout(limit, provisioner.observe()).await {
            Ok(Ok(machine)) => Observed::Known(machine),
            Ok(Err(error)) => Observed::Unknown(error.to_string()),
            Err(_) => Observed::Unknown(format!("no answer within {}s", limit.as_secs())),
        }
    });
    machines.keys().cloned().zip(join_all(looks).await).collect()
}
