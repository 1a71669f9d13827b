//! Objects that try a store out. They live in a folder that no fleet can have, and are removed again.

use crate::artifact::layout::ObjectName;

/// The folder of probes: fleets' names never begin with `_`.
pub const PROBES: &str = "_probe";

/// A new name for one probe.
pub fn probe_name() -> ObjectName {
    let name = format!("{PROBES}/{:016x}", rand::random::<u64>());
    ObjectName::parse(&name).expect("hexadecimal digits below a plain folder are a name")
}
