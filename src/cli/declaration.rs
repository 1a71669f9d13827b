//! Which folder a declaration stands in, when the one that was named is not it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A controller's own configuration among the files of a folder that was taken for a declaration.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outside {
    /// The configuration, by its path in the folder.
    pub(super) configuration: String,
    /// The folder that declares a fleet, by its path in the folder, if there is one.
    pub(super) declaration: Option<PathBuf>,
}

/// Tells when `files` are not those of a declaration, but of a folder above it, such as the one that `init` makes: a
/// controller's configuration stands there. One that stands within the declaration is a fault of that instead, and
/// `None` here: a controller would read it as well.
pub(super) fn outside(files: &BTreeMap<String, Vec<u8>>) -> Option<Outside> {
    let tables = files.iter().filter_map(|(path, bytes)| {
        Some((path, std::str::from_utf8(bytes).ok()?.parse::<toml::Table>().ok()?))
    });
    let tables: Vec<(&String, toml::Table)> = tables.collect();
    let (configuration, _) = tables.iter().find(|(_, table)| is_configuration(table))?;
    let fleet = tables.iter().find(|(_, table)| table.contains_key("fleet"));
    let declaration = fleet.map(|(path, _)| Path::new(path).parent().unwrap_or(Path::new("")).to_owned());
    let within = declaration.as_ref().is_some_and(|folder| Path::new(configuration).starts_with(folder));
    (!within).then(|| Outside { configuration: (*configuration).clone(), declaration })
}

fn is_configuration(table: &toml::Table) -> bool {
    table.contains_key("state_dir") && table.contains_key("repo") && !table.contains_key("fleet")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Option<Outside> {
        outside(&files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect())
    }

    #[test]
    fn a_folder_above_the_declaration_is_told_from_the_declaration() {
        const CONFIG: &str = "state_dir = \"/s\"\n[repo]\nurl = \"/r\"\n";
        const FLEET: &str = "[fleet]\nname = \"f\"\n";
        let outside = |declaration: Option<&str>| {
            let configuration = "backstay.toml".to_owned();
            Some(Outside { configuration, declaration: declaration.map(PathBuf::from) })
        };
        let above = [("backstay.toml", CONFIG), ("infra/backup/fleet.toml", FLEET)];
        assert_eq!(found(&above), outside(Some("infra/backup")));
        assert_eq!(found(&[("backstay.toml", CONFIG)]), outside(None));
        assert_eq!(found(&[("fleet.toml", FLEET)]), None);
        assert_eq!(found(&[("fleet.toml", FLEET), ("backstay.toml", CONFIG)]), None);
        assert_eq!(found(&[("fleet.toml", FLEET), ("sub/backstay.toml", CONFIG)]), None);
        assert_eq!(found(&[("fleet.toml", "[fleet"), ("x.toml", "state_dir = 1")]), None);
    }
}
