//! Objects that try a store out. They live in a folder that no fleet can have, and are removed again.

use super::{Held, Put, Store, StoreError};
use crate::artifact::layout::ObjectName;

/// The folder of probes: fleets' names never begin with `_`.
pub const PROBES: &str = "_probe";

/// A new name for one probe.
pub fn probe_name() -> ObjectName {
    let name = format!("{PROBES}/{:016x}", rand::random::<u64>());
    ObjectName::parse(&name).expect("hexadecimal digits below a plain folder are a name")
}

/// Tries whether a second put of a name leaves the first one's content.
pub async fn conditional_put(store: &dyn Store) -> Result<Held, StoreError> {
    let (name, first) = (probe_name(), "first");
    store.put_if_absent(&name, first.into()).await?;
    let second = store.put_if_absent(&name, "second".into()).await;
    let kept = store.get(&name, None, 64).await;
    store.delete(&name).await?;
    Ok(if second? == Put::Existed && kept? == first { Held::Yes } else { Held::No })
}
