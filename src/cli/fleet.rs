//! Which fleets a command is about: that of a configuration, one or all of a folder of them.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::Serialize;

use super::{Output, exit::Exit, names, terminal::Terminal};
use crate::{
    config::fleets::{FleetError, Fleets, name_of},
    render::fleets::{FORMAT, Told},
    spec::names::FleetName,
};

/// What `--config` and `--fleet` say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Choice<'a> {
    config: &'a Path,
    fleet: Option<&'a FleetName>,
}

/// A choice that can't be followed: the command line is wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum WrongChoice {
    /// One is to be chosen.
    #[error(
        "failed to choose a fleet: {} is the folder of {names}; name one with --fleet or $BACKSTAY_FLEET",
        folder.display()
    )]
    OneOfSeveral { folder: PathBuf, names: String },
    /// There is no such fleet.
    #[error("failed to find fleet {name}: {} holds no {name}.toml; {hint}", folder.display())]
    Unknown { name: FleetName, folder: PathBuf, hint: String },
    /// There is nothing to choose.
    #[error(
        "failed to choose fleet {name}: {} is one configuration and not a folder of them; name the folder with --config, \
         or leave --fleet out", config.display()
    )]
    NoFolder { name: FleetName, config: PathBuf },
}

/// What a command is about.
pub(super) enum Chosen {
    /// One fleet, by the file of its configuration.
    One(PathBuf),
    /// All of a folder.
    All(Several),
}

/// The fleets of a folder.
pub(super) struct Several {
    folder: PathBuf,
    fleets: Fleets,
}

/// What a command has to say of one fleet.
pub(super) struct Telling {
    /// For people, on stderr.
    pub(super) notes: Vec<String>,
    /// For people.
    pub(super) text: String,
    /// For programs: an object with its `format`.
    pub(super) json: String,
    /// How the command ends.
    pub(super) exit: Exit,
}

/// What a command has to say of all fleets.
#[derive(Serialize)]
struct All {
    fleets: Vec<Told<serde_json::Value>>,
}

impl<'a> Choice<'a> {
    pub(super) fn new(config: &'a Path, fleet: Option<&'a FleetName>) -> Self {
        Self { config, fleet }
    }

    /// The folder, where no fleet is named and a folder is given: of all that it will ever hold.
    pub(super) fn folder(&self) -> Option<&'a Path> {
        (self.fleet.is_none() && self.config.is_dir()).then_some(self.config)
    }

    /// The configuration of the fleet that is named, or else whatever `--config` names.
    pub(super) fn one_or_folder(&self) -> anyhow::Result<PathBuf> {
        match self.folder() {
            Some(folder) => Ok(folder.to_owned()),
            None => self.one(),
        }
    }

    /// The configuration of the one fleet that is meant. A path that is no folder is for the command to read.
    pub(super) fn one(&self) -> anyhow::Result<PathBuf> {
        match self.all()? {
            Chosen::One(config) => Ok(config),
            Chosen::All(Several { folder, fleets }) => {
                let names: Vec<&str> = fleets.by_name.keys().map(FleetName::as_str).collect();
                Err(WrongChoice::OneOfSeveral { names: names.join(", "), folder }.into())
            }
        }
    }

    /// The same, or all fleets of the folder where none is named.
    pub(super) fn all(&self) -> anyhow::Result<Chosen> {
        match (self.fleet, self.config.is_dir()) {
            (None, false) => Ok(Chosen::One(self.config.to_owned())),
            (Some(name), false) if name_of(self.config).as_ref() == Some(name) => {
                Ok(Chosen::One(self.config.to_owned()))
            }
            (Some(name), false) => {
                let (name, config) = (name.clone(), self.config.to_owned());
                Err(WrongChoice::NoFolder { name, config }.into())
            }
            (Some(name), true) => Ok(Chosen::One(self.named(name)?)),
            (None, true) => self.whole_folder(),
        }
    }

    fn whole_folder(&self) -> anyhow::Result<Chosen> {
        let folder = self.config.to_owned();
        let fleets = Fleets::read(&folder)?;
        match fleets.by_name.keys().next() {
            Some(name) if fleets.by_name.len() == 1 && fleets.misnamed.is_empty() => {
                Ok(Chosen::One(file(&folder, name)))
            }
            _ => Ok(Chosen::All(Several { folder, fleets })),
        }
    }

    fn named(&self, name: &FleetName) -> anyhow::Result<PathBuf> {
        let fleets = Fleets::read(self.config)?;
        match fleets.by_name.get(name) {
            // What is wrong with the file, the command tells that reads it.
            Some(Ok(_) | Err(FleetError::Config(_))) => Ok(file(self.config, name)),
            Some(Err(fault)) => Err(anyhow!("{fault}")),
            None => {
                let hint = names::hint(name.as_str(), fleets.by_name.keys().map(FleetName::as_str));
                Err(WrongChoice::Unknown { name: name.clone(), folder: self.config.to_owned(), hint }.into())
            }
        }
    }
}

fn file(folder: &Path, name: &FleetName) -> PathBuf {
    folder.join(format!("{name}.toml"))
}

impl Chosen {
    /// Tells what `look` finds of each fleet.
    pub(super) fn tell(
        self,
        terminal: &Terminal,
        look: impl Fn(&Path) -> anyhow::Result<Telling>,
    ) -> anyhow::Result<Exit> {
        match self {
            Chosen::One(config) => {
                let told = look(&config)?;
                told.notes.iter().for_each(|note| terminal.note(note));
                terminal.data(match terminal.output {
                    Output::Text => &told.text,
                    Output::Json => &told.json,
                })?;
                Ok(told.exit)
            }
            Chosen::All(several) => several.tell(terminal, look),
        }
    }
}

impl Several {
    /// Each fleet with its configuration, or with what is wrong with that.
    pub(super) fn each(&self) -> impl Iterator<Item = (&FleetName, anyhow::Result<PathBuf>)> {
        self.fleets.by_name.iter().map(|(name, config)| match config {
            Ok(_) => (name, Ok(file(&self.folder, name))),
            Err(fault) => (name, Err(anyhow!("{fault}"))),
        })
    }

    /// Says what is wrong with files that are no fleet's.
    pub(super) fn complain_of_others(&self, terminal: &Terminal) -> Exit {
        self.fleets.misnamed.values().for_each(|fault| terminal.error(&anyhow!("{fault}")));
        if self.fleets.misnamed.is_empty() { Exit::Done } else { Exit::Failed }
    }

    /// One after the other. What fails of one fleet is told, and the next one follows; the worst counts in the end.
    fn tell(
        &self,
        terminal: &Terminal,
        look: impl Fn(&Path) -> anyhow::Result<Telling>,
    ) -> anyhow::Result<Exit> {
        let mut worst = self.complain_of_others(terminal);
        let mut fleets = Vec::new();
        for (name, config) in self.each() {
            let told = config.and_then(|config| look(&config));
            worst = worst.min(told.as_ref().map_or(Exit::Failed, |told| told.exit));
            match terminal.output {
                Output::Text => show(name, told, terminal)?,
                Output::Json => fleets.push(listed(name, told)?),
            }
        }
        if terminal.output == Output::Json {
            terminal.json(FORMAT, &All { fleets })?;
        }
        Ok(worst)
    }
}

fn show(name: &FleetName, told: anyhow::Result<Telling>, terminal: &Terminal) -> anyhow::Result<()> {
    terminal.data(&format!("{}\n\n", terminal.stdout.strong(format!("── {name} ──"))))?;
    match told {
        Ok(told) => {
            told.notes.iter().for_each(|note| terminal.note(&format!("{name}: {note}")));
            terminal.data(&format!("{}\n", told.text))?;
        }
        Err(error) => terminal.error(&error.context(format!("fleet {name}"))),
    }
    Ok(())
}

fn listed(name: &FleetName, told: anyhow::Result<Telling>) -> anyhow::Result<Told<serde_json::Value>> {
    Ok(match told {
        Ok(told) => {
            let exit = Some(told.exit.code());
            Told { fleet: name.to_string(), exit, told: Some(serde_json::from_str(&told.json)?), error: None }
        }
        Err(error) => Told {
            fleet: name.to_string(),
            exit: Some(Exit::Failed.code()),
            told: None,
            error: Some(format!("{error:#}")),
        },
    })
}
