//! The fleets of a host: a folder with a configuration for each. They are isolated: what one of them rests on, no other
//! has or reaches.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{Config, ConfigError};
use crate::{secrets::Allowed, spec::names::FleetName};

/// What the names of configurations end in.
const SUFFIX: &str = "toml";

/// The fleets of a host, by what their configurations are called: `shop` of `shop.toml`.
#[derive(Debug)]
pub struct Fleets {
    /// Each with its configuration, or with why it can't be used.
    pub by_name: BTreeMap<FleetName, Result<Config, FleetError>>,
    /// Files whose names are no names of fleets, by these.
    pub misnamed: BTreeMap<String, FleetError>,
}

/// A folder that tells nothing of fleets.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// It can't be read.
    #[error("failed to read the fleets' configurations in {}: {reason}; check the rights of this user", folder.display())]
    Read {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// It holds no configuration.
    #[error("failed to find a fleet in {}: it holds no *.toml; put the configuration of each fleet there", .0.display())]
    Empty(PathBuf),
}

/// A fleet that can't be run.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What its configuration is called.
    #[error(
        "failed to take {} for a fleet's configuration: its name is not one of a fleet; use a-z, 0-9, `-`, `_` and `.`, \
         and then .toml", .0.display()
    )]
    Misnamed(PathBuf),
    /// It has what is another fleet's.
    #[error(
        "failed to keep fleet {fleet} apart from {other}: {mine} {place} overlaps {theirs} of {other}; give each fleet \
         folders of its own"
    )]
    Overlaps {
        /// The fleet.
        fleet: FleetName,
        /// The key of its configuration.
        mine: &'static str,
        /// The folder there.
        place: String,
        /// The other fleet.
        other: FleetName,
        /// The key of the other's.
        theirs: &'static str,
    },
    /// Its commits would reach what is another fleet's.
    #[error(
        "failed to keep fleet {fleet} apart from {other}: {list} allows {place}, and so {theirs} of {other}; allow less, or \
         move {theirs} of {other} elsewhere"
    )]
    Reaches {
        /// The fleet.
        fleet: FleetName,
        /// The list of its `[allow]`.
        list: &'static str,
        /// What is allowed there.
        place: String,
        /// The other fleet.
        other: FleetName,
        /// The key of the other's.
        theirs: &'static str,
    },
}

impl Fleets {
    /// Reads every `*.toml` of a folder, but hidden ones. A fault of one is no other one's.
    ///
    /// # Errors
    /// [`FolderError`], when the folder can't be read, or there is none.
    pub fn read(folder: &Path) -> Result<Self, FolderError> {
        Self::read_beside(folder, &BTreeMap::new())
    }

    /// The same, where fleets that run go on under the configuration that they have as long as theirs is faulty.
    ///
    /// # Errors
    /// As [`Fleets::read`].
    pub fn read_beside(folder: &Path, in_force: &BTreeMap<FleetName, Config>) -> Result<Self, FolderError> {
        let mut fleets = Self { by_name: BTreeMap::new(), misnamed: BTreeMap::new() };
        for file in files(folder).map_err(|reason| FolderError::Read { folder: folder.to_owned(), reason })? {
            match name_of(&file) {
                Some(name) => {
                    fleets.by_name.insert(name, Config::load(&file).map_err(FleetError::from));
                }
                None => {
                    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                    fleets.misnamed.insert(name, FleetError::Misnamed(file));
                }
            }
        }
        if fleets.by_name.is_empty() && fleets.misnamed.is_empty() {
            return Err(FolderError::Empty(folder.to_owned()));
        }
        fleets.keep_apart(in_force);
        Ok(fleets)
    }

    /// Every fault, of whichever fleet.
    pub fn faults(&self) -> impl Iterator<Item = &FleetError> {
        self.by_name.values().filter_map(|fleet| fleet.as_ref().err()).chain(self.misnamed.values())
    }

    /// Takes those that are not isolated from another one as faulty.
    fn keep_apart(&mut self, in_force: &BTreeMap<FleetName, Config>) {
        let effective = |(name, read): (&'_ FleetName, &Result<Config, FleetError>)| {
            let config = read.as_ref().ok().or_else(|| in_force.get(name))?;
            Some((name.clone(), Reach::of(config)))
        };
        let all: Vec<(FleetName, Reach)> = self.by_name.iter().filter_map(effective).collect();
        for one in &all {
            let fault = all.iter().filter(|other| other.0 != one.0).find_map(|other| fault(one, other));
            if let (Some(fault), Some(read @ Ok(_))) = (fault, self.by_name.get_mut(&one.0)) {
                *read = Err(fault);
            }
        }
    }
}

/// The configurations in a folder, in the order of their names.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The fleet that a configuration is called after.
pub fn name_of(file: &Path) -> Option<FleetName> {
    file.file_stem()?.to_str()?.parse().ok()
}

/// What a fleet has and what its commits reach, as they really lie on the disk.
struct Reach {
    own: Vec<(&'static str, PathBuf)>,
    allowed: Vec<(&'static str, PathBuf)>,
}

impl Reach {
    fn of(config: &Config) -> Self {
        let allow = &config.allow;
        let secrets = allow.secrets.iter().filter_map(|allowance| match &allowance.secret {
            Allowed::Path(path) => Some(path),
            Allowed::Variable(_) => None,
        });
        let allowed = (allow.read.iter().map(|path| ("allow.read", path)))
            .chain(allow.write.iter().map(|path| ("allow.write", path)))
            .chain(secrets.map(|path| ("allow.secrets", path)));
        Self {
            own: vec![("state_dir", real(&config.state_dir)), ("keys.dir", real(&config.keys.dir))],
            allowed: allowed.map(|(list, path)| (list, real(path))).collect(),
        }
    }
}

/// Why `one` is not isolated from `other`, if so.
fn fault((fleet, one): &(FleetName, Reach), (other, others): &(FleetName, Reach)) -> Option<FleetError> {
    let met = |place: &Path| others.own.iter().find(|(_, own)| overlap(place, own)).map(|(key, _)| *key);
    let (fleet, other) = (fleet.clone(), other.clone());
    if let Some((mine, place, theirs)) = first(&one.own, met) {
        return Some(FleetError::Overlaps { fleet, mine, place, other, theirs });
    }
    let (list, place, theirs) = first(&one.allowed, met)?;
    Some(FleetError::Reaches { fleet, list, place, other, theirs })
}

fn first(
    places: &[(&'static str, PathBuf)],
    met: impl Fn(&Path) -> Option<&'static str>,
) -> Option<(&'static str, String, &'static str)> {
    places.iter().find_map(|(key, place)| Some((*key, place.display().to_string(), met(place)?)))
}

fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// A path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let real = path.ancestors().find_map(|there| {
        let missing = path.strip_prefix(there).ok()?;
        // To join nothing would add a slash.
        let real = there.canonicalize().ok()?;
        Some(if missing.as_os_str().is_empty() { real } else { real.join(missing) })
    });
    real.unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Fleets of these names, each with what its configuration says besides the infra repo.
    fn fleets(texts: &[(&str, &str)]) -> (tempfile::TempDir, Fleets) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink(dir.path().join("real"), dir.path().join("link")).unwrap();
        for (name, text) in texts {
            fs::write(dir.path().join(name), format!("repo.url = \"/srv/infra.git\"\n{text}\n")).unwrap();
        }
        let fleets = Fleets::read(dir.path()).unwrap();
        (dir, fleets)
    }

    fn own(name: &str) -> String {
        format!("state_dir = \"state/{name}\"\nkeys.dir = \"keys/{name}\"")
    }

    fn faulty(texts: &[(&str, &str)]) -> Vec<String> {
        fleets(texts).1.faults().map(ToString::to_string).collect()
    }

    #[test]
    fn each_configuration_is_a_fleet_and_hidden_ones_and_other_files_are_none() {
        let texts = [("shop.toml", own("shop")), ("site.toml", own("site")), (".site.toml", "?".into())];
        let mut texts: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
        texts.push(("README.md", "?"));
        let (_dir, fleets) = fleets(&texts);
        assert_eq!(fleets.faults().count(), 0);
        assert_eq!(fleets.by_name.keys().map(FleetName::as_str).collect::<Vec<_>>(), ["shop", "site"]);
    }

    #[test]
    fn a_fault_of_one_is_no_other_ones() {
        let (_dir, fleets) =
            fleets(&[("shop.toml", &own("shop")), ("site.toml", "state_dir = 1"), ("My Site.toml", "")]);
        assert!(fleets.by_name["shop"].is_ok());
        assert!(matches!(fleets.by_name["site"], Err(FleetError::Config(_))));
        assert!(matches!(fleets.misnamed.get("My Site.toml"), Some(FleetError::Misnamed(_))));
    }

    #[test]
    fn a_folder_without_a_configuration_or_without_rights_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Fleets::read(dir.path()), Err(FolderError::Empty(_))));
        assert!(matches!(Fleets::read(&dir.path().join("none")), Err(FolderError::Read { .. })));
    }

    #[test]
    fn fleets_that_share_a_state_directory_or_keys_are_both_refused_and_others_are_not() {
        for (one, other, key) in [
            (
                "state_dir = \"real/s\"\nkeys.dir = \"a\"",
                "state_dir = \"link/s\"\nkeys.dir = \"b\"",
                "state_dir",
            ),
            (
                "state_dir = \"real/s\"\nkeys.dir = \"a\"",
                "state_dir = \"real/s/t\"\nkeys.dir = \"b\"",
                "state_dir",
            ),
            ("state_dir = \"s\"\nkeys.dir = \"real\"", "state_dir = \"t\"\nkeys.dir = \"link\"", "keys.dir"),
            ("state_dir = \"s\"\nkeys.dir = \"a\"", "state_dir = \"t\"\nkeys.dir = \"s/keys\"", "keys.dir"),
        ] {
            let faults = faulty(&[("a.toml", one), ("b.toml", other), ("c.toml", &own("c"))]);
            assert_eq!(faults.len(), 2, "{faults:?}");
            assert!(faults.iter().any(|fault| fault.contains(&format!("{key} "))), "{faults:?}");
        }
    }

    #[test]
    fn a_fleet_whose_commits_reach_anothers_keys_or_state_is_refused_and_the_other_is_not() {
        for allow in [
            "allow.read = [\"keys\"]",
            "allow.write = [\"state/b/mirror.git\"]",
            "allow.secrets = [{ path = \"keys/b\", hosts = [\"h\"] }]",
        ] {
            let (_dir, fleets) =
                fleets(&[("a.toml", &format!("{}\n{allow}", own("a"))), ("b.toml", &own("b"))]);
            assert!(matches!(&fleets.by_name["a"], Err(FleetError::Reaches { .. })), "{allow}");
            assert!(fleets.by_name["b"].is_ok(), "{allow}");
        }
        let own_keys = format!("{}\nallow.read = [\"keys/a\", \"/srv\"]", own("a"));
        assert_eq!(faulty(&[("a.toml", &own_keys), ("b.toml", &own("b"))]), [""; 0]);
    }
}
