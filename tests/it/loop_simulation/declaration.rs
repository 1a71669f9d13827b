//! What the infra repo of the simulation declares.

use std::{collections::BTreeMap, path::PathBuf};

use backstay::artifact::Kind;

use super::fleet::{RECIPIENT, STORES};

pub fn data_path(backup: &str) -> PathBuf {
    PathBuf::from("/data").join(format!("{backup}.db"))
}

/// The declaration of a fleet.
#[derive(Clone)]
pub struct Declaration {
    pub stores: usize,
    /// Each backup with its increments' period in hours and its rules of retention.
    pub backups: BTreeMap<&'static str, (u64, &'static str)>,
    /// Makes every commit another one.
    pub note: u64,
}

impl Declaration {
    pub fn text(&self) -> String {
        let names: Vec<String> = STORES[..self.stores].iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(", ");
        let mut text = format!(
            "# {}\n[fleet]\nname = \"pavroto\"\nrecipients = [\"{RECIPIENT}\"]\n[infra]\nstores = [{names}]\n",
            self.note
        );
        for name in STORES {
            text +=
                &format!("[store.{name}]\nlocation = \"{name}\"\nlocal = {{ path = \"/stores/{name}\" }}\n");
        }
        for (name, (hours, keep)) in &self.backups {
            let path = data_path(name);
            text += &format!(
                "[policy.{name}]\nfull = {{ every = \"1d\" }}\n{} = {{ every = \"{hours}h\" }}\nkeep = {keep}\n\
                 verify = {{ metadata = \"12h\", data = \"1d\" }}\n\
                 [backup.{name}]\npolicy = \"{name}\"\nstores = [{names}]\nsqlite = {{ path = {path:?} }}\n",
                Kind::Incremental
            );
        }
        text
    }
}
