//! Machines, as what makes them tells of them.

use serde::Serialize;

/// A declared machine, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Machine {
    /// Nothing of it is there.
    Gone,
    /// It runs.
    Running(Running),
    /// Something of it is there, and it does not run.
    Broken {
        /// How it stands.
        why: String,
    },
}

/// A machine that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Running {
    /// Where it is reached, if that is known.
    pub address: Option<MachineAddress>,
    /// The public key that it was made with (`ssh-ed25519 AAAA…`), if it was.
    pub host_key: Option<String>,
    /// How it differs from what is declared, for people; empty where it does not.
    pub drift: Vec<String>,
}

/// Where a machine is reached by SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MachineAddress {
    /// Name or address.
    pub host: String,
    /// The port of SSH.
    pub port: u16,
}
