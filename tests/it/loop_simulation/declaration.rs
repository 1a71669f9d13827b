//! What the infra repo of the simulation declares.

use std::{collections::BTreeMap, path::PathBuf};

use backstay::{
    artifact::Kind,
    spec::names::{BackupName, FolderName},
};

use super::fleet::{RECIPIENT, STORES};

/// The folder of a backup in the stores: what it was called at first, before any dash.
pub fn folder_of(backup: &BackupName) -> FolderName {
    let first = backup.as_str().split('-').next().unwrap_or_default();
    first.parse().unwrap()
}

pub fn data_path(backup: &str) -> PathBuf {
    PathBuf::from("/data").join(format!("{backup}.db"))
}

/// The declaration of a fleet.
#[derive(Clone)]
pub struct Declaration {
    pub stores: usize,
    /// Each backup, by its folder, with its increments' period in hours and its rules of retention.
    pub backups: BTreeMap<&'static str, (u64, &'static str)>,
    /// How often each was renamed.
    pub renames: BTreeMap<&'static str, u32>,
    /// Makes every commit another one.
    pub note: u64,
}

impl Declaration {
    /// What the backup of a folder is called now.
    pub fn name(&self, folder: &str) -> String {
        nth_name(folder, self.renames.get(folder).copied().unwrap_or_default())
    }

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
        for (folder, (hours, keep)) in &self.backups {
            let (path, name) = (data_path(folder), self.name(folder));
            for number in 0..self.renames.get(folder).copied().unwrap_or_default() {
                let (old, new) = (nth_name(folder, number), nth_name(folder, number + 1));
                text += &format!("[moved.{old}]\nto = {new:?}\n");
            }
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

fn nth_name(folder: &str, renames: u32) -> String {
    match renames {
        0 => folder.to_owned(),
        number => format!("{folder}-{number}"),
    }
}
